"""Every switch of the fusion model: counts, formula, independence of other clips, gradients."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.batch import Batch, Predictions
from mmpsr.config import ConfigError
from mmpsr.layers.attention.cross import CrossAttention
from mmpsr.layers.graph.gat import GAT
from mmpsr.layers.graph.ucgnn import UCGNN
from mmpsr.models.build import restore_model
from mmpsr.models.config import ModelConfig
from mmpsr.models.mcdm import MCDM, Adapter, Projector
from mmpsr.tasks import BUILTIN_TASKS, TaskSpec

PAPER_WIDTHS = {"video": 1024, "audio": 1536, "text": 1536, "behavior": 1536}
WIDTHS = {"video": 6, "audio": 5, "text": 4, "behavior": 3}
SMALL: dict[str, Any] = {"hidden_width": 16, "head_width": 8, "num_heads": 4}
MASKS = torch.tensor(list(itertools.product([False, True], repeat=4)))
PATHS: dict[str, dict[str, Any]] = {
    kind: {"linear_path": dict.fromkeys(BUILTIN_TASKS, kind)} for kind in ("fixed", "trained")
}
SWITCHES: list[dict[str, Any]] = [
    {"graph": graph, "attention": attention, "guide_bank": guide_bank, "task_projectors": task_projectors}
    for graph, attention, guide_bank, task_projectors in itertools.product(
        ["ucgnn", "gat", "none"], ["mha", "none"], [True, False], [True, False]
    )
] + [{"guide_temperature": True}, {"predictor_norm": "none"}, PATHS["fixed"], PATHS["trained"]]


def label(value: dict[str, Any]) -> str:
    return "-".join(f"{name}={setting}" for name, setting in value.items())


def create(widths: dict[str, int] = WIDTHS, **switches: Any) -> MCDM:
    torch.manual_seed(0)
    model = MCDM(widths, BUILTIN_TASKS, ModelConfig(**SMALL, **switches))
    for name, parameter in model.named_parameters():
        # Zero at the start: biases, the linear path and the temperature, whose use no test would see.
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
        if name.endswith("norm.weight"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    for standardizer in model.standardizers.values():
        nn.init.normal_(standardizer.mean)
        nn.init.uniform_(standardizer.std, 0.5, 2.0)
    return model.eval()


def features(num_clips: int = 16, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(num_clips, width, generator=generator) for name, width in WIDTHS.items()}


def joined(predictions: Predictions) -> Tensor:
    return torch.cat([predictions.of(task) for task in BUILTIN_TASKS], dim=1)


# ---------------------------------------------------------------------------------------------------- parameter counts


def without(whole: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in whole.items() if key != name}


@pytest.mark.parametrize(
    ("switches", "absent", "expected"),
    [
        ({}, "", 9_753_998),
        ({"task_projectors": False}, "", 8_158_222),
        ({"graph": "none"}, "", 8_703_374),
        ({"attention": "none"}, "", 6_602_126),
        ({"guide_bank": False}, "", 9_746_830),
        ({}, "video", 8_965_262),
        ({}, "audio", 8_703_118),
        ({}, "text", 8_703_118),
        ({}, "behavior", 8_703_118),
        ({}, "emotion", 7_899_198),
        ({}, "personality", 7_903_327),
        ({}, "ambivalence", 7_909_503),
        ({"graph": "gat"}, "", 9_756_046),
        # Without the weights and biases of three layer normalisations, 2 (7 + 5 + 2) = 28 fewer.
        ({"predictor_norm": "none"}, "", 9_753_970),
    ],
)
def test_published_parameter_counts(switches: dict[str, Any], absent: str, expected: int) -> None:
    tasks = {name: spec for name, spec in BUILTIN_TASKS.items() if name != absent}
    config = ModelConfig(hidden_width=512, head_width=512, num_heads=8, **switches)
    with torch.device("meta"):
        model = MCDM(without(PAPER_WIDTHS, absent), tasks, config)
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == expected


def test_a_task_of_one_output_is_predicted_and_learns() -> None:
    tasks = {"interview": TaskSpec(kind="regression", classes=("interview",), loss="mae", metrics=("mean_accuracy",))}
    torch.manual_seed(0)
    model = MCDM(WIDTHS, tasks, ModelConfig(**SMALL, guide_bank=False))
    batch = Batch(features(), torch.ones(16, 4, dtype=torch.bool))
    scores = model(batch).of("interview")
    assert scores.shape == (16, 1)
    assert scores.std() > 0
    scores.sum().backward()
    down = model.towers["interview"].predictor[3].down.weight
    assert down.shape == (1, 1)
    assert model.projectors["text"][0].weight.grad.abs().max() > 0


def test_shared_parameters() -> None:
    with torch.device("meta"):
        model = MCDM(PAPER_WIDTHS, BUILTIN_TASKS, ModelConfig(hidden_width=512, head_width=512))
    shared = model.shared_parameters()
    assert len(shared) == len({id(parameter) for parameter in shared}) == 34
    assert sum(parameter.numel() for parameter in shared) == 4_204_032
    towers = {id(parameter) for parameter in model.towers.parameters()}
    assert not towers & {id(parameter) for parameter in shared}
    assert len(towers) + len(shared) == len(list(model.parameters()))


# ------------------------------------------------------------------------------------------------------------- formula


def projected(vector: Tensor, projector: Projector) -> Tensor:
    first, adapter = projector[0], projector[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(adapter, Adapter)
    hidden = (vector @ first.weight.T + first.bias).clamp(min=0)
    total = hidden + adapter.up((adapter.down(hidden)).clamp(min=0))
    if isinstance(adapter.norm, nn.Identity):
        return total
    deviation = total - total.mean(dim=-1, keepdim=True)
    scale = (deviation.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return deviation / scale * adapter.norm.weight + adapter.norm.bias


def mixed(nodes_MH: Tensor, layer: nn.Module) -> Tensor:
    """A graph layer over present nodes only, from the definitions."""
    count = len(nodes_MH)
    if isinstance(layer, UCGNN):
        adjacency = (torch.ones(count, count) - torch.eye(count)).to(nodes_MH) / max(count - 1, 1)
        real, imaginary = (nodes_MH @ layer.linear.weight.T).chunk(2, dim=1)
        moved = torch.matrix_exp(1j * adjacency) @ torch.complex(real, imaginary)
        return (torch.cat([moved.real, moved.imag], dim=1) + layer.bias).clamp(min=0)
    if isinstance(layer, GAT):
        hidden = nodes_MH @ layer.linear.weight.T
        pairs = [[functional.leaky_relu(layer.target @ a + layer.source @ b, 0.2) for b in hidden] for a in hidden]
        return torch.stack([torch.stack(row) for row in pairs]).softmax(dim=1) @ hidden
    return nodes_MH


def reference(model: MCDM, clip: dict[str, Tensor]) -> Tensor:
    """All predictions of one clip from its present modalities alone: no mask, no batch."""
    inputs = {k: (v - model.standardizers[k].mean) / model.standardizers[k].std for k, v in clip.items()}
    width = model.projectors["video"][0].out_features
    nodes = torch.stack([projected(inputs[k], model.projectors[k]) for k in inputs]) if inputs else torch.zeros(0)
    outputs = []
    for task, tower in model.towers.items():
        pooled = torch.zeros(width, dtype=torch.float64)
        if inputs:
            context = queries = mixed(nodes, model.graph)
            if tower.predictor is not None:
                queries = mixed(projected(projected(nodes, tower.predictor), tower.projector), tower.graph)
            if isinstance(tower.attention, CrossAttention):
                layer, attention = tower.attention, nn.MultiheadAttention(width, 4, dtype=torch.float64)
                attention.in_proj_weight.data = torch.cat([layer.query.weight, layer.key_value.weight])
                attention.in_proj_bias.data = torch.cat([layer.query.bias, layer.key_value.bias])
                attention.out_proj.load_state_dict(layer.output.state_dict())
                queries = attention(queries, context, context)[0]
            pooled = queries.mean(dim=0)
        head = tower.head[3](tower.head[0](pooled).clamp(min=0))
        parts = [head]
        if tower.guides is not None:
            cosine = tower.guides @ pooled / tower.guides.norm(dim=1) / pooled.norm().clamp(min=1e-8)
            parts.append(cosine * (tower.log_temperature.exp() if tower.log_temperature is not None else 1.0))
        regression = BUILTIN_TASKS[task].kind == "regression"
        if regression:
            parts = [1 / (1 + (-part).exp()) for part in parts]
        outputs.append(torch.stack(parts).mean(dim=0))
        if task in model.linear_paths:
            full = [inputs.get(k, torch.zeros(width, dtype=torch.float64)) for k, width in WIDTHS.items()]
            outputs[-1] = outputs[-1] + model.linear_paths[task](torch.cat(full))
            outputs[-1] = outputs[-1].clamp(0, 1) if regression else outputs[-1]
    return torch.cat(outputs)


@pytest.mark.parametrize("switches", SWITCHES, ids=label)
def test_is_the_formula_on_present_modalities_alone(switches: dict[str, Any]) -> None:
    model = create(**switches).double()
    inputs = {name: vectors.double() for name, vectors in features().items()}
    with torch.no_grad():
        found = joined(model(Batch(inputs, MASKS)))
        for clip, mask in enumerate(MASKS):
            present = {name: inputs[name][clip] for name, there in zip(WIDTHS, mask, strict=True) if there}
            torch.testing.assert_close(found[clip], reference(model, present), rtol=1e-9, atol=1e-9)


def test_personality_is_confined_without_a_temperature() -> None:
    # sigmoid(1) = 0.731059 and sigmoid(-1) = 0.268941; with a saturated head (1 + 0.731059) / 2 = 0.865529 is the
    # most, (0 + 0.268941) / 2 = 0.134471 the least.
    for bias, low, high in ((1e3, 0.634470, 0.865530), (-1e3, 0.134470, 0.365530)):
        model = create()
        model.towers["personality"].head[3].bias.data.fill_(bias)
        scores = model(Batch(features(), MASKS)).scores["personality"]
        assert scores.min() >= low
        assert scores.max() <= high
    model = create(guide_temperature=True)
    model.towers["personality"].head[3].bias.data.fill_(1e3)
    model.towers["personality"].log_temperature.data.fill_(5.0)
    assert model(Batch(features(), MASKS)).scores["personality"].max() > 0.9


def with_text_guides(guides: str, **switches: Any) -> MCDM:
    """A model whose guides for emotion and personality are points of a space of 3, of words and behaviour."""
    torch.manual_seed(3)
    points = {
        task: {name: torch.randn(poles, BUILTIN_TASKS[task].num_outputs, 3) for name in ("text", "behavior")}
        for task, poles in (("emotion", 1), ("personality", 2))
    }
    config = ModelConfig(**SMALL, guides=guides, **switches)
    model = MCDM(WIDTHS, BUILTIN_TASKS, config, guide_points=points).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("offsets", "log_temperature")):
            nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("guides", ["texts", "tied"])
@pytest.mark.parametrize("temperature", [True, False])
def test_guides_that_are_texts_stand_in_place_of_learned_ones(guides: str, temperature: bool) -> None:
    model, batch = with_text_guides(guides, guide_temperature=temperature), Batch(features(), MASKS)
    found = model(batch)
    bare = MCDM(WIDTHS, BUILTIN_TASKS, ModelConfig(**SMALL, guide_bank=False)).eval()
    assert bare.load_state_dict(model.state_dict(), strict=False).missing_keys == []
    heads = bare(batch)
    for task in ("emotion", "personality"):
        tower = model.towers[task]
        near = tower.text_guides(batch.features, MASKS)
        if temperature:
            near = near * tower.log_temperature.exp()
        near = torch.sigmoid(near) if task == "personality" else near
        torch.testing.assert_close(found.of(task), (heads.of(task) + near) / 2)
        assert tower.guides is None
    wordless = ~MASKS[:, 2] & ~MASKS[:, 3]
    assert wordless.sum() == 4
    torch.testing.assert_close(found.of("emotion")[wordless], heads.of("emotion")[wordless] / 2)
    torch.testing.assert_close(found.of("personality")[wordless], heads.of("personality")[wordless] / 2 + 0.25)
    assert model.towers["ambivalence"].text_guides is None
    assert model.towers["ambivalence"].guides.shape == (2, 16)


@pytest.mark.parametrize("guides", ["texts", "tied"])
def test_text_guides_are_restored_from_weights(guides: str) -> None:
    model, batch = with_text_guides(guides, linear_path={"emotion": "fixed"}), Batch(features(), MASKS)
    config = ModelConfig(**SMALL, guides=guides, linear_path={"emotion": "fixed"})
    again = restore_model(config, list(WIDTHS), BUILTIN_TASKS, model.state_dict())
    assert torch.equal(joined(again(batch)), joined(model(batch)))
    assert not again.sees_absence


def test_guides_of_a_bank_that_is_off_are_an_error() -> None:
    with pytest.raises(
        ValueError, match=r'guides = "tied" is of the guide bank, which guide_bank = false switches off'
    ):
        ModelConfig(guides="tied", guide_bank=False)


def test_a_task_with_a_trunk_of_its_own_is_a_model_of_its_own() -> None:
    model, batch = create(own_trunks=("emotion",), text_head=True), Batch(features(), MASKS)
    rest = MCDM(WIDTHS, without(BUILTIN_TASKS, "emotion"), shape := ModelConfig(**SMALL, text_head=True)).eval()
    assert rest.load_state_dict(model.state_dict(), strict=False).missing_keys == []
    alone = MCDM(WIDTHS, {"emotion": BUILTIN_TASKS["emotion"]}, shape).eval()
    state = {name: each for name, each in model.state_dict().items() if not name.startswith(("projectors", "graph"))}
    state = {name.replace("towers.emotion.trunk.", ""): each for name, each in state.items()}
    assert alone.load_state_dict(state, strict=False).missing_keys == []
    found = model(batch)
    torch.testing.assert_close(found.of("emotion"), alone(batch).of("emotion"))
    for task in ("personality", "ambivalence"):
        torch.testing.assert_close(found.of(task), rest(batch).of(task))
    assert (found.of("emotion") - create(text_head=True)(batch).of("emotion")).abs().max() > 0.01


def test_losses_reach_one_trunk_alone() -> None:
    model, batch = create(own_trunks=("emotion",)), Batch(features(), MASKS)
    own, shared = list(model.towers["emotion"].trunk.parameters()), model.shared_parameters()
    assert not {id(each) for each in own} & {id(each) for each in shared}
    assert [each.shape for each in own] == [each.shape for each in shared]
    model(batch).of("emotion").square().sum().backward()
    assert all(each.grad is None for each in shared)
    assert sum(float(each.grad.abs().sum()) for each in own) > 0
    model.zero_grad()
    model(batch).of("ambivalence").square().sum().backward()
    assert all(each.grad is None for each in own)
    again = restore_model(
        ModelConfig(**SMALL, own_trunks=("emotion",)), list(WIDTHS), BUILTIN_TASKS, model.state_dict()
    )
    assert torch.equal(joined(again(batch)), joined(model(batch)))


def test_a_shared_trunk_without_a_task_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"own_trunks names every task \(emotion, personality, ambivalence\)"):
        create(own_trunks=("ambivalence", "personality", "emotion"))


def test_predictions_by_kind_of_task() -> None:
    predictions = create()(Batch(features(), MASKS))
    assert {name: tuple(tensor.shape) for name, tensor in predictions.logits.items()} == {
        "emotion": (16, 7),
        "ambivalence": (16, 2),
    }
    assert {name: tuple(tensor.shape) for name, tensor in predictions.scores.items()} == {"personality": (16, 5)}


def test_every_dropout_acts_in_training_only() -> None:
    batch = Batch(features(), MASKS)
    model = create(dropout=0.5)
    plain = joined(model(batch))
    assert torch.equal(joined(model(batch)), plain)
    dropouts = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    for name, dropout in dropouts.items():
        assert dropout.p == (0.2 if "graph." in name else 0.5), name
    # Two in each of 4 + 3 * 2 projectors, one in each of 4 graph layers, 3 attentions and 3 heads.
    assert len(dropouts) == 2 * (4 + 3 * 2) + 4 + 3 + 3
    for name, dropout in dropouts.items():
        dropout.train()
        assert not torch.equal(joined(model(batch)), plain), name
        dropout.eval()
    silent = create(dropout=0.0, graph_dropout=0.0)
    assert torch.equal(joined(silent(batch)), joined(silent.train()(batch)))


@pytest.mark.parametrize("path", ["fixed", "trained"])
def test_training_starts_from_the_linear_path(path: Literal["fixed", "trained"]) -> None:
    config = ModelConfig(hidden_width=16, guide_bank=False, **PATHS[path])
    model = MCDM(WIDTHS, BUILTIN_TASKS, config).eval()
    batch = Batch(features(), torch.ones_like(MASKS))
    assert torch.equal(joined(model(batch)), torch.tensor([0.0] * 7 + [0.5] * 5 + [0.0] * 2).expand(16, 14))
    generator = torch.Generator().manual_seed(1)
    expected = []
    for task, spec in BUILTIN_TASKS.items():
        weight, bias = torch.randn(spec.num_outputs, 19, generator=generator).split([18, 1], dim=1)
        model.set_linear_path(task, weight / 4, bias.squeeze(1))
        linear = torch.cat(list(batch.features.values()), dim=1) @ weight.T / 4 + bias.T
        expected.append(linear.clamp(0, 1) if task == "personality" else linear)
    torch.testing.assert_close(joined(model(batch)), torch.cat(expected, dim=1))
    assert {parameter.requires_grad for parameter in model.linear_paths.parameters()} == {path == "trained"}
    with pytest.raises(ValueError, match="task 'emotion' has no linear path"):
        create().set_linear_path("emotion", torch.zeros(7, 18), torch.zeros(7))


@pytest.mark.parametrize(("widths", "tasks"), [({}, BUILTIN_TASKS), (WIDTHS, {})])
def test_nothing_to_model_is_an_error(widths: dict[str, int], tasks: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a model needs modalities and tasks; found "):
        MCDM(widths, tasks, ModelConfig())


def test_other_modalities_are_an_error() -> None:
    batch = Batch({"text": torch.zeros(1, 4)}, torch.ones(1, 1, dtype=torch.bool))
    message = r"takes modalities \['video', 'audio', 'text', 'behavior'\], found \['text'\]"
    with pytest.raises(ValueError, match=message):
        create()(batch)

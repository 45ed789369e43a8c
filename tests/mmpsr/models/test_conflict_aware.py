"""The conflict-aware model against its formula on one clip at a time, and what must never matter to it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmpsr.batch import Batch, Predictions
from mmpsr.config import ConfigError
from mmpsr.models.config import ConflictAwareConfig
from mmpsr.models.conflict_aware import ConflictAware, cut_windows
from mmpsr.probabilities import probabilities
from mmpsr.tasks import AMBIVALENCE, BUILTIN_TASKS
from tests.support.sequenced import SEQUENCE_WIDTHS, WIDTHS, batch_of, create

MASKS = torch.tensor(list(itertools.product([False, True], repeat=3)))
OPTIONS: list[dict[str, Any]] = [
    {}, {"guide": "none"}, {"guide": "audio", "guide_share": 0.3}, {"sequences": False},
    {"linear_path": dict.fromkeys(BUILTIN_TASKS, "trained")}, {"window": {"video": 2}, "num_windows": 1},
    {"window": {"video": 2, "text": 3}},
]  # fmt: skip


def label(value: dict[str, Any]) -> str:
    return "-".join(f"{name}={setting}" for name, setting in value.items()) or "plain"


def table(predictions: Predictions) -> Tensor:
    """All predictions side by side, as probabilities."""
    return torch.cat([probabilities(predictions.of(task), spec) for task, spec in BUILTIN_TASKS.items()], dim=1)


@pytest.mark.parametrize("num_sequences", [0, 1, 3])
@pytest.mark.parametrize("guide", ["text", "none"])
def test_parameter_counts_at_published_widths(num_sequences: int, guide: str) -> None:
    widths = {"video": 768, "audio": 768, "text": 768}
    sequences = dict(list(widths.items())[:num_sequences])
    with torch.device("meta"):
        model = ConflictAware(widths, {"ambivalence": AMBIVALENCE}, ConflictAwareConfig(guide=guide), sequences)
    h, f, k, c = 768, 6 * 768, 512, 2
    maps = 3 * h * (768 + 1) + num_sequences * h
    fusion = 2 * f + (f * 2 * f + 2 * f) + (2 * f * f + f)
    heads = [2 * width + width * k + k + k * c + c for width in ((f, h) if guide == "text" else (f,))]
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == maps + fusion + sum(heads)
    assert fusion == 84_957_696
    assert found == 89_498_116 or (num_sequences, guide) != (3, "text")
    shared = model.shared_parameters()
    assert sum(parameter.numel() for parameter in shared) == maps + fusion
    assert sum(parameter.numel() for parameter in model.task_parameters()) == sum(heads)
    assert {id(each) for each in model.last_shared_parameters()} < {id(each) for each in shared}


def normalized(values: Tensor) -> Tensor:
    deviation = values - values.mean()
    return deviation / (deviation.square().mean() + 1e-5).sqrt()


def gelu(values: Tensor) -> Tensor:
    return values * (1 + torch.erf(values / 2**0.5)) / 2


def headed(inputs: Tensor, head: Any) -> Tensor:
    hidden = normalized(inputs) * head[0].weight + head[0].bias
    return head[4].weight @ gelu(head[1].weight @ hidden + head[1].bias) + head[4].bias


def reference(model: ConflictAware, batch: Batch, clip: int) -> list[tuple[Tensor, Tensor | None]]:
    """Outputs of both heads for one clip from its present modalities alone: no mask, no padding."""
    pooled, vectors = {}, []
    for index, name in enumerate(WIDTHS):
        standardizer = model.standardizers[name]
        there = bool(batch.presence[clip, index])
        vector = (batch.features[name][clip] - standardizer.mean) / standardizer.std
        vectors.append(vector if there else torch.zeros_like(vector))
        if not there:
            continue
        elements = vector.unsqueeze(0)
        if name in model.scorers:
            values, mask = batch.sequences[name]
            standardizer = model.sequence_standardizers[name]
            elements = (values[clip, : int(mask[clip].sum())] - standardizer.mean) / standardizer.std
        mapped = [model.maps[name].weight @ element + model.maps[name].bias for element in elements]
        scores = [model.scorers[name].weight[0] @ each if name in model.scorers else torch.zeros(()) for each in mapped]
        total = sum(score.exp() for score in scores)
        pooled[name] = sum(score.exp() / total * each for score, each in zip(scores, mapped, strict=True))
    zero = torch.zeros(8, dtype=torch.float64)
    pieces = [pooled.get(name, zero) for name in WIDTHS]
    for i, j in itertools.combinations(WIDTHS, 2):
        pieces.append((pooled[i] - pooled[j]).abs() if i in pooled and j in pooled else zero)
    norm, up, _, _, down = model.fusion
    hidden = gelu(up.weight @ (normalized(torch.cat(pieces)) * norm.weight + norm.bias) + up.bias)
    fused = down.weight @ hidden + down.bias
    result = []
    for task, spec in BUILTIN_TASKS.items():
        tower, found = model.towers[task], []
        guide = None if model.auxiliary_index is None else pooled.get(model.modalities[model.auxiliary_index])
        for inputs, head in ((fused, tower.head), (guide, tower.guide_head)):
            if inputs is None:
                found.append(None)
                continue
            output = headed(inputs, head)
            output = output.sigmoid() if spec.kind == "regression" else output
            if task in model.linear_paths:
                output = output + model.linear_paths[task](torch.cat(vectors))
                output = output.clamp(0, 1) if spec.kind == "regression" else output
            found.append(output)
        result.append((found[0], found[1]))
    return result


def doubled(batch: Batch) -> Batch:
    features = {name: vectors.double() for name, vectors in batch.features.items()}
    sequences = {name: (values.double(), mask) for name, (values, mask) in batch.sequences.items()}
    return replace(batch, features=features, sequences=sequences)


@pytest.mark.parametrize("options", OPTIONS[:5], ids=label)
def test_is_the_formula_on_present_modalities_alone(options: dict[str, Any]) -> None:
    model, batch = create(**options).double(), doubled(batch_of(MASKS.repeat(3, 1)))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        predicted, trained = model(batch), model.train()(batch)
        assert not predicted.auxiliary
        assert bool(trained.auxiliary) == (model.auxiliary_index is not None)
        for clip in range(len(batch)):
            for (task, spec), (main, auxiliary) in zip(
                BUILTIN_TASKS.items(), reference(model, batch, clip), strict=True
            ):
                expected = probabilities(main, spec)
                torch.testing.assert_close(trained.of(task)[clip], main, rtol=1e-9, atol=1e-9)
                if auxiliary is not None:
                    share = model.auxiliary_share
                    expected = share * probabilities(auxiliary, spec) + (1 - share) * expected
                    torch.testing.assert_close(trained.auxiliary[task][clip], auxiliary, rtol=1e-9, atol=1e-9)
                torch.testing.assert_close(
                    probabilities(predicted.of(task)[clip], spec), expected, rtol=1e-9, atol=1e-9
                )
            if trained.auxiliary_rows is not None:
                assert bool(trained.auxiliary_rows[clip]) == (auxiliary is not None)


@torch.no_grad()
def test_pooling_by_hand() -> None:
    """Elements 1, 2 and 4 through the map 2 x; scores are log 2 times x / 2, so that weights are 2, 4 and 16 by 22."""
    config = ConflictAwareConfig(hidden_width=1, head_width=2)
    model = ConflictAware({"text": 2}, {"ambivalence": AMBIVALENCE}, config, {"text": 1}).eval()
    model.maps["text"].weight.fill_(2.0)
    model.maps["text"].bias.fill_(0.0)
    model.scorers["text"].weight.fill_(torch.tensor(2.0).log() / 2)
    values = torch.tensor([[[1.0], [2.0], [4.0], [9.0]]])
    mask = torch.tensor([[True, True, True, False]])
    shared = model.encode(
        Batch({"text": torch.zeros(1, 2)}, torch.ones(1, 1, dtype=torch.bool), sequences={"text": (values, mask)})
    )
    # (2 * 2 + 4 * 4 + 16 * 8) / 22 = 148 / 22
    torch.testing.assert_close(shared.ends[1], torch.tensor([[148 / 22]]))


@pytest.mark.parametrize("options", OPTIONS, ids=label)
@torch.no_grad()
def test_what_is_absent_or_beside_a_clip_never_matters(options: dict[str, Any]) -> None:
    model, batch = create(**options), batch_of(MASKS)
    plain = table(model(batch))
    assert torch.isfinite(plain).all()
    for fill in (7.0, 1e30, float("inf"), float("nan")):
        features = {
            name: torch.where(MASKS[:, index, None], vectors, fill)
            for index, (name, vectors) in enumerate(batch.features.items())
        }
        sequences = {
            name: (torch.where((mask & MASKS[:, list(WIDTHS).index(name), None]).unsqueeze(-1), values, fill), mask)
            for name, (values, mask) in batch.sequences.items()
        }
        assert torch.equal(table(model(replace(batch, features=features, sequences=sequences))), plain)
    emptied = {
        name: (values, mask & MASKS[:, list(WIDTHS).index(name), None])
        for name, (values, mask) in batch.sequences.items()
    }
    assert torch.equal(table(model(replace(batch, sequences=emptied))), plain)  # hidden, or not there at all
    for clip in range(len(MASKS)):
        features = {name: vectors[clip : clip + 1] for name, vectors in batch.features.items()}
        sequences = {}
        for name, (values, mask) in batch.sequences.items():
            length = int(mask[clip].sum())
            sequences[name] = values[clip : clip + 1, :length], mask[clip : clip + 1, :length]
        alone = model(Batch(features, MASKS[clip : clip + 1], sequences=sequences))
        torch.testing.assert_close(table(alone), plain[clip : clip + 1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_clip_without_elements_lacks_the_modality() -> None:
    model, batch = create(), batch_of(torch.ones(4, 3, dtype=torch.bool))
    values, mask = batch.sequences["text"]
    emptied = replace(batch, sequences={**batch.sequences, "text": (values, mask & False)})
    hidden = batch.with_presence(batch.presence & torch.tensor([True, True, False]))
    assert torch.equal(table(model(emptied)), table(model(hidden)))
    assert not torch.equal(table(model(emptied)), table(model(batch)))


@torch.no_grad()
def test_present_modalities_and_elements_matter() -> None:
    model, batch = create(), batch_of(MASKS)
    plain = table(model(batch))
    for index, name in enumerate(WIDTHS):
        if name in SEQUENCE_WIDTHS:
            values, mask = batch.sequences[name]
            changed = replace(batch, sequences={**batch.sequences, name: (values + mask[..., None], mask)})
        else:
            changed = replace(batch, features={**batch.features, name: batch.features[name] + 1})
        assert torch.equal((table(model(changed)) != plain).any(dim=1), MASKS[:, index])


def test_a_modality_alone_is_enough() -> None:
    for name in WIDTHS:
        model = create(sequences=False, widths={name: WIDTHS[name]}, guide=name)
        assert model.fusion[1].in_features == 8  # no pair, no conflict
        predictions = model(Batch({name: torch.randn(2, WIDTHS[name])}, torch.tensor([[True], [False]])))
        assert torch.isfinite(table(predictions)).all()


def test_gradients_of_clips_without_anything_are_finite() -> None:
    model = create().train()
    batch = batch_of(torch.zeros(3, 3, dtype=torch.bool))
    predictions = model(batch)
    sum(
        each.square().sum() for task in BUILTIN_TASKS for each in (predictions.of(task), predictions.auxiliary[task])
    ).backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert not (name.startswith(("maps", "scorers")) and parameter.grad.any()), name


# -------------------------------------------------------------------------------------------------------------- windows


def test_windows_by_hand() -> None:
    values = torch.arange(12.0).view(2, 6, 1)
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    # 6 elements have 4 windows of 3; floor(0.8 * 4) = 3. Two elements have one, at the start.
    found, there = cut_windows(values, mask, 3, torch.tensor([0.8, 0.8]))
    assert found[0].flatten().tolist() == [3.0, 4.0, 5.0]
    assert found[1, :2].flatten().tolist() == [6.0, 7.0]
    assert there.tolist() == [[True] * 3, [True, True, False]]
    starts = [int(cut_windows(values[:1], mask[:1], 3, torch.tensor([place]))[0][0, 0]) for place in (0.0, 0.26, 0.999)]
    assert starts == [0, 1, 3]
    found, there = cut_windows(values, mask, 9, torch.tensor([0.9, 0.0]))  # longer than all
    assert there.sum(dim=1).tolist() == [6, 2]
    assert found[0, :6].flatten().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@torch.no_grad()
def test_a_prediction_is_the_mean_over_windows() -> None:
    options = {"window": {"video": 2}, "num_windows": 4}
    model, whole, batch = create(**options), create(), batch_of(MASKS)
    assert len(set(model.places)) == 4
    values, mask = batch.sequences["video"]
    views = []
    for place in model.places:
        window = cut_windows(values, mask, 2, torch.full((len(MASKS),), place))
        views.append(table(whole(replace(batch, sequences={**batch.sequences, "video": window}))))
    torch.testing.assert_close(table(model(batch)), torch.stack(views).mean(dim=0), rtol=0, atol=1e-6)
    assert torch.equal(table(model(batch)), table(model(batch)))
    assert not torch.allclose(views[0], views[1]) or not torch.allclose(views[0], views[2])


@torch.no_grad()
def test_training_draws_a_window_for_each_clip() -> None:
    model = create(window={"video": 1}, dropout=0.0)
    one = batch_of(torch.tensor([[True, False, False]]))
    values = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 2.0, 0.0], [3.0, 0.0, 0.0]]]).repeat(60, 1, 1)
    batch = Batch(
        {name: vectors.repeat(60, 1) for name, vectors in one.features.items()},
        one.presence.repeat(60, 1),
        sequences={
            "video": (values, torch.ones(60, 3, dtype=torch.bool)),
            "text": (torch.zeros(60, 1, 2), torch.ones(60, 1, dtype=torch.bool)),
        },
    )
    found = model.train()(batch).logits["ambivalence"]
    assert len(torch.unique(found.round(decimals=4), dim=0)) == 3
    torch.manual_seed(5)
    first = model(batch).logits["ambivalence"]
    torch.manual_seed(5)
    assert torch.equal(model(batch).logits["ambivalence"], first)


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guide": "behavior"}, r"guide is 'behavior', which is not among the modalities \['video', 'audio', 'text'\]"),
        (
            {"window": {"audio": 2}},
            r"model.window names 'audio', of which no sequences are kept .* features.sequences.audio",
        ),
    ],
)
def test_names_that_are_not_there(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(**options)


def test_batches_without_what_the_model_takes() -> None:
    batch = batch_of(MASKS)
    with pytest.raises(ValueError, match=r"takes modalities \['video', 'audio', 'text'\], found \['text'\]"):
        create()(Batch({"text": torch.zeros(1, 4)}, torch.ones(1, 1, dtype=torch.bool)))
    with pytest.raises(ValueError, match=r"pools sequences of \['video', 'text'\], the batch has those of \['text'\]"):
        create()(replace(batch, sequences={"text": batch.sequences["text"]}))
    assert torch.isfinite(table(create(sequences=False)(batch))).all()  # it takes the vectors

"""Published weights under their own names: outputs against the formulas written out, and strictness."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from mmpsr.batch import Batch
from mmpsr.models.published_weights import load_published, read_published

WIDTHS = {"face": 6, "audio": 10, "text": 8, "behavior": 4}
OUTPUTS = {"emotion": 7, "personality": 5, "ah": 2}
OWN_TASK = {"emotion": "emotion", "personality": "personality", "ah": "ambivalence"}
HIDDEN, HEAD, NUM_HEADS = 8, 12, 2


def linear(name: str, width_in: int, width_out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width_out, width_in), f"{name}.bias": (width_out,)}


def projector(name: str, width_in: int, width_out: int) -> dict[str, tuple[int, ...]]:
    return {
        **linear(f"{name}.0.proj.0", width_in, width_out),
        **linear(f"{name}.1.adapter.0", width_out, width_out // 2),
        **linear(f"{name}.1.adapter.3", width_out // 2, width_out),
        f"{name}.1.layernorm.weight": (width_out,),
        f"{name}.1.layernorm.bias": (width_out,),
    }


def graph(kind: str, name: str, hidden: int) -> dict[str, tuple[int, ...]]:
    if kind == "gat":
        return {f"{name}.W.weight": (hidden, hidden), f"{name}.a": (2 * hidden, 1)}
    if kind == "ucgnn":
        conv = f"{name}.unitary.model.conv"
        return {
            f"{name}.unitary.bias": (hidden,),
            f"{conv}.multiplier": (1, hidden),
            f"{conv}.lin.weight": (hidden, hidden),
        }
    return {}


def shapes(
    kind: str,
    widths: dict[str, int] = WIDTHS,
    hidden: int = HIDDEN,
    head: int = HEAD,
    attention: bool = True,
    projectors: bool = True,
) -> dict[str, tuple[int, ...]]:
    found = {}
    for name, width in widths.items():
        found |= projector(f"modality_projectors.{name}", width, hidden)
    for task, outputs in OUTPUTS.items():
        if projectors:
            found |= graph(kind, f"graph_attns.{task}", hidden)
            found |= projector(f"predictors.{task}", hidden, outputs)
            found |= projector(f"prediction_projectors.{task}", outputs, hidden)
        if attention:
            found |= {f"cross_attns.{task}.in_proj_weight": (3 * hidden, hidden)}
            found |= {f"cross_attns.{task}.in_proj_bias": (3 * hidden,)}
            found |= linear(f"cross_attns.{task}.out_proj", hidden, hidden)
        found |= {f"guide_banks.{task}.embeddings": (outputs, hidden)}
        found |= {**linear(f"heads.{task}.0.proj.0", hidden, head), **linear(f"heads.{task}.1", head, outputs)}
    return found | graph(kind, "graph_attns.features", hidden)


def random_state(kind: str, **options: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator) / 2 for name, shape in shapes(kind, **options).items()}
    half = torch.ones(1, HIDDEN // 2)
    return {name: torch.cat([half, -half], 1) if "multiplier" in name else value for name, value in state.items()}


class Reference:
    """The published model's formulas in evaluation, in double precision, one clip at a time."""

    def __init__(self, state: dict[str, Tensor], guide_bank: bool = True) -> None:
        self.state = {name: value.double() for name, value in state.items()}
        self.guide_bank = guide_bank

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def project(self, name: str, x: Tensor) -> Tensor:
        z = self.linear(f"{name}.0.proj.0", x).relu()
        y = z + self.linear(f"{name}.1.adapter.3", self.linear(f"{name}.1.adapter.0", z).relu())
        scaled = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return scaled * self.state[f"{name}.1.layernorm.weight"] + self.state[f"{name}.1.layernorm.bias"]

    def graph(self, name: str, x: Tensor) -> Tensor:
        if f"{name}.a" in self.state:
            h, a = x @ self.state[f"{name}.W.weight"].T, self.state[f"{name}.a"].flatten()
            scores = [[functional.leaky_relu(torch.cat([i, j]) @ a, 0.2) for j in h] for i in h]
            return torch.tensor(scores, dtype=torch.float64).softmax(dim=1) @ h
        if f"{name}.unitary.bias" in self.state:
            count = len(x)
            adjacency = (torch.ones(count, count) - torch.eye(count)).double() / max(count - 1, 1)
            y = x @ self.state[f"{name}.unitary.model.conv.lin.weight"].T
            turned = torch.matrix_exp(1j * adjacency) @ torch.complex(*y.chunk(2, dim=1))
            return (torch.cat([turned.real, turned.imag], dim=1) + self.state[f"{name}.unitary.bias"]).relu()
        return x

    def attend(self, name: str, queries: Tensor, keys: Tensor) -> Tensor:
        weights, biases = (self.state[f"{name}.in_proj_{kind}"].chunk(3) for kind in ("weight", "bias"))
        q, k, v = (x @ w.T + b for x, w, b in zip((queries, keys, keys), weights, biases, strict=True))
        heads = [
            (q_h @ k_h.T / math.sqrt(HIDDEN / NUM_HEADS)).softmax(dim=1) @ v_h
            for q_h, k_h, v_h in zip(*(each.chunk(NUM_HEADS, dim=1) for each in (q, k, v)), strict=True)
        ]
        return self.linear(f"{name}.out_proj", torch.cat(heads, dim=1))

    def __call__(self, task: str, features: dict[str, Tensor]) -> Tensor:
        nodes = torch.stack([self.project(f"modality_projectors.{name}", x) for name, x in features.items()])
        context = queries = self.graph("graph_attns.features", nodes)
        if f"predictors.{task}.0.proj.0.weight" in self.state:
            views = self.project(f"prediction_projectors.{task}", self.project(f"predictors.{task}", nodes))
            queries = self.graph(f"graph_attns.{task}", views)
        attends = f"cross_attns.{task}.in_proj_weight" in self.state
        pooled = (self.attend(f"cross_attns.{task}", queries, context) if attends else queries).mean(dim=0)
        output = self.linear(f"heads.{task}.1", self.linear(f"heads.{task}.0.proj.0", pooled).relu())
        squash = torch.sigmoid if task == "personality" else lambda x: x
        if not self.guide_bank:
            return squash(output)
        guides = self.state[f"guide_banks.{task}.embeddings"]
        cosine = guides @ pooled / (guides.norm(dim=1) * pooled.norm())
        return (squash(output) + squash(cosine)) / 2


@pytest.mark.parametrize(
    ("kind", "options", "guide_bank"),
    [
        ("gat", {}, True),
        ("ucgnn", {}, True),
        ("ucgnn", {}, False),
        ("none", {}, True),
        ("gat", {"projectors": False}, True),
        ("ucgnn", {"attention": False}, True),
    ],
)
def test_gives_what_the_published_formulas_give(kind: str, options: dict[str, bool], guide_bank: bool) -> None:
    state = random_state(kind, **options)
    model = read_published(state, NUM_HEADS, guide_bank=guide_bank)
    assert model.modalities == ("video", "audio", "text", "behavior")
    features = {name: torch.randn(3, width) for name, width in WIDTHS.items()}
    presence = torch.tensor([[True, True, True, True], [True, False, True, False], [False, True, False, False]])
    batch = Batch({name.replace("face", "video"): x for name, x in features.items()}, presence)
    predictions, reference = model(batch), Reference(state, guide_bank)
    for task, own in OWN_TASK.items():
        for row in range(3):
            there = [name for name, present in zip(WIDTHS, presence[row].tolist(), strict=True) if present]
            expected = reference(task, {name: features[name][row].double() for name in there})
            torch.testing.assert_close(predictions.of(own)[row].double(), expected, atol=1e-5, rtol=0)


def test_published_sizes() -> None:
    """The published number, 9.756 million, counts the buffers of UCGNN: 9,753,998 + 4 * 512."""
    widths = {"face": 1024, "audio": 1536, "text": 1536, "behavior": 1536}
    assert sum(map(math.prod, shapes("ucgnn", widths, 512, 512).values())) == 9_753_998 + 4 * 512
    assert sum(map(math.prod, shapes("gat", widths, 512, 512).values())) == 9_756_046


def test_the_order_of_modalities_and_the_conventions() -> None:
    state = random_state("ucgnn")
    text = {name: value for name, value in state.items() if "modality_projectors.text" in name}
    model = read_published({**text, **state}, 4, 0.1)  # text first, as a batch would have had it
    assert model.modalities == ("text", "video", "audio", "behavior")
    rates = {name: layer.p for name, layer in model.named_modules() if isinstance(layer, torch.nn.Dropout)}
    assert {rate for name, rate in rates.items() if ".graph." in f".{name}"} == {0.2}
    assert {rate for name, rate in rates.items() if ".graph." not in f".{name}"} == {0.1}
    assert not model.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads.ah.2.weight": torch.zeros(1)}, r"1 name\(s\) belong to no part .*: heads\.ah\.2\.weight"),
        ({"guide_banks.ah.embeddings": None}, r"1 name\(s\) are missing: guide_banks\.ah\.embeddings"),
        ({"heads.ah.1.bias": torch.zeros(3)}, r"heads\.ah\.1\.bias has shape \(3,\), expected \(2,\)"),
        ({"graph_attns.ah.unitary.model.conv.multiplier": torch.ones(1, 8)}, r"multiplier is expected to be 4 times 1"),
        ({"cross_attns.ah.encoder.norm.a_2": torch.zeros(8)}, r"no part of MultiModalFusionModel_v1 or _v2"),
        ({"heads.mood.1.bias": torch.zeros(3)}, r"heads of \['emotion', 'personality', 'ah', 'mood'\]"),
    ],
)
def test_whatever_differs_is_named(change: dict[str, Tensor | None], message: str) -> None:
    state = {**random_state("ucgnn"), **change}
    with pytest.raises(ValueError, match=message):
        read_published({name: value for name, value in state.items() if value is not None}, NUM_HEADS)


def test_reads_files_and_runs_no_code_in_them(tmp_path: Path) -> None:
    state = random_state("gat")
    torch.save(state, tmp_path / "best.pt")
    save_file(state, tmp_path / "best.safetensors")
    features = {name.replace("face", "video"): torch.randn(2, width) for name, width in WIDTHS.items()}
    expected = read_published(state, NUM_HEADS)(Batch(features, torch.ones(2, 4, dtype=torch.bool)))
    for name in ("best.pt", "best.safetensors"):
        model = load_published(tmp_path / name, NUM_HEADS)
        ordered = {modality: features[modality] for modality in model.modalities}  # safetensors sorts names
        found = model(Batch(ordered, torch.ones(2, 4, dtype=torch.bool)))
        torch.testing.assert_close(found.of("emotion"), expected.of("emotion"), atol=1e-5, rtol=0)
    torch.save({"model": state, "hook": math.sqrt}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match=r"code\.pt cannot be read as weights without running code"):
        load_published(tmp_path / "code.pt")
    torch.save({"epoch": 3, "model": state}, tmp_path / "wrapped.pt")
    with pytest.raises(ValueError, match=r"wrapped\.pt holds keys \['epoch', 'model'\], expected a state dict"):
        load_published(tmp_path / "wrapped.pt")
    torch.save({**state, "more": torch.zeros(1)}, tmp_path / "more.pt")
    with pytest.raises(ValueError, match=r"more\.pt: 1 name\(s\) belong to no part"):
        load_published(tmp_path / "more.pt")

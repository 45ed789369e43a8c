"""Exported models against the eager ones, run by onnxruntime and read back by torch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from mmpsr.batch import Batch
from mmpsr.calibration.calibration import Calibration
from mmpsr.export import ExportError, export_onnx, export_torch
from mmpsr.models.base import FusionModel
from mmpsr.models.config import ConflictAwareConfig, ModelConfig
from mmpsr.probabilities import probabilities
from mmpsr.tasks import BUILTIN_TASKS
from tests.support.four_modalities import AWARE_CONFIG, CALIBRATION, WIDTHS, model_of

THREE = {"video": 6, "audio": 5, "text": 4}
"""Modalities where those of `WIDTHS` would only make a larger file: half as many pairs of them."""
SMALL: dict[str, Any] = {"hidden_width": 8, "head_width": 8, "num_heads": 2}
TINY = {**SMALL, "graph": "gat", "attention": "none", "task_projectors": False}
EVERYTHING: dict[str, Any] = {
    "text_head": True, "conflict_features": True, "guide_temperature": True,
    "linear_path": {"emotion": "trained", "personality": "fixed"}, "guides": "texts",
}  # fmt: skip
GUIDES = {
    "emotion": {"text": torch.randn(1, 7, 3, generator=torch.Generator().manual_seed(0))},
    "personality": {"text": torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))},
}


def trained(config: ModelConfig | ConflictAwareConfig, **changes: Any) -> FusionModel:
    """A model whose standardisers matter; changes are of what `model_of` takes."""
    model = model_of(config, **changes)
    for name in model.modalities:
        model.standardizers[name].mean.normal_()  # type: ignore[operator, union-attr]
        model.standardizers[name].std.uniform_(0.5, 2.0)  # type: ignore[operator, union-attr]
    return model


def vectors_of(model: FusionModel, size: int) -> dict[str, Tensor]:
    return {name: torch.randn(size, len(model.standardizers[name].mean)) for name in model.modalities}  # type: ignore[arg-type]


def expected(model: FusionModel, features: dict[str, Tensor], presence: Tensor) -> list[np.ndarray]:
    """What evaluation gives: numpy's calibration of the model's probabilities."""
    with torch.no_grad():
        predictions = model(Batch(features, presence))
    return [
        CALIBRATION.apply(task, probabilities(predictions.of(task), spec).double().numpy())
        for task, spec in model.tasks.items()
    ]


Run = Callable[[dict[str, Tensor], Tensor], list[np.ndarray]]


def onnx_runner(path: Path) -> Run:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(features: dict[str, Tensor], presence: Tensor) -> list[np.ndarray]:
        inputs = {**{name: x.numpy() for name, x in features.items()}, "presence": presence.numpy()}
        return session.run([each.name for each in session.get_outputs()], inputs)

    return run


def torch_runner(path: Path) -> Run:
    program = torch.export.load(path).module()
    return lambda features, presence: [each.detach().numpy() for each in program(*features.values(), presence)]


def require_agreement(model: FusionModel, *runs: Run) -> None:
    """A clip of each subset of modalities alone, and batches of 7 and 64 clips of all subsets."""
    subsets = torch.tensor([subset for subset in product([True, False], repeat=len(model.modalities)) if any(subset)])
    assert len(subsets) == 2 ** len(model.modalities) - 1
    for rows in (*torch.arange(len(subsets)).split(1), *(torch.arange(size) % len(subsets) for size in (7, 64))):
        features, presence = vectors_of(model, len(rows)), subsets[rows]
        ours = expected(model, features, presence)
        for run in runs:
            for mine, theirs in zip(ours, run(features, presence), strict=True):
                assert theirs.dtype == np.float32
                np.testing.assert_allclose(theirs, mine, atol=1e-5)


@pytest.fixture(scope="module")
def model() -> FusionModel:
    return trained(ModelConfig(**TINY))


@pytest.fixture(scope="module")
def exported(model: FusionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    fingerprints = {name: f"{name}-1" for name in WIDTHS}
    assert export_onnx(model, folder / "model.onnx", CALIBRATION, fingerprints) < 1e-5
    assert export_torch(model, folder / "model.pt2", CALIBRATION, fingerprints) < 1e-5
    return folder


@pytest.mark.slow
def test_agrees_with_the_model_for_all_subsets(model: FusionModel, exported: Path) -> None:
    require_agreement(model, onnx_runner(exported / "model.onnx"), torch_runner(exported / "model.pt2"))


@pytest.mark.slow
def test_so_does_the_default_model_with_everything(tmp_path: Path) -> None:
    two = {task: BUILTIN_TASKS[task] for task in GUIDES}
    model = trained(ModelConfig(**SMALL, **EVERYTHING), widths=THREE, guide_points=GUIDES, tasks=two)
    export_onnx(model, tmp_path / "model.onnx", CALIBRATION)
    export_torch(model, tmp_path / "model.pt2", CALIBRATION)
    require_agreement(model, onnx_runner(tmp_path / "model.onnx"), torch_runner(tmp_path / "model.pt2"))


@pytest.mark.slow
def test_each_clip_has_its_own_mask_and_what_is_masked_is_not_read(model: FusionModel, exported: Path) -> None:
    features = vectors_of(model, 16)
    presence = torch.tensor(list(product([True, False], repeat=4)))
    ours = expected(model, features, presence)
    for index, vectors in enumerate(features.values()):
        vectors[~presence[:, index]] = torch.nan
    for run in (onnx_runner(exported / "model.onnx"), torch_runner(exported / "model.pt2")):
        for mine, theirs in zip(ours, run(features, presence), strict=True):
            np.testing.assert_allclose(theirs, mine, atol=1e-5)
            assert theirs.std(axis=0).min() > 1e-3


@pytest.mark.slow
def test_says_what_it_takes_and_gives(exported: Path) -> None:
    stored = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(stored)
    assert [each.name for each in stored.graph.input] == ["video", "audio", "text", "behavior", "presence"]
    assert [each.name for each in stored.graph.output] == ["emotion", "personality", "ambivalence"]
    sizes = {each.name: each.type.tensor_type.shape.dim for each in stored.graph.input}
    assert [(dims[0].dim_param, dims[1].dim_value) for dims in sizes.values()] == [
        ("batch", 6), ("batch", 5), ("batch", 4), ("batch", 3), ("batch", 4),
    ]  # fmt: skip
    extra = {"mmpsr": ""}
    torch.export.load(exported / "model.pt2", extra_files=extra)
    (text,) = [each.value for each in stored.metadata_props if each.key == "mmpsr"]
    description = json.loads(text)
    assert description == json.loads(extra["mmpsr"])
    assert description["modalities"] == WIDTHS
    assert description["fingerprints"]["audio"] == "audio-1"
    assert description["tasks"]["ambivalence"] == {
        "kind": "single_label", "classes": ["absent", "present"], "temperature": 0.5, "thresholds": None,
    }  # fmt: skip
    assert description["tasks"]["personality"]["temperature"] == 1.0


def test_leaves_the_model_and_its_modules_as_they_were(model: FusionModel, tmp_path: Path) -> None:
    import mmpsr.models.mcdm

    model.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor does it warn of torch's own parts
        export_torch(model, tmp_path / "model.pt2")
    assert model.training
    model.eval()
    assert "len" not in vars(mmpsr.models.mcdm)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


LAYERS = [
    *(
        {"graph": graph, "attention": attention}
        for graph, attention in (("edgnn", "bica"), ("hgnn", "fa"))  # gat is that of TINY, mha the default's
    ),
    {"graph": "ncgnn", "attention": "mta", "task_projectors": False},  # a long file, once, of two
    {"graph": "none", "attention": "crossmpt", "task_projectors": False},
]


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer['graph']}-{layer['attention']}")
def test_so_does_every_layer(layer: dict[str, Any], tmp_path: Path) -> None:
    emotion = {"emotion": BUILTIN_TASKS["emotion"]}  # a tower, and so a layer, for each task
    widths = {"audio": 5, "text": 4} if layer["graph"] == "ncgnn" else THREE
    model = trained(ModelConfig(**SMALL, **layer), widths=widths, tasks=emotion)
    export_onnx(model, tmp_path / "model.onnx", CALIBRATION)
    require_agreement(model, onnx_runner(tmp_path / "model.onnx"))


@pytest.mark.slow
def test_so_does_the_conflict_aware_model_on_vectors(tmp_path: Path) -> None:
    model = trained(ConflictAwareConfig(hidden_width=4, head_width=4))
    export_onnx(model, tmp_path / "model.onnx", CALIBRATION)
    export_torch(model, tmp_path / "model.pt2", CALIBRATION)
    require_agreement(model, onnx_runner(tmp_path / "model.onnx"), torch_runner(tmp_path / "model.pt2"))


@pytest.mark.slow
def test_so_does_a_linear_path_that_sees_prototypes_and_absences(tmp_path: Path) -> None:
    model = trained(
        ModelConfig(**{**TINY, "graph": "none"}, linear_path={"emotion": "fixed", "personality": "trained"}),
        widths={"audio": 5, "text": 4},
        tasks={name: BUILTIN_TASKS[name] for name in ("emotion", "personality")},
        points={"emotion": {"text": torch.randn(1, 7, 3)}, "personality": {"text": torch.randn(2, 5, 4)}},
        sees_absence=True,
    )
    assert model.prototypes is not None
    for _, _, part in model.prototypes.blocks():
        part.means.uniform_(-0.5, 0.5)
    export_onnx(model, tmp_path / "model.onnx", CALIBRATION)
    export_torch(model, tmp_path / "model.pt2", CALIBRATION)
    require_agreement(model, onnx_runner(tmp_path / "model.onnx"), torch_runner(tmp_path / "model.pt2"))


@pytest.mark.slow
def test_the_lie_form_can_be_a_program_of_torch_only(tmp_path: Path) -> None:
    model = trained(ModelConfig(**{**TINY, "graph": "ucgnn"}, graph_options={"form": "lie"}))
    with pytest.raises(ExportError, match="ONNX has no matrix exponential, which ucgnn needs in its Lie form"):
        export_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert export_torch(model, tmp_path / "model.pt2") < 1e-5


@pytest.mark.slow
def test_convolutions_of_torch_geometric_are_exported(tmp_path: Path) -> None:
    model = trained(ModelConfig.model_validate({**TINY, "graph": "pyg:GATv2Conv", "graph_options": {"heads": 2}}))
    export_onnx(model, tmp_path / "model.onnx", CALIBRATION)
    export_torch(model, tmp_path / "model.pt2", CALIBRATION)
    require_agreement(model, onnx_runner(tmp_path / "model.onnx"), torch_runner(tmp_path / "model.pt2"))


def test_models_of_sequences_are_refused(tmp_path: Path) -> None:
    model = model_of(AWARE_CONFIG, {"audio": 2})
    with pytest.raises(ExportError, match=r"pools sequences of \['audio'\], and only models of vectors"):
        export_torch(model, tmp_path / "model.pt2")


@pytest.mark.slow
def test_a_file_that_would_predict_otherwise_is_not_left(tmp_path: Path) -> None:
    model = trained(ModelConfig(**TINY))
    torch.nn.init.constant_(next(model.towers["emotion"].parameters()), torch.nan)
    with pytest.raises(ExportError, match=r"model\.pt2 was not written: its predictions would differ .* by nan"):
        export_torch(model, tmp_path / "model.pt2", Calibration())
    assert list(tmp_path.iterdir()) == []

"""A fusion model as one file that runs without this project: ONNX, or a program of `torch.export`.

Inputs are the vectors of each modality, float32 `[B, D]` under its name in the model's order, and `presence`, bool
`[B, M]`; what stands in the rows of an absent modality is never read. Outputs are calibrated probabilities, or scores,
float32 `[B, C]` under each task's name. B is any number from 1 on. Standardisation and calibration are inside.

Shape suffixes: B clips, M modalities, D width of a modality's vectors, C outputs of a task.
"""

from __future__ import annotations

import copy
import io
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmpsr.batch import Batch
from mmpsr.calibration.calibration import Calibration
from mmpsr.errors import UserError
from mmpsr.files import replacing, write_whole
from mmpsr.layers.graph.ucgnn import LieUCGNN
from mmpsr.layers.standardizer import Standardizer
from mmpsr.models.base import FusionModel
from mmpsr.probabilities import probabilities

__all__ = ["METADATA", "PRESENCE", "TOLERANCE", "ExportError", "Predicting", "export_onnx", "export_torch"]

PRESENCE = "presence"
METADATA = "mmpsr"  # the key, and in a program of torch.export the file, under which the description lies
TOLERANCE = 1e-5


class ExportError(UserError):
    """A model that cannot be written in a format, or that predicts otherwise when it is read again."""


class Predicting(nn.Module):
    """Tensors in, tensors out: what is exported.

    Args:
        model: a copy of it is used, in evaluation mode on the CPU.
        calibration: its temperatures are applied.

    Raises:
        ExportError: the model pools sequences.
    """

    def __init__(self, model: FusionModel, calibration: Calibration | None = None) -> None:
        super().__init__()
        sequences = list(getattr(model, "sequence_standardizers", {}))
        if sequences:
            raise ExportError(
                f"the model pools sequences of {sequences}, and only models of vectors can be exported; train one "
                "without features.sequences"
            )
        self.model = copy.deepcopy(model).cpu().float().eval()
        self.calibration = calibration or Calibration()
        fitted = self.calibration.tasks
        self.temperatures = {
            task: fitted[task].temperature if task in fitted and spec.kind != "regression" else 1.0
            for task, spec in model.tasks.items()
        }

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Map vectors `[B, D]` of every modality and presence `[B, M]` to `[B, C]` for every task."""
        *vectors, presence_BM = inputs
        predictions = self.model(Batch(dict(zip(self.model.modalities, vectors, strict=True)), presence_BM))
        return tuple(
            probabilities(predictions.of(task) / self.temperatures[task], spec)
            for task, spec in self.model.tasks.items()
        )

    def example(self) -> tuple[Tensor, ...]:
        """Make a clip for each subset of modalities, with vectors as training had them."""
        num_modalities = len(self.model.modalities)
        subsets_S1 = torch.arange(2 ** min(num_modalities, 10)).unsqueeze(1)
        presence_SM = (subsets_S1 & (2 ** torch.arange(num_modalities))) > 0
        generator, vectors = torch.Generator().manual_seed(0), []
        for name in self.model.modalities:
            standardizer = cast(Standardizer, self.model.standardizers[name])
            noise = torch.randn(len(presence_SM), len(standardizer.mean), generator=generator)
            vectors.append(standardizer.mean + standardizer.std * noise)
        return (*vectors, presence_SM)

    def description(self, fingerprints: Mapping[str, str]) -> dict[str, Any]:
        """Give JSON values: what goes in, what comes out, and which encoders made the vectors."""
        widths = {name: len(cast(Tensor, self.model.standardizers[name].mean)) for name in self.model.modalities}
        tasks = {}
        for task, spec in self.model.tasks.items():
            thresholds_C = self.calibration.thresholds(task)
            tasks[task] = {
                "kind": spec.kind,
                "classes": list(spec.classes),
                "temperature": self.temperatures[task],
                "thresholds": None if thresholds_C is None else thresholds_C.tolist(),
            }
        return {"modalities": widths, "tasks": tasks, "fingerprints": dict(fingerprints)}


def export_onnx(
    model: FusionModel,
    path: Path,
    calibration: Calibration | None = None,
    fingerprints: Mapping[str, str] | None = None,
) -> float:
    """Write an ONNX file, and run it on a clip of every subset of modalities.

    Its metadata holds, under `mmpsr`, as JSON: modalities with their widths, tasks with their classes, the temperature
    that was applied and the thresholds of decisions (see `mmpsr.probabilities`), and fingerprints.

    Args:
        model: of vectors.
        path: file to write; one that is there is replaced.
        calibration: applied to the outputs.
        fingerprints: of the encoders, by modality.

    Returns:
        The largest difference between its probabilities or scores and the model's.

    Raises:
        ExportError: the model pools sequences, has a layer that ONNX cannot express, or the file predicts otherwise;
            or what writes and runs ONNX is not installed.
    """
    predicting = Predicting(model, calibration)
    if any(isinstance(layer, LieUCGNN) for layer in model.modules()):
        raise ExportError(
            'ONNX has no matrix exponential, which ucgnn needs in its Lie form (model.graph_options.form = "lie"); '
            "export to torch, or train the unitary form"
        )
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch writes ONNX with it)
    except ImportError as error:
        raise ExportError(f"{error.name} is not installed; ONNX needs the optional libraries, mmpsr[onnx]") from error
    names, example = [*predicting.model.modalities, PRESENCE], predicting.example()
    with _quiet():
        exported = _program(predicting, example)
        program = torch.onnx.export(exported, (), input_names=names, output_names=list(model.tasks), verbose=False)
    assert program is not None
    for value in (*program.model.graph.inputs, *program.model.graph.outputs):
        cast(Any, value.shape)[0] = "batch"  # torch gave it another name
    program.model.metadata_props[METADATA] = json.dumps(predicting.description(fingerprints or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        program.save(new, external_data=False)
        session = onnxruntime.InferenceSession(new, providers=["CPUExecutionProvider"])
        arrays = session.run(list(model.tasks), {name: x.numpy() for name, x in zip(names, example, strict=True)})
        return _require_same(path, predicting, example, [torch.from_numpy(array) for array in arrays])


def export_torch(
    model: FusionModel,
    path: Path,
    calibration: Calibration | None = None,
    fingerprints: Mapping[str, str] | None = None,
) -> float:
    """Write a program of `torch.export` (`.pt2`), and run it as `export_onnx` does.

    It is read with `torch.export.load(path, extra_files={"mmpsr": ""})`; the description is that extra file.

    Args: see `export_onnx`.

    Returns:
        The largest difference between its probabilities or scores and the model's.

    Raises:
        ExportError: the model pools sequences, or the file predicts otherwise.
    """
    predicting = Predicting(model, calibration)
    example = predicting.example()
    content = io.BytesIO()  # in a file it would hold that file's name
    with _quiet():
        description = json.dumps(predicting.description(fingerprints or {}))
        torch.export.save(_program(predicting, example), content, extra_files={METADATA: description})
        content.seek(0)
        with torch.no_grad():
            outputs = torch.export.load(content).module()(*example)
    difference = _require_same(path, predicting, example, outputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
    return difference


def _program(predicting: Predicting, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(predicting, example, dynamic_shapes={"inputs": tuple({0: batch} for _ in example)})


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what torch says of its own parts; stdout is for results."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def _require_same(path: Path, predicting: Predicting, example: tuple[Tensor, ...], outputs: Any) -> float:
    """Measure the largest difference between what a file and the model give."""
    with torch.no_grad():
        expected = predicting(*example)
    differences = [(first - second).abs().max() for first, second in zip(expected, outputs, strict=True)]
    largest = float(torch.stack(differences).max())
    if not largest <= TOLERANCE:
        raise ExportError(
            f"{path} was not written: its predictions would differ from the model's by {largest:.2g}, more than "
            f"{TOLERANCE:g}; are all weights finite?"
        )
    return largest

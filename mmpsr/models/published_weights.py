"""Weights of the published SCD-MMPSR code as an `MCDM`: `MultiModalFusionModel_v1` (GAT) and `_v2` (UCGNN).

The map of names is written out below. It is strict: every tensor of a state dict is used exactly once and every
parameter of the model comes from one, with its shape.

Conventions of that code which weights do not tell:

- Guide banks are created even where the model does not use them (`guide_bank=False` here): they are then left out.
- The dropout of the configuration applies everywhere but in UCGNN, where it is 0.2. GAT also drops attention weights in
  training, which `mmpsr.layers.graph.gat` does not; predictions are the same.
- Features are not standardised, so the model's standardisers pass them unchanged.
- Its modality `face` is `video` here, its task `ah` is `ambivalence`. Classes are in the order of `mmpsr.tasks`.

Shape suffixes: H hidden width, D width of a modality's vectors, C outputs of a task, K width of a head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mmpsr.config import validate
from mmpsr.models.config import ModelConfig
from mmpsr.models.mcdm import MCDM
from mmpsr.tasks import BUILTIN_TASKS

__all__ = ["load_published", "read_published"]

MODALITIES = {"face": "video"}  # the others have the same name
TASKS = {"emotion": "emotion", "personality": "personality", "ah": "ambivalence"}

# Of a linear layer or a normalisation, in its `weight` and its `bias`:
PROJECTOR = {
    "0.proj.0": "0",  # Linear D -> H
    "1.adapter.0": "3.down",  # Linear H -> H/2
    "1.adapter.3": "3.up",  # Linear H/2 -> H
    "1.layernorm": "3.norm",
}
HEAD = {
    "0.proj.0": "0",  # Linear H -> K
    "1": "3",  # Linear K -> C
}
# Of a graph layer, by kind, with the parameters that a tensor's rows become:
GRAPHS: dict[str, dict[str, tuple[str, ...]]] = {
    "gat": {"W.weight": ("linear.weight",), "a": ("target", "source")},  # [H, H], [2 H, 1]
    "ucgnn": {
        "unitary.model.conv.lin.weight": ("linear.weight",),  # [H, H]
        "unitary.bias": ("bias",),  # [H]
        "unitary.model.conv.multiplier": (),  # [1, H], the constants of H/2 complex numbers
    },
}


def load_published(path: Path, num_heads: int = 8, dropout: float = 0.15, guide_bank: bool = True) -> MCDM:
    """Load the model of a stored state dict, `.safetensors` or what `torch.save` wrote; no code in it is run.

    Args: see `read_published`.

    Raises:
        ValueError: the file is no state dict, or not one of these models; what differs is named.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as weights without running code: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        content = f"keys {list(state)[:5]}" if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(f"{path} holds {content}, expected a state dict: tensors by name")
    try:
        return read_published(state, num_heads, dropout, guide_bank)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_published(
    state: Mapping[str, Tensor], num_heads: int = 8, dropout: float = 0.15, guide_bank: bool = True
) -> MCDM:
    """Read the model of a state dict, in evaluation mode; its names tell tasks, modalities, widths and switches.

    Args:
        state: tensors by their published names.
        num_heads: attention heads, which weights do not tell; the published configurations have 8.
        dropout: rate in further training.
        guide_bank: whether predictions were averaged with the guide banks, which are stored either way.

    Raises:
        ValueError: a name is unknown or missing, or a tensor has another shape than the model; they are named.
    """
    names = list(state)
    modalities = _members(names, "modality_projectors")
    tasks = _members(names, "heads")
    if not modalities or not tasks or not set(tasks) <= TASKS.keys():
        raise ValueError(
            f"found modality_projectors of {modalities} and heads of {tasks}; a state dict of the published fusion "
            f"model has both, of the tasks {list(TASKS)}"
        )
    projectors = {name: f"modality_projectors.{name}.0.proj.0.weight" for name in modalities}
    first, head = projectors[modalities[0]], f"heads.{tasks[0]}.0.proj.0.weight"
    _require(state, [first, head, *projectors.values()])
    graphs = [kind for kind, parts in GRAPHS.items() if f"graph_attns.features.{next(iter(parts))}" in state]
    settings = {
        "hidden_width": state[first].shape[0],
        "head_width": state[head].shape[0],
        "num_heads": num_heads,
        "dropout": dropout,
        "graph": graphs[0] if graphs else "none",
        "attention": "mha" if any(name.startswith("cross_attns.") for name in names) else "none",
        "guide_bank": guide_bank,
        "task_projectors": any(name.startswith("predictors.") for name in names),
    }
    config = validate(ModelConfig, settings, "published weights")
    widths = {MODALITIES.get(name, name): state[projector].shape[1] for name, projector in projectors.items()}
    model = MCDM(widths, {TASKS[task]: BUILTIN_TASKS[TASKS[task]] for task in tasks}, config)
    model.load_state_dict({**model.state_dict(), **_translated(state, model, config, modalities, tasks)})
    return model.eval()


def _translated(
    state: Mapping[str, Tensor], model: MCDM, config: ModelConfig, modalities: list[str], tasks: list[str]
) -> dict[str, Tensor]:
    """Translate tensors into the model's parameters."""
    parts = _parts(config, modalities, tasks)
    unknown = [name for name in state if name not in parts]
    if unknown:
        raise ValueError(
            f"{len(unknown)} name(s) belong to no part of MultiModalFusionModel_v1 or _v2 with graph "
            f"{config.graph!r} and attention {config.attention!r}: {_listed(unknown)}"
        )
    _require(state, parts)
    expected = {name: tensor.shape for name, tensor in model.named_parameters()}
    parameters: dict[str, Tensor] = {}
    for published, own in parts.items():
        tensor = state[published]
        if published.endswith("multiplier"):
            half = torch.ones(config.hidden_width // 2)
            if not torch.equal(tensor.flatten().float(), torch.cat([half, -half])):
                raise ValueError(f"{published} is expected to be {len(half)} times 1, then {len(half)} times -1")
            continue
        if not own:
            continue  # a guide bank that predictions do not use
        rows = [expected[name][0] for name in own]
        shape = (sum(rows), *expected[own[0]][1:])
        column = (*shape, 1) if published.endswith(".a") else shape
        if tensor.shape != column:
            raise ValueError(f"{published} has shape {tuple(tensor.shape)}, expected {column}")
        parameters |= dict(zip(own, tensor.reshape(shape).split(rows), strict=True))
    if missing := expected.keys() - parameters.keys():
        raise AssertionError(f"the map of names gives no value for {sorted(missing)}")
    return parameters


def _parts(config: ModelConfig, modalities: list[str], tasks: list[str]) -> dict[str, tuple[str, ...]]:
    """Map each published tensor to the parameters that its rows become, one after another; none for a constant."""
    parts: dict[str, tuple[str, ...]] = {}

    def add_layers(published: str, own: str, names: Mapping[str, str]) -> None:
        for theirs, ours in names.items():
            for kind in ("weight", "bias"):
                parts[f"{published}.{theirs}.{kind}"] = (f"{own}.{ours}.{kind}",)

    def add_graph(published: str, own: str) -> None:
        for theirs, ours in GRAPHS.get(config.graph, {}).items():
            parts[f"{published}.{theirs}"] = tuple(f"{own}.{name}" for name in ours)

    for name in modalities:
        add_layers(f"modality_projectors.{name}", f"projectors.{MODALITIES.get(name, name)}", PROJECTOR)
    add_graph("graph_attns.features", "graph")
    for task in tasks:
        own = f"towers.{TASKS[task]}"
        if config.task_projectors:
            add_layers(f"predictors.{task}", f"{own}.predictor", PROJECTOR)
            add_layers(f"prediction_projectors.{task}", f"{own}.projector", PROJECTOR)
            add_graph(f"graph_attns.{task}", f"{own}.graph")
        if config.attention == "mha":
            for kind in ("weight", "bias"):  # rows of the queries, then those of keys and values
                rows = (f"{own}.attention.query.{kind}", f"{own}.attention.key_value.{kind}")
                parts[f"cross_attns.{task}.in_proj_{kind}"] = rows
            add_layers(f"cross_attns.{task}", f"{own}.attention", {"out_proj": "output"})
        add_layers(f"heads.{task}", f"{own}.head", HEAD)
        parts[f"guide_banks.{task}.embeddings"] = (f"{own}.guides",) if config.guide_bank else ()
    return parts


def _members(names: list[str], group: str) -> list[str]:
    """List what a group has parts for, in the order of the file."""
    return list(dict.fromkeys(name.split(".")[1] for name in names if name.startswith(f"{group}.")))


def _require(state: Mapping[str, Tensor], expected: Iterable[str]) -> None:
    missing = [name for name in expected if name not in state]
    if missing:
        raise ValueError(f"{len(missing)} name(s) are missing: {_listed(missing)}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")

"""Checkpoints: everything a run needs to continue as if it had never stopped.

```
<run>/checkpoints/step-<n>/
    model.safetensors  average.safetensors  optimizer.safetensors  balancer.safetensors  rng-<process>.safetensors
    state.json
```

A checkpoint is written under another name and renamed when complete; the newest two are kept.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from mmpsr.errors import UserError
from mmpsr.files import write_whole
from training.runs.directory import RunError, read_json, read_tensors

__all__ = ["CheckpointError", "latest_checkpoint", "load_checkpoint", "save_checkpoint", "save_tensors"]

KEPT = 2


class CheckpointError(UserError):
    """A checkpoint that this run cannot continue from."""


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors; the file appears whole or not at all."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, lambda file: save_file(stored, file))


def save_checkpoint(
    folder: Path,
    step: int,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    accelerator: Accelerator,
) -> Path:
    """Write a checkpoint, and return its folder; every process calls this.

    Args:
        folder: `<run>/checkpoints`.
        step: steps taken so far.
        modules: modules by file name, whose state is saved.
        optimizer: its per-parameter tensors and groups are saved.
        state: JSON values.
        accelerator: who is the main process.
    """
    final, temporary = folder / f"step-{step:08d}", folder / f".step-{step:08d}"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    save_tensors(_random_state(), temporary / f"rng-{accelerator.process_index}.safetensors")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for name, module in modules.items():
            save_tensors(dict(module.state_dict()), temporary / f"{name}.safetensors")
        tensors, groups = _optimizer_state(optimizer)
        save_tensors(tensors, temporary / "optimizer.safetensors")
        write_whole(temporary / "state.json", json.dumps({**state, "step": step, "groups": groups}))
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
        for old in _complete(folder)[:-KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """Find the newest complete checkpoint, or None."""
    complete = _complete(folder)
    return complete[-1] if complete else None


def load_checkpoint(
    path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> dict[str, Any]:
    """Restore modules, optimizer and this process' random state; return the JSON state.

    Raises:
        CheckpointError: the checkpoint was written by another number of processes, or a file of it is damaged.
    """
    if (
        not (path / f"rng-{accelerator.num_processes - 1}.safetensors").exists()
        or (path / f"rng-{accelerator.num_processes}.safetensors").exists()
    ):
        num_files = len(list(path.glob("rng-*.safetensors")))
        raise CheckpointError(
            f"{path} was written by {num_files} processes and cannot continue exactly on {accelerator.num_processes}; "
            f"launch with --num_processes {num_files}"
        )
    try:
        states = {name: read_tensors(path / f"{name}.safetensors") for name in modules}
        tensors, random = (
            read_tensors(path / f"{name}.safetensors") for name in ("optimizer", f"rng-{accelerator.process_index}")
        )
        state: dict[str, Any] = read_json(path, "state.json")
    except RunError as error:
        raise CheckpointError(f"{error}; remove {path}, and the checkpoint before it is continued") from None
    for name, module in modules.items():
        module.load_state_dict(states[name])
    per_parameter: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        per_parameter.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": per_parameter, "param_groups": state.pop("groups")})
    _restore_random_state(random)
    return state


def _complete(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if (path / "state.json").exists())


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in state["state"].items()
        for key, value in values.items()
    }
    return tensors, state["param_groups"]


def _random_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])

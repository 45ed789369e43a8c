"""What training a model costs: parameters, seconds and memory, in a run's `cost.json`.

Not among the files that figures follow from: a repeated run takes other seconds.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from mmpsr.files import read_json_lines
from training.fit.checkpoint import latest_checkpoint
from training.runs.directory import RunDirectory

__all__ = ["COST", "CostMeter"]

COST = "cost.json"
PROCESS = Path("/proc/self")


class CostMeter:
    """Measures from its making to `write`; what an earlier process trained does not count.

    Args:
        run: the run that is trained in between.
        device: where.
    """

    def __init__(self, run: RunDirectory, device: torch.device) -> None:
        self.run, self.device = run, device
        self.checkpoint = latest_checkpoint(run.checkpoints)
        _forget_peak(device)
        self.started = time.perf_counter()

    def write(self, model: nn.Module, num_together: int = 1) -> None:
        """Write `cost.json`.

        Args:
            model: what was trained.
            num_together: runs that were trained as one stack with it, itself included; `num_together` where more than
                one. Seconds and memory are then those of all.

        `num_parameters`: trainable ones; `num_epochs`, `num_steps`: of the whole run; `seconds_per_step`: training, dev
        figures and checkpoints over the optimizer steps of this process; `seconds_per_epoch`: as many steps as an epoch
        has; `peak_megabytes`: most memory, of the device's tensors, or of the whole process on a CPU. What was not
        measured is null.
        """
        seconds = time.perf_counter() - self.started
        last = read_json_lines(self.run.path / "metrics.jsonl")[-1]
        epoch, step = last["epoch"], last["step"]
        first_step = int(self.checkpoint.name.removeprefix("step-")) if self.checkpoint is not None else 0
        per_step = seconds / (step - first_step) if step > first_step else None
        document = {
            "num_parameters": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
            "num_epochs": epoch,
            "num_steps": step,
            "seconds_per_epoch": None if per_step is None else per_step * step / epoch,
            "seconds_per_step": per_step,
            "peak_megabytes": _peak(self.device),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type,
            "num_threads": torch.get_num_threads(),
        }
        if num_together > 1:
            document["num_together"] = num_together
        self.run.write_json(COST, document)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (PROCESS / "clear_refs").exists():
        with suppress(OSError):  # where it is not allowed the peak is that of the process so far
            (PROCESS / "clear_refs").write_text("5", encoding="ascii")


def _peak(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if not (PROCESS / "status").exists():
        return None
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", (PROCESS / "status").read_text(encoding="ascii"), re.MULTILINE)
    return int(peak[1]) / 2**10 if peak else None

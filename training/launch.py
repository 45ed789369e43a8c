"""Several processes on a CPU: what `accelerate launch --cpu --num_processes K` asks for and by itself does not start.

accelerate starts several CPU processes through MPI only; without it the same command silently runs one. Here the one
process becomes torch's own launcher of K, with the same script and arguments.
"""

from __future__ import annotations

import os
import sys

import psutil

__all__ = ["become_launcher", "requested_processes"]


def requested_processes(command: list[str] | None = None) -> int:
    """Read K of `accelerate launch ... --cpu ... --num_processes K`, or 1.

    Args:
        command: the launching process' command line; that of the parent where it is left out.

    Example:
        >>> requested_processes(["accelerate", "launch", "--cpu", "--num_processes=2", "training/run.py"])
        2
    """
    if command is None:
        parent = psutil.Process().parent()
        command = parent.cmdline() if parent is not None else []
    if "--cpu" not in command or not {"launch", "accelerate.commands.launch"} & set(command):
        return 1
    for index, word in enumerate(command):
        name, equals, value = word.partition("=")
        if name in ("--num_processes", "--num-processes"):
            number = value if equals else command[index + 1] if index + 1 < len(command) else ""
            return int(number) if number.isdigit() else 1
    return 1


def become_launcher() -> None:
    """Replace this process by a launcher of as many as the parent was asked for, unless they run already."""
    if "WORLD_SIZE" in os.environ:
        return
    num_processes = requested_processes()
    if num_processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes)]
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
        os.execv(sys.executable, [sys.executable, *launcher, *sys.argv])

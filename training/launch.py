"""Several processes on a CPU: what `accelerate launch --cpu --num_processes K` asks for and by itself does not start.

The file of `--config_file` may say both, too: `use_cpu` and `num_processes`.

accelerate starts several CPU processes through MPI only; without it the same command silently runs one. Here the one
process becomes torch's own launcher of K, with the same script and arguments.
"""

from __future__ import annotations

import os
import sys

import psutil

__all__ = ["become_launcher", "requested_processes"]


def requested_processes(command: list[str] | None = None) -> int:
    """Read K of `accelerate launch ... --cpu ... --num_processes K`, or of its `--config_file`, or 1.

    Args:
        command: the launching process' command line; that of the parent where it is left out.

    Example:
        >>> requested_processes(["accelerate", "launch", "--cpu", "--num_processes=2", "training/run.py"])
        2
    """
    if command is None:
        parent = psutil.Process().parent()
        command = parent.cmdline() if parent is not None else []
    if not {"launch", "accelerate.commands.launch"} & set(command):
        return 1
    script = next((index for index, word in enumerate(command) if word.endswith("run.py")), len(command))
    options = command[:script]  # what stands behind is for the script
    file = _value(options, "config_file")
    settings = None
    if file is not None:
        from accelerate.commands.config.config_args import load_config_from_file

        settings = load_config_from_file(file)
    if "--cpu" not in options and not (settings is not None and settings.use_cpu):
        return 1
    number = str(_value(options, "num_processes") or (1 if settings is None else settings.num_processes))
    return int(number) if number.isdigit() else 1


def _value(words: list[str], option: str) -> str | None:
    """Find the value of an option, which may be written with dashes and with an equals sign."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("-", "_") == f"__{option}":
            return value if equals else words[index + 1] if index + 1 < len(words) else None
    return None


def become_launcher() -> None:
    """Replace this process by a launcher of as many as the parent was asked for, unless they run already."""
    if "WORLD_SIZE" in os.environ:
        return
    num_processes = requested_processes()
    if num_processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes)]
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
        os.execv(sys.executable, [sys.executable, *launcher, *sys.argv])

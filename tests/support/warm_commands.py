"""A process that has imported what commands need and forks for each, so that no command waits for imports.

What a command starts by `multiprocessing` is forked as well, and intervals are made of few resamples.

Started with the folder in which it puts the commands `mmpsr`, `accelerate` and `python`. These hand their arguments,
working folder, environment and streams to it, and end with the status of what it ran for them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import socket
import sys
import traceback
from pathlib import Path

COMMANDS = (
    "mmpsr.export", "training.pipeline", "training.data.load", "training.doctor.doctor", "training.doctor.report",
    "training.evaluation.compare", "training.evaluation.evaluate", "training.runs.verify",
    "training.predict.document", "training.predict.predictor", "training.predict.results",
    "training.report.cards", "training.report.run", "training.estimator.estimator", "tuning.console",
    "tuning.search.workers", "tuning.study.fill", "tuning.transfer.analysis",
    "torch._dynamo", "torch.utils.tensorboard",  # which the first optimizer and the first tracker import
)  # fmt: skip
PROGRAMS = ("mmpsr", "python", "accelerate")
CLIENT = """#!{python} -IS
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = [{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]
socket.send_fds(connection, [json.dumps(request).encode() + b"\\n"], [0, 1, 2])
sys.exit((connection.recv(1) or b"\\x01")[0])
"""


def install(folder: Path, address: str) -> None:
    for program in PROGRAMS:
        path = folder / program
        path.write_text(CLIENT.format(python=sys.executable, address=address, program=program))
        path.chmod(0o755)


def serve(listener: socket.socket) -> None:
    """Fork for each request, for as long as the process lives."""
    running = 0
    while True:
        connection, _ = listener.accept()
        running += 1
        if os.fork() == 0:
            listener.close()
            status = run(connection)
            sys.stdout.flush()
            sys.stderr.flush()
            connection.sendall(bytes([status]))
            os._exit(0)
        connection.close()
        while running and os.waitpid(-1, os.WNOHANG) != (0, 0):
            running -= 1


def run(connection: socket.socket) -> int:
    data, streams, *_ = socket.recv_fds(connection, 1 << 20, 3)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 20)
    program, arguments, folder, environment = json.loads(data)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    try:
        if program == "mmpsr":
            from tuning.console import app

            sys.argv = [program, *arguments]
            app()
        elif program == "accelerate":
            from accelerate.commands.accelerate_cli import main

            sys.argv = [program, *arguments]
            main()
        else:
            sys.argv = arguments = [each for each in arguments if each != "-u"]
            sys.path[0] = str(Path(arguments[0]).absolute().parent)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def import_all() -> None:
    import multiprocessing.spawn  # which keeps the executable of now

    forking = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: forking  # type: ignore[assignment]
    figures = importlib.import_module("training.evaluation.figures")
    figures.NUM_RESAMPLES = 100  # type: ignore[attr-defined]

    import accelerate.commands.accelerate_cli  # noqa: F401
    import av  # noqa: F401
    import matplotlib.pyplot
    import mediapipe  # noqa: F401
    import opensmile  # noqa: F401
    import optuna  # noqa: F401
    import transformers  # noqa: F401
    from sklearn import linear_model  # noqa: F401
    from torch.utils import tensorboard  # noqa: F401

    from encoders.models.minilm import shared_embedder

    for name in COMMANDS:
        importlib.import_module(name)
    shared_embedder()
    matplotlib.use("agg")
    gc.collect()
    gc.freeze()  # or every command's collector would look at all of it, and copy its pages


if __name__ == "__main__":
    sys.path[0] = sys.argv[1]  # where `mmpsr` lies, as for an installed command
    address = str(Path(sys.argv[1]) / "requests")
    import_all()
    with socket.socket(socket.AF_UNIX) as requests:
        requests.bind(address)
        requests.listen()
        install(Path(sys.argv[1]), address)
        sys.executable = str(Path(sys.argv[1]) / "python")  # for `accelerate launch`
        print("ready", flush=True)
        serve(requests)

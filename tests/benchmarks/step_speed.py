"""Milliseconds of a training step, by part, beside what it could cost at least, and beside another checkout's.

    uv run python tests/benchmarks/step_speed.py [--sizes 32 256 2048] [--threads 1] [--before CHECKOUT]
        [--device cpu] [--precision no] [--compile]

Steps of 32 clips at the demo's sizes are those of `mmpsr train` with `configs/demo.toml`, from zeroed gradients to the
averaged weights. `--before` is a checkout of this repository at another commit: its steps are taken in turn with this
one's, in processes of their own.

The other model has the published sizes: inputs 1024/1536/1536/1536, hidden 512, three tasks, both branches. Steps with
GradNorm are compared with the same model under fixed weights (also compiled, with `--compile`), under GradNorm by one
backward pass for each of the six losses, and with the machine's floor: the forward and backward products (71.4 million
multiply-adds a clip) at the rate of a large matrix product, and the optimizer's bytes at the rate of a large copy, both
measured in the same run.
All variants take turns, so that other work on the machine falls on all of them. With one thread on a CPU what counts is
processor time, else time on the clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from mmpsr.balancing.base import BalancingConfig
from mmpsr.balancing.build import create_balancer
from mmpsr.batch import Batch
from mmpsr.models.mcdm import MCDM, ModelConfig
from mmpsr.objective.objective import Objective, ObjectiveConfig
from mmpsr.tasks import BUILTIN_TASKS
from training.config import TrainingConfig
from training.data.joined import JoinedCorpora
from training.fit import loop
from training.fit import step as steps
from training.fit.state import TrainState
from training.fit.views import compile_model
from training.published_config import load_run_config

try:
    from mmpsr.models.fused import FusedMCDM, FusedPass
    from mmpsr.models.fused_trunk import Trunk
except ImportError:  # of a checkout before them, which `--serve` runs
    FusedMCDM = None

ROOT = Path(__file__).parents[2]
DEMO_WIDTHS = {"video": 116, "audio": 50, "text": 768, "behavior": 768}
DEMO_GOAL, GRADNORM_GOAL = 0.5, 1.12
FLOOR_GOALS = {32: 2.0, 256: 1.6}
WIDTHS = {"video": 1024, "audio": 1536, "text": 1536, "behavior": 1536}
MULTIPLY_ADDS = 71.4e6
OPTIMIZER_FLOATS = 7  # weight, gradient and two moments read; weight and moments written


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def milliseconds(call: Callable[[], object], device: str) -> float:
    """Time of one call."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    synchronize(device)
    began = clock()
    call()
    synchronize(device)
    return 1e3 * (clock() - began)


def make_batch(num_clips: int, device: str) -> Batch:
    """Random clips with all modalities, each labelled for one task."""
    generator = torch.Generator().manual_seed(0)
    owner = torch.randint(0, len(BUILTIN_TASKS), (num_clips, 1), generator=generator)
    labels = {
        task: torch.where(owner == index, torch.rand(num_clips, spec.num_outputs, generator=generator), torch.nan)
        for index, (task, spec) in enumerate(BUILTIN_TASKS.items())
    }
    features = {name: torch.randn(num_clips, width, generator=generator) for name, width in WIDTHS.items()}
    return Batch(
        {name: values.to(device) for name, values in features.items()},
        torch.ones(num_clips, len(WIDTHS), dtype=torch.bool, device=device),
        {task: values.to(device) for task, values in labels.items()},
    )


class Trainer:
    """One variant of a step, with weights of its own."""

    def __init__(
        self, method: str, one_pass: bool, accelerator: Accelerator, device: str, compiled: bool = False
    ) -> None:
        torch.manual_seed(0)
        config = ModelConfig(hidden_width=512, head_width=512)
        self.model = MCDM(WIDTHS, BUILTIN_TASKS, config).to(device).train()
        self.objective = Objective(BUILTIN_TASKS, ObjectiveConfig(), {}).to(device)
        self.balancer = create_balancer(self.objective.keys, BalancingConfig(method=method)).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)
        self.one_pass, self.accelerator = one_pass, accelerator
        self.compiled = compile_model(self.model) if compiled else None
        self.fused = {"fused": FusedMCDM([self.model])} if FusedMCDM and one_pass and not compiled else {}
        self.count = 0

    def step(self, batch: Batch) -> None:
        """Take a step."""
        self.count += 1  # the conflicts of losses are looked at in every so many steps alone
        self.optimizer.zero_grad(set_to_none=True)
        with patch.object(MCDM, "one_pass", self.one_pass):
            steps.training_step(
                self.model, self.objective, self.balancer, batch, self.accelerator,
                step=self.count, compiled=self.compiled, **self.fused,
            )  # fmt: skip
        self.optimizer.step()


class DemoTrainer:
    """Steps of the demo's training, on random clips of its three corpora."""

    def __init__(self, num_clips: int = 400) -> None:
        can_fuse = "fused" in TrainingConfig.model_fields  # which a checkout of before has not
        settings = ["model.linear_path={}", *(["training.fused=true"] if can_fuse else [])]
        self.config, _ = load_run_config(ROOT / "configs" / "demo.toml", settings)
        tasks, generator = self.config.tasks.resolve(), torch.Generator().manual_seed(0)
        owner = torch.arange(num_clips).unsqueeze(1) % len(tasks)
        labels = {}
        for index, (task, spec) in enumerate(tasks.items()):
            values = torch.rand(num_clips, spec.num_outputs, generator=generator)
            values = values if spec.kind == "regression" else (values == values.amax(dim=1, keepdim=True)).float()
            labels[task] = torch.where(owner == index, values, torch.nan)
        features = {name: torch.randn(num_clips, width, generator=generator) for name, width in DEMO_WIDTHS.items()}
        corpora = np.array(self.config.corpora.trained())[owner.squeeze(1).numpy()]
        clips = pd.DataFrame({"corpus": corpora, "split": "train", "clip_id": range(num_clips), "group": corpora})
        presence = torch.ones(num_clips, len(features), dtype=torch.bool)
        self.joined, self.draws = JoinedCorpora(clips, features, presence, labels), np.random.default_rng(0)
        model = loop.build_model(self.config, self.joined, tasks)
        self.state = TrainState.create(model, self.config, self.joined, 10_000)
        self.accelerator = Accelerator(cpu=True)
        model.train()

    def step(self, num_clips: int) -> None:
        """Take a step."""
        rows = self.draws.choice(len(self.joined.clips), num_clips, replace=False)
        loop._take_step(self.state, [rows], self.joined, self.config.training, self.accelerator)


class Checkout:
    """A process that takes the demo's steps with the code of a checkout.

    Args:
        folder: of the checkout.
    """

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], env=environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip

    def milliseconds(self, num_clips: int) -> float:
        """Take a step, and give its processor time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(num_clips, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("a checkout's steps failed; its message stands above")
        return float(answer)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def serve() -> None:
    """Answer each number of clips on standard input with the milliseconds of a step."""
    torch.set_num_threads(1)
    trainer = DemoTrainer()
    for line in sys.stdin:
        print(milliseconds(partial(trainer.step, int(line)), "cpu"), flush=True)


def demo_table(before: Path | None, rounds: int) -> Table:
    """Take the demo's steps of this checkout, and in turn of another."""
    checkouts = {"now": Checkout(ROOT)} | ({"before": Checkout(before)} if before else {})
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(4 * rounds + 8):
        for name, checkout in checkouts.items():
            took = checkout.milliseconds(32)
            if number >= 8:
                times[name].append(took)
    for checkout in checkouts.values():
        checkout.close()
    table = Table("a step of 32 clips, demo", "ms (median)", "ms (least)", "x before", "goal")
    for name, found in times.items():
        ratio = median(found) / median(times["before"]) if before else float("nan")
        table.add_row(name, f"{median(found):.1f}", f"{min(found):.1f}", f"{ratio:.2f}", str(DEMO_GOAL))
    return table


@contextmanager
def parts(trainer: Trainer, device: str) -> Iterator[dict[str, float]]:
    """Milliseconds by part of the steps inside."""
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **kwargs: object) -> object:
            kept = SimpleNamespace(result=None)

            def run() -> None:
                kept.result = call(*args, **kwargs)

            spent[name] += milliseconds(run, device)
            return kept.result

        return wrapped

    model = trainer.model
    with (
        patch.object(model, "encode", timed("forward, shared", model.encode)),
        patch.object(model, "predict", timed("forward, tasks", model.predict)),
        patch.object(Trunk, "forward", timed("forward, shared", Trunk.forward)),
        patch.object(FusedPass, "predict", timed("forward, tasks", FusedPass.predict)),
        patch.object(trainer.objective, "terms", timed("losses", trainer.objective.terms)),
        patch.object(torch.autograd, "grad", timed("backward, tasks", torch.autograd.grad)),
        patch.object(Trunk, "backward", timed("backward, shared", Trunk.backward)),
        patch.object(steps, "trunk_squared_norms", timed("gradient norms", steps.trunk_squared_norms)),
        patch.object(steps, "squared_norms", timed("gradient norms", steps.squared_norms)),
        patch.object(trainer.balancer, "update", timed("balancer", trainer.balancer.update)),
        patch.object(Trunk, "form", timed("weight gradients, shared", Trunk.form)),
        patch.object(steps, "form_gradients", timed("weight gradients, shared", steps.form_gradients)),
        patch.object(FusedPass, "form", timed("weight gradients, tasks", FusedPass.form)),
        patch.object(trainer.optimizer, "step", timed("optimizer", trainer.optimizer.step)),
    ):
        yield spent


def floor(num_clips: int, num_parameters: int, device: str) -> float:
    """Least milliseconds of a step: the model's products and the optimizer's bytes at the machine's rates."""
    size = 2048 if device == "cpu" else 8192
    left, right = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    source = torch.randn(1 << 26, device=device)
    target = torch.empty_like(source)
    product = min(milliseconds(lambda: torch.mm(left, right), device) for _ in range(4))
    copy = min(milliseconds(lambda: target.copy_(source), device) for _ in range(4))
    flops, floats = size**3 / product, 2 * source.numel() / copy
    return num_clips * MULTIPLY_ADDS / flops + num_parameters * OPTIMIZER_FLOATS / floats


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 256, 2048], help="clips of a batch")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each variant")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["no", "bf16"], default="no")
    parser.add_argument("--compile", action="store_true", help="also the compiled model")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU, for the published sizes")
    parser.add_argument("--before", type=Path, help="a checkout at another commit")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve()
    console = Console(width=110)
    console.print(demo_table(arguments.before, arguments.rounds))
    torch.set_num_threads(arguments.threads)
    device = arguments.device
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=arguments.precision)
    trainers = {
        "fixed weights": Trainer("equal", True, accelerator, device),
        "gradnorm": Trainer("gradnorm", True, accelerator, device),
        "gradnorm, six passes": Trainer("gradnorm", False, accelerator, device),
    }
    if arguments.compile:
        trainers["fixed weights, compiled"] = Trainer("equal", True, accelerator, device, compiled=True)
    num_parameters = sum(each.numel() for each in trainers["gradnorm"].model.parameters())
    table = Table("clips", "variant", "ms (median)", "ms (least)", "x fixed", "x floor", "x six passes", "goal")
    detail = Table("part of a gradnorm step (ms)", *map(str, arguments.sizes))
    spent_by_size: list[dict[str, float]] = []
    for num_clips in arguments.sizes:
        batch = make_batch(num_clips, device)
        rounds = max(3, arguments.rounds * 32 // max(32, num_clips // 8))
        times: dict[str, list[float]] = defaultdict(list)
        floors = []
        for number in range(rounds + 2):
            for name, trainer in trainers.items():
                took = milliseconds(partial(trainer.step, batch), device)
                if number >= 2:
                    times[name].append(took)
            if number % 3 == 0:
                floors.append(floor(num_clips, num_parameters, device))
        least = min(floors)
        typical = {name: median(found) for name, found in times.items()}
        goals = {"gradnorm": f"{GRADNORM_GOAL} x fixed"}
        if num_clips in FLOOR_GOALS:
            goals["gradnorm"] += f", {FLOOR_GOALS[num_clips]} x floor"
        for name, found in times.items():
            table.add_row(
                str(num_clips),
                name,
                f"{typical[name]:.1f}",
                f"{min(found):.1f}",
                f"{typical[name] / typical['fixed weights']:.2f}",
                f"{typical[name] / least:.2f}",
                f"{typical[name] / typical['gradnorm, six passes']:.2f}",
                goals.get(name, ""),
            )
        table.add_row(str(num_clips), "floor", f"{least:.1f}", end_section=True)
        with parts(trainers["gradnorm"], device) as spent:
            for _ in range(rounds):
                trainers["gradnorm"].step(batch)
        spent_by_size.append({name: value / rounds for name, value in spent.items()})
    for name in spent_by_size[0]:
        detail.add_row(name, *(f"{spent[name]:.1f}" for spent in spent_by_size))
    console.print(table)
    console.print(detail)


if __name__ == "__main__":
    main()

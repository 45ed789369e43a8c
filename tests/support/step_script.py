"""Training steps on one global batch, in however many processes it is launched; gradients and weights are saved."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from mmpsr.balancing.build import create_balancer
from mmpsr.objective.objective import Objective
from tests.support import joined as small
from training.fit.checkpoint import save_tensors
from training.fit.loop import build_model
from training.fit.step import sum_gradients, training_step

BALANCING = [
    {"method": method}
    for method in ("equal", "fixed", "gradnorm", "uncertainty", "dwa", "random", "pcgrad", "cagrad", "aligned_mtl")
] + [{"method": "imtl_g"}, {"method": "mgda"}, {"method": "upgrad"}, {"method": "gradnorm", "cost": "last_layer"}]
SEMI_SUPERVISION = [
    {"method": method, "regression": "none"} for method in ("none", "soft", "adaptive", "consistency", "mean_teacher")
]
CASES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    **{"-".join(map(str, balancing.values())): (balancing, {"method": "paper"}) for balancing in BALANCING},
    **{f"gradnorm-{semi['method']}": ({"method": "gradnorm"}, semi) for semi in SEMI_SUPERVISION},
}


def take_steps(accelerator: Accelerator, name: str) -> dict[str, torch.Tensor]:
    """Gradients of the last of three steps, and losses, counts and weights after it."""
    torch.manual_seed(0)
    balancing, semi_supervision = CASES[name]
    config = small.config(
        model={"hidden_width": 16, "head_width": 16, "num_heads": 2, "dropout": 0.0, "graph_dropout": 0.0},
        balancing={**balancing, "rate_supervised": 0.1, "rate_pseudo": 0.1},
        tasks={"specs": {"emotion": {"threshold": 0.5}, "ambivalence": {"threshold": 0.5}}},
        # every modality but one is hidden, of two: no random number decides which
        semi_supervision={**semi_supervision, "hide_rate": 1.0},
    )
    clips, tasks = small.joined(), config.tasks.resolve()
    model = build_model(config, clips, tasks).train()
    teacher = build_model(config, clips, tasks).eval() if semi_supervision["method"] == "mean_teacher" else None
    objective = Objective(tasks, config.objective, clips.labels, config.semi_supervision)
    balancer = create_balancer(objective.keys, config.balancing)
    semi = objective.semi_supervision
    if semi is not None and semi.needs_strong_view:
        semi.strong_view = lambda batch: batch.with_presence(one_modality(batch.presence))
    rows = torch.arange(0, 170, 5)[accelerator.process_index :: accelerator.num_processes]
    for step in range(3):
        model.zero_grad()
        result = training_step(
            model, objective, balancer, clips.batch(rows), accelerator, step=step, teacher=teacher
        )  # fmt: skip
        sum_gradients(model, accelerator)
        if step < 2:
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.05 * parameter.grad
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    found = {"losses": result.losses, "counts": result.counts, "weights": result.weights}
    found |= {f"accepted.{task}": values for task, values in result.accepted.items()}
    return {**gradients, **found, **{f"objective.{key}": value for key, value in objective.state_dict().items()}}


def one_modality(presence: torch.Tensor) -> torch.Tensor:
    """The first present modality of every clip alone."""
    return presence & (presence.cumsum(dim=1) == 1)


if __name__ == "__main__":
    launched = Accelerator(cpu=True)
    for case in CASES:
        found = take_steps(launched, case)
        if launched.is_main_process:
            save_tensors(found, Path(sys.argv[1]) / f"{case}.safetensors")
    launched.end_training()

"""Two training steps on one global batch, in however many processes it is launched; gradients and weights are saved."""

import sys
from pathlib import Path

import joined as small
import torch
from accelerate import Accelerator

from mmpsr.balancing import create_balancer
from mmpsr.objective import Objective
from training.checkpoint import save_tensors
from training.loop import build_model
from training.step import training_step


def take_steps(accelerator: Accelerator, method: str) -> dict[str, torch.Tensor]:
    """Gradients of the second step and the task weights after it."""
    torch.manual_seed(0)
    config = small.config(
        model={"hidden_width": 16, "head_width": 16, "num_heads": 2, "dropout": 0.0, "graph_dropout": 0.0},
        balancing={"method": method, "rate_supervised": 0.1, "rate_pseudo": 0.1},
        tasks={"specs": {"emotion": {"threshold": 0.5}, "ambivalence": {"threshold": 0.5}}},
    )
    clips, tasks = small.joined(), config.tasks.resolve()
    model = build_model(config, clips, tasks).train()
    objective = Objective(tasks, config.objective, clips.labels)
    balancer = create_balancer(objective.keys, config.balancing)
    rows = torch.arange(0, 170, 5)[accelerator.process_index :: accelerator.num_processes]
    for _ in range(2):
        result = training_step(model, objective, balancer, clips.batch(rows), accelerator)
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {**gradients, "losses": result.losses, "counts": result.counts, "weights": result.weights}


if __name__ == "__main__":
    launched = Accelerator(cpu=True)
    for name in ("equal", "gradnorm"):
        found = take_steps(launched, name)
        if launched.is_main_process:
            save_tensors(found, Path(sys.argv[1]) / f"{name}-{launched.num_processes}.safetensors")
    launched.end_training()

"""Which runs can be trained as one stack, and why one cannot."""

from __future__ import annotations

import json
from typing import Any

import torch

from mmpsr.config import split_key
from mmpsr.models.config import ModelConfig
from mmpsr.objective.config import STRONG_VIEW
from mmpsr.objective.pseudo_labels import ADAPTIVE
from training.config import RunConfig

__all__ = ["may_differ", "most_together", "reason_alone", "stack_key"]

MOST, MOST_ON_GPU = 5, 16

OWN = {
    "training": {
        "seed", "num_epochs", "patience", "monitor", "calibration", "modality_dropout", "checkpoint_steps", "lr",
        "weight_decay", "momentum", "scheduler", "warmup_steps", "final_fraction", "max_gradient_norm",
        "weight_averaging",
    },
    "model": {"dropout", "graph_dropout"},
    "balancing": {
        "weights", "pseudo_weight", "alpha_supervised", "alpha_pseudo", "rate_supervised", "rate_pseudo",
        "weight_floor", "renormalize", "every",
    },
    "data": {"sampling", "temperature", "num_labeled"},
}  # fmt: skip
"""Settings that each run of a stack has of its own, by section; `corpora` and `output` are its own altogether."""
GRAPHS = ("none", "ucgnn", "gat", "edgnn", "hgnn")


def may_differ(name: str) -> bool:
    """Tell whether runs of a stack that train on the same clips may differ in a field.

    Example:
        >>> may_differ("training.lr"), may_differ("balancing.weights.emotion"), may_differ("model.hidden_width")
        (True, True, False)
    """
    section, name = split_key(name)[:2]
    return name in OWN.get(section, ()) and name != "num_labeled"


def most_together() -> int:
    """Tell how many runs a stack has at most; on a CPU larger ones save nothing, and share work less evenly."""
    return MOST_ON_GPU if torch.cuda.is_available() else MOST


def reason_alone(config: RunConfig) -> str | None:
    """Say why a run is trained alone, None where it can be part of a stack.

    Example:
        >>> reason_alone(RunConfig(training={"compile": True}, balancing={"method": "equal"}))
        'training.compile'
    """
    model, settings, semi = config.model, config.training, config.semi_supervision
    if not isinstance(model, ModelConfig):
        return f"model.kind = {model.kind}"
    if model.graph not in GRAPHS:
        return f"model.graph = {model.graph}"
    if model.graph == "ucgnn" and model.graph_options.form == "lie":
        return "model.graph_options.form = lie"
    if model.guides != "learned":
        return f"model.guides = {model.guides}"
    if semi.method in (*ADAPTIVE, *STRONG_VIEW, "propagation", "prototypes"):
        return f"semi_supervision.method = {semi.method}"
    if semi.method != "none" and semi.align_distribution:
        return "semi_supervision.align_distribution"
    if semi.method != "none" and semi.probability < 1:
        return "semi_supervision.probability"
    if others := set(config.output.trackers) - {"tensorboard"}:  # which allow one run at a time in a process
        return f"output.trackers = {', '.join(sorted(others))}"
    if config.output.callbacks:  # an error of which is one run's
        return "output.callbacks"
    if settings.compile:
        return "training.compile"
    if settings.accumulation > 1:
        return "training.accumulation"
    return None if settings.mixed_precision == "no" else "training.mixed_precision"


def stack_key(config: RunConfig) -> str:
    """Name what runs of a stack have in common: equal keys, one shape and one kind of step.

    Example:
        >>> seeds = [RunConfig(training={"seed": seed, "lr": 1e-4 * (seed + 1)}) for seed in (0, 1)]
        >>> len({stack_key(config) for config in seeds})
        1
    """
    tree: dict[str, Any] = config.model_dump(mode="json", exclude={"corpora", "output"})
    tree["features"] = {"encoders": tree["features"]["encoders"], "sequences": tree["features"]["sequences"]}
    tree["averages"] = config.training.weight_averaging > 0
    for section, names in OWN.items():
        tree[section] = {name: value for name, value in tree[section].items() if name not in names}
    return json.dumps(tree, sort_keys=True)

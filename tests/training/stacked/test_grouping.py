"""What can be trained as one stack, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import joined as small
from training.stacked.grouping import reason_alone, stack_key


@pytest.mark.parametrize(
    ("section", "values", "same"),
    [
        ("training", {"seed": 3, "lr": 1e-2, "patience": 2, "scheduler": "cosine", "modality_dropout": 0.1}, True),
        ("balancing", {"alpha_supervised": 0.5, "pseudo_weight": 0.2}, True),
        ("model", {"dropout": 0.5, "graph_dropout": 0.0}, True),
        ("output", {"name": "other"}, True),
        ("model", {"hidden_width": 32}, False),
        ("training", {"batch_size": 8}, False),
        ("training", {"weight_averaging": 0.9}, False),
        ("balancing", {"method": "equal"}, False),
        ("objective", {"label_smoothing": 0.1}, False),
        ("tasks", {"active": ["emotion"]}, False),
        ("data", {"modalities": ["text"]}, False),
    ],
)
def test_runs_of_one_shape_have_one_key(section: str, values: dict[str, Any], same: bool) -> None:
    base: dict[str, dict[str, Any]] = {
        "model": {"hidden_width": 16, "head_width": 16, "num_heads": 2},
        "training": {"batch_size": 16},
    }
    changed = {**base, section: {**base.get(section, {}), **values}}
    assert (stack_key(small.config(**base)) == stack_key(small.config(**changed))) == same


@pytest.mark.parametrize(
    ("section", "values", "reason"),
    [
        ("training", {}, None),
        ("training", {"fused": True}, None),
        ("output", {"trackers": ["tensorboard", "wandb"]}, "output.trackers = wandb"),
        ("training", {"accumulation": 2}, "training.accumulation"),
        ("training", {"mixed_precision": "bf16"}, "training.mixed_precision"),
        ("model", {"graph": "ncgnn"}, "model.graph = ncgnn"),
        ("model", {"graph_options": {"form": "lie"}}, "model.graph_options.form = lie"),
        ("model", {"kind": "conflict_aware"}, "model.kind = conflict_aware"),
        ("semi_supervision", {"method": "adaptive"}, "semi_supervision.method = adaptive"),
        ("semi_supervision", {"method": "prototypes"}, "semi_supervision.method = prototypes"),
        ("semi_supervision", {"probability": 0.5}, "semi_supervision.probability"),
        ("semi_supervision", {"method": "none", "probability": 0.5}, None),
    ],
)
def test_what_is_trained_alone_and_why(section: str, values: dict[str, Any], reason: str | None) -> None:
    tree: dict[str, dict[str, Any]] = {section: values}
    if values.get("kind") == "conflict_aware":
        tree = {"model": {"kind": "conflict_aware", "num_heads": None}}
        tree["model"].pop("num_heads")
        config = small.config()
        config = type(config).model_validate({**config.model_dump(), "model": {"kind": "conflict_aware"}})
    else:
        config = small.config(**tree)
    assert reason_alone(config) == reason

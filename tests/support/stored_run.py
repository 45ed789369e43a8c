"""A small finished run on disk, written by the pipeline's own last step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mmpsr.config import validate
from tests.support import joined as small
from training import pipeline
from training.config import RunConfig
from training.evaluation import correlations
from training.evaluation import figures as detailed_evaluation
from training.fit.checkpoint import save_tensors
from training.fit.loop import build_model
from training.linear.late import create_baseline
from training.runs.directory import RunDirectory


@contextmanager
def few_resamples() -> Iterator[None]:
    """Intervals are made of few resamples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detailed_evaluation, "NUM_RESAMPLES", 50)
        patch.setattr(correlations, "NUM_RESAMPLES", 20)
        yield


def finish(folder: Path, seed: int = 0, apart: bool = False, **sections: Any) -> Path:
    """Evaluate an untrained model on the small corpora; ten clips share a group, and MELD has no test split.

    Args:
        folder: of all runs.
        seed: of the model's weights.
        apart: no split shares a group with another.
        sections: of the configuration, over those of `joined.config`.
    """
    tree = small.config(output={"directory": str(folder)}, **sections).model_dump(mode="json")
    tree["training"]["seed"] = seed
    tree["corpora"]["root"] = str(folder / "corpora")
    tree["corpora"]["sources"]["meld"]["metrics"] = {"emotion": ["macro_f1", "weighted_f1", "uar"]}
    config, clips = validate(RunConfig, tree, "test"), small.joined()
    tasks = config.tasks.resolve()
    clips.clips["group"] = [f"group{row // 10}" for row in range(len(clips.clips))]
    if apart:
        clips.clips["group"] += clips.clips["split"]
    clips.clips.loc[clips.clips["corpus"].eq("meld") & clips.clips["split"].eq("test"), "split"] = "dev"
    run = RunDirectory.create(config, "small")
    run.write_json("features.json", {"text": "letters-0", "audio": "noise-0"})
    baseline = create_baseline(config, clips, tasks)
    model = build_model(config, clips, tasks, baseline)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # too sure of everything, so that temperatures are fitted
    save_tensors(dict(model.state_dict()), run.best)
    pipeline.finish_run(config, model, clips, tasks, run, baseline)
    return run.path

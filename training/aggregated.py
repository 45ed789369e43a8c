"""Figures of what several clips make up together: a video of its frames, a dialogue of its utterances.

Probabilities and scores are averaged over the clips. What such a whole is labelled: of two classes the last (`present`)
where any clip is; of more the most frequent, of equally frequent ones the first; of several labels each at its
strongest; of a regression the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from training.detailed_evaluation import figure_rows
from training.stored_predictions import Part, RunError

__all__ = ["aggregate", "aggregated_rows"]


def aggregate(part: Part, values: pd.Series) -> Part:
    """The wholes that clips belong to, in the order of their names; `clip_id` is the whole's name.

    Args:
        part: clips of one corpus and split.
        values: each clip's whole; clips without one stay for themselves.

    Raises:
        RunError: clips of a whole are of several groups.
    """
    clips = part.clips.assign(clip_id=values.astype("string").fillna(part.clips["clip_id"]).to_numpy())
    several = clips.groupby("clip_id")["group"].nunique()
    if several.gt(1).any():
        raise RunError(
            f"--aggregate: {several.index[several.gt(1)][0]!r} of {part.corpus} has clips of several groups, so that "
            "intervals by group have no meaning; name a column whose values lie within groups"
        )
    codes = pd.factorize(clips["clip_id"], sort=True)[0]
    columns = [f"class{index}" for index in range(part.spec.num_outputs)]
    means, strongest = [
        pd.DataFrame(array, columns=columns).groupby(codes).agg(how).to_numpy()
        for array, how in ((part.predicted, "mean"), (part.targets, "max"))
    ]
    shares = pd.DataFrame(part.targets, columns=columns).groupby(codes).mean().to_numpy()
    if part.spec.kind == "regression":
        targets = shares
    elif part.spec.kind == "multi_label":
        targets = strongest
    else:
        label = np.where(strongest[:, -1] > 0, 1, 0) if part.spec.num_outputs == 2 else shares.argmax(axis=1)
        targets = np.eye(part.spec.num_outputs)[label]
    wholes = clips.assign(code=codes).drop_duplicates("code").sort_values("code").drop(columns="code")
    return replace(part, clips=wholes.reset_index(drop=True), targets=targets, predicted=means)


def aggregated_rows(part: Part, values: pd.Series) -> Iterator[dict[str, Any]]:
    """Figures of the wholes, as `figure_rows`, with `num_wholes` beside `num_clips`."""
    whole = aggregate(part, values)
    for row in figure_rows(whole):
        yield {**row, "num_clips": len(part.clips), "num_wholes": len(whole.clips)}

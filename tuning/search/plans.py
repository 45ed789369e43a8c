"""Which trials a search needs, given what those that are finished found."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuning.search.space import Dimension, Label, SearchConfig

__all__ = ["GridPlan", "Plan", "SampledPlan", "make_plan"]

Slot = tuple[str, dict[str, Label] | None]
"""Name of a trial that a search needs, and its labels by dimension; None where a sampler chooses them."""


@dataclass(frozen=True)
class SampledPlan:
    """So many trials, whose values are drawn, or left to a sampler.

    Attributes:
        num_trials: how many.
        drawn: what is drawn from; empty where a sampler chooses.
        seed: of the draws; a trial's depend on it and the trial's place alone.
    """

    num_trials: int
    drawn: Sequence[Dimension] = ()
    seed: int = 0

    def needed(self, figures: Mapping[str, float | None]) -> Iterator[Slot]:
        """Slots that are not finished; see `GridPlan.needed`."""
        for number in range(self.num_trials):
            if str(number) not in figures:
                generator = np.random.default_rng([self.seed, number])
                labels = {dimension.name: dimension.draw(generator) for dimension in self.drawn}
                yield str(number), labels or None


@dataclass(frozen=True)
class GridPlan:
    """Stages, each the grid of some dimensions, with all others at the best found before, or where the search starts.

    A combination that an earlier stage has tried is not tried again; of equal figures the earlier combination is best.

    Attributes:
        stages: dimensions by stage.
    """

    stages: Sequence[Sequence[Dimension]]

    def needed(self, figures: Mapping[str, float | None]) -> Iterator[Slot]:
        """Slots of the first stage that is not finished; none where all are.

        Args:
            figures: by finished slot its dev figure, None for one without.
        """
        best = {each.name: each.base for stage in self.stages for each in stage if each.base is not None}
        highest = -np.inf
        for stage in self.stages:
            is_finished, start = True, dict(best)
            for labels in itertools.product(*(dimension.grid for dimension in stage)):
                chosen = {**start, **{each.name: label for each, label in zip(stage, labels, strict=True)}}
                name = json.dumps(chosen, sort_keys=True)
                if name not in figures:
                    is_finished = False
                    yield name, chosen
                    continue
                figure = figures[name]
                if figure is not None and figure > highest:
                    best, highest = chosen, figure
            if not is_finished:
                return


Plan = SampledPlan | GridPlan


def make_plan(search: SearchConfig, found: Sequence[Dimension]) -> Plan:
    """The plan of a search over these dimensions."""
    if search.num_trials is not None:
        return SampledPlan(search.num_trials, found if search.method == "random" else (), search.seed)
    if search.method == "grid":
        return GridPlan([found])
    by_name = {dimension.name: dimension for dimension in found}
    return GridPlan([[by_name[name] for name in stage] for stage in search.stages or [(each,) for each in by_name]])

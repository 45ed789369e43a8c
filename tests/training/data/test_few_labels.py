"""Labels hidden for learning curves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmpsr.config import ConfigError
from tests.support import joined as small
from training.data.few_labels import keep_labels
from training.data.joined import JoinedCorpora


def clips() -> JoinedCorpora:
    """Groups of three neighbouring clips."""
    joined = small.joined()
    return replace(joined, clips=joined.clips.assign(group=[f"group{i // 15}" for i in range(len(joined.clips))]))


def kept(joined: JoinedCorpora, task: str = "emotion", seed: int = 0, **numbers: int) -> set[int]:
    """Rows of the train split that have a label of the task."""
    config = small.config(data={"num_labeled": numbers}, training={"seed": seed})
    labels = keep_labels(joined, config).labels[task]
    rows = joined.rows(["mosei", "fiv2", "bah"], "train")
    return set(rows[torch.isfinite(labels[rows]).any(dim=1)].tolist())


def test_so_many_labels_stay_by_whole_groups_and_fewer_are_among_more() -> None:
    joined = clips()
    groups = joined.clips["group"]
    everything = kept(joined)
    before: set[int] = set()
    for number in (1, 5, 9, 20, 36):
        rows = kept(joined, emotion=number)
        assert len(rows) == number
        assert before <= rows <= everything
        cut = [g for g in {groups[row] for row in rows} if not {row for row in everything if groups[row] == g} <= rows]
        assert len(cut) <= 1
        before = rows
    assert kept(joined, emotion=36) == everything  # 60 clips of MOSEI, three of five in train
    assert kept(joined, emotion=9) == kept(joined, emotion=9)
    assert len({frozenset(kept(joined, seed=seed, emotion=9)) for seed in range(4)}) > 1


def test_nothing_else_changes() -> None:
    joined = clips()
    config = small.config(data={"num_labeled": {"emotion": 4}})
    found = keep_labels(joined, config)
    train = joined.rows(["mosei", "fiv2", "bah"], "train")
    others = torch.ones(len(joined.clips), dtype=torch.bool)
    others[train] = False
    for task, labels in joined.labels.items():
        untouched = others if task == "emotion" else torch.ones_like(others)
        assert torch.equal(torch.nan_to_num(found.labels[task][untouched], -1), torch.nan_to_num(labels[untouched], -1))
    assert len(found.clips) == len(joined.clips)
    assert torch.isfinite(joined.labels["emotion"][train]).any(dim=1).sum() == 36  # and what was given stays


def test_more_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"data.num_labeled.emotion = 37, and 36 training clips have a label"):
        kept(clips(), emotion=37)


def test_tasks_are_known_and_active() -> None:
    with pytest.raises(ConfigError, match=r"data.num_labeled: no task is named 'emotoin'"):
        small.config(data={"num_labeled": {"emotoin": 3}})
    joined = clips()
    less = replace(joined, labels={"emotion": joined.labels["emotion"]})
    with pytest.raises(ConfigError, match=r"'personality' is not among the active tasks \(emotion\)"):
        keep_labels(less, small.config(data={"num_labeled": {"personality": 3}}))

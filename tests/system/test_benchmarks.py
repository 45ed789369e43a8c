"""The benchmarks are commands that work, and what they show of seeking holds in frames, not only in seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmpsr.tasks import BUILTIN_TASKS

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(FOLDER))


def said(command: str, *arguments: str) -> str:
    """What a benchmark prints, on one line."""
    finished = subprocess.run(
        [sys.executable, str(FOLDER / command), *arguments], capture_output=True, text=True, timeout=270
    )
    assert finished.returncode == 0, finished.stderr
    return " ".join(finished.stdout.split())


@pytest.mark.parametrize(("key_frame_every", "most"), [(250, 60), (10, 40)])
def test_seeking_decodes_fewer_frames_than_reading_through(tmp_path: Path, key_frame_every: int, most: int) -> None:
    from extraction_speed import read_seeking, read_through
    from talking_clips import write_clip

    write_clip(tmp_path / "a.mp4", 3.0, 120, key_frame_every=key_frame_every)
    sought, num_decoded = read_seeking(tmp_path / "a.mp4", 5)
    through, num_in_all = read_through(tmp_path / "a.mp4", 5)
    assert num_in_all == 90  # 3 s at 30 per second
    # without a key frame to seek to, about half of the frames are needed by others; with one every 10 frames, what
    # lies between the key frame and the moment is: at most 10 frames, for each of 5 moments, and a few held back
    assert num_decoded <= most
    np.testing.assert_array_equal(sought, through)


def test_stages_count_what_is_inside_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import stage_timer as module

    clock = iter([0.0, 1.0, 3.0, 4.0, 9.0, 10.0])  # outer begins; inner 1 to 3; inner 4 to 9; outer ends at 10
    monkeypatch.setattr(module.time, "process_time", lambda: next(clock))
    stages = module.Stages()
    inner = stages.timed("inner", lambda: None)
    stages.timed("outer", lambda: (inner(), inner()))()
    assert stages.seconds == {"inner": 7.0, "outer": 3.0}


@pytest.mark.slow
def test_views_are_measured_on_groups_that_training_does_not_have() -> None:
    from views import folds, measure

    rng = np.random.default_rng(0)
    groups = np.repeat([f"film{number}" for number in range(40)], 3)
    for train, test in folds(groups, 5, 0):
        assert not set(groups[train]) & set(groups[test])
        assert len(test) == 24  # a fifth of 120, in whole groups
    told, noise, scores = rng.normal(size=(120, 2)), rng.normal(size=(120, 2)), BUILTIN_TASKS["personality"]
    labels = told @ [[1.0, -2.0], [3.0, 1.0]] / 20 + 0.5
    np.testing.assert_allclose(measure([told], labels, groups, scores)[:, 0], 100, atol=0.1)  # linear in the view
    assert measure([noise, told], labels, groups, scores).min() > 99  # late takes the one that tells
    emotions = measure([told], (labels > 0.5) * 0.25, groups, BUILTIN_TASKS["emotion"])
    assert emotions.shape == (5, 2)
    assert emotions.mean() > 90


@pytest.mark.slow
def test_the_extraction_benchmark_prints_its_tables() -> None:
    sizes = ("--clips", "2", "--seconds", "2", "--height", "160", "--frames", "4", "--lengths", "2")
    text = said("extraction_speed.py", *sizes)
    for stage in ("open", "decode video", "find faces", "decode audio", "egemaps", "embed text", "store", "in all"):
        assert stage in text
    assert re.search(r"without start-up, by processor time: \d+\.\d times real time on 2 cores", text)
    assert re.search(r"extract with 2 workers and their start: \d+\.\d s wall", text)
    assert re.search(r"2 s │ 250 frames │ 60 │ \d+ │", text)  # 2 s at 30 per second


@pytest.mark.slow
def test_the_memory_benchmark_prints_its_table() -> None:
    text = said("extraction_memory.py", "--clips", "2", "4", "--workers", "1")
    assert re.search(r"│ 4 │ \d+ │ \d+ │ \d+ │ [\d ]+ │ [+-]\d+\.\d% │", text)


@pytest.mark.slow
def test_the_store_benchmark_prints_its_table() -> None:
    text = said("store_sizes.py", "--clips", "360")
    for step in ("writing", "index, opened", "all vectors, read", "compaction", "index after it, opened"):
        assert re.search(rf"{step} │ \d+\.\d\d s, \d+ MB │", text)
    assert re.search(r"claim of the last chunk │ \d+\.\d\d ms │", text)
    assert "parts │ 23 │" in text  # (360 - 20 x 16) / 16 in whole parts, and the 20 that were claimed
    assert "parts after it │ 1 │" in text


@pytest.mark.slow
def test_extraction_and_the_script_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("COLUMNS", "160")
    sizes = ("--clips", "1", "--seconds", "2", "--height", "240", "--without-behavior")
    text = said("extraction_against_script.py", *sizes)
    assert re.search(r"│ plain script │ \d+\.\d │ │ 1\.00 │ \d+\.\d │ │ 1\.00 │", text)
    assert re.search(r"│ video, audio, text │ \d+\.\d │ \d+\.\d │ \d+\.\d\d │ \d+\.\d │ \d+\.\d │", text)


@pytest.mark.slow
def test_the_step_benchmark_prints_its_tables() -> None:
    text = said("step_speed.py", "--sizes", "4", "--rounds", "1")
    for variant in ("fixed weights", "gradnorm", "gradnorm, six passes", "floor"):
        assert re.search(rf"4 │ {variant} │ \d+\.\d", text.replace("gradnorm, six │", "gradnorm, six passes │")), (
            variant
        )
    assert re.search(r"gradient norms │ \d+\.\d", text)


def test_start_is_compared_by_the_quickest_turns() -> None:
    from start_time import Turn, cells, quickest

    assert quickest([Turn(3.0, 5.0, 0.4), Turn(2.0, 9.0, 0.5)]) == Turn(2.0, 5.0, 0.4)
    row = ["predict", "10.00", "5.00", "0.50", "0.55", "8.00", "6.00", "0.75", "0.50 missed", "0.30"]
    assert cells("predict", Turn(5.0, 6.0, 0.3), Turn(10.0, 8.0, 2.0)) == row
    assert cells("help", Turn(0.2, 0.25, 0.1), None) == ["help", "", "0.20", "", "", "", "0.25", "", "", "0.10"]


def test_the_benchmark_of_starts_prints_its_table() -> None:
    here = str(FOLDER.parents[1])
    text = said("start_time.py", "--commands", "help", "--repeats", "1", "--before", here)
    assert re.search(r"help │ \d\.\d\d │ \d\.\d\d │ \d\.\d\d │ │", text), text


def test_novelty_sees_what_lies_too_near_and_distance_alone_does_not() -> None:
    from novelty import measure

    train, dev, others = (np.random.default_rng(seed).normal(size=(60, 40)) for seed in range(3))
    (far, first), (novel, second) = measure(train, dev, 5.0 * others)
    assert (far, first, novel, second) == (1.0, 1.0, 1.0, 1.0)
    (far, first), (novel, second) = measure(train, dev, 0.2 * others)
    assert (far, first) == (0.0, 0.0)
    assert (novel, second) == (1.0, 1.0)


def test_linear_models_of_views_are_those_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression, Ridge
    from text_views import PENALTIES, logits

    rng = np.random.default_rng(0)
    train, others = rng.normal(size=(60, 5)), rng.normal(size=(7, 5))
    mean, std = train.mean(axis=0), train.std(axis=0)
    labels = (train[:, :2] + rng.normal(size=(60, 2)) > 0.5).astype(np.float64)
    logistic, ridge = logits(train, labels, others, "mosei"), logits(train, train[:, :2], others, "fiv2")
    for found, penalty in zip(logistic, PENALTIES["mosei"], strict=True):
        for j in range(2):
            model = LogisticRegression(C=1 / (penalty * 60), class_weight="balanced", tol=1e-8, max_iter=1000)
            expected = model.fit((train - mean) / std, labels[:, j]).decision_function((others - mean) / std)
            np.testing.assert_allclose(found[:, j], expected, atol=5e-3)
    for found, penalty in zip(ridge, PENALTIES["fiv2"], strict=True):
        expected = Ridge(alpha=penalty).fit((train - mean) / std, train[:, :2]).predict((others - mean) / std)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_views_of_tables_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd
    from text_views import LABELS, main

    rng = np.random.default_rng(0)
    words = rng.integers(1, 40, 90)
    table = pd.DataFrame({"video_name": [f"v{i // 3}.{i % 3}" for i in range(90)]})
    table["text"], table["text_llm"] = ["word " * number for number in words], "the same"
    for place, trait in enumerate(LABELS["fiv2"]):
        table[trait] = words / 40 + 0.01 * place
    for split, rows in (("train", table[:60]), ("dev", table[60:])):
        rows.to_csv(tmp_path / f"fiv2_{split}.csv", index=False)
    main(str(tmp_path), "fiv2", ["behavior=stylometry", "text=stylometry"])
    nothing, everything = capsys.readouterr().out.splitlines()
    assert re.match(r"behavior=stylometry: -?\d+\.\d / -?\d+\.\d; \+0\.0 \[0\.0, 0\.0\]", nothing)
    found = re.match(r"text=stylometry: (\d+\.\d) / (\d+\.\d); \+", everything)
    assert found is not None
    assert min(map(float, found.groups())) > 97

"""Lines of training that goes on: plain ones, one that moves in a terminal, and what the loop tells."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from accelerate import Accelerator
from rich.console import Console

from tests.support import joined as small
from training.fit.live import LiveLines, Stand, curve, mean_stand, watching
from training.fit.loop import Course, train
from training.runs.directory import RunDirectory
from training.stacked.loop import train_stacked


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that lines see, in its only entry."""
    now = [100.0]
    monkeypatch.setattr("training.fit.live.monotonic", lambda: now[0])
    return now


def stands(*epochs: float, total: int = 10) -> list[Stand]:
    """Stands of a run whose dev figure is 50 after an epoch and rises by 1 an epoch."""
    return [
        Stand(epoch, total, "dev mean", *((49.0 + int(epoch), 49.0 + int(epoch), int(epoch)) if epoch >= 1 else ()))
        for epoch in epochs
    ]


def test_without_a_terminal_every_epoch_is_a_line(clock: list[float]) -> None:
    out = io.StringIO()
    with watching(Console(file=out, width=40), is_live=True) as watch:
        assert watch is not None
        for stand in stands(0, 0.5, 1.0, 1.5, 2.0):
            watch(stand)
            clock[0] += 3.0
    # 6 s an epoch: after one of ten epochs 9 * 6 s are left, after two 8 * 6
    assert out.getvalue().splitlines() == [
        "epoch 1 of 10  dev mean 50.00  best 50.00 (epoch 1)  at most 0:00:54 left",
        "epoch 2 of 10  dev mean 51.00  best 51.00 (epoch 2)  at most 0:00:48 left",
    ]


def test_long_epochs_are_told_of_before_they_end_and_short_ones_seldom(clock: list[float]) -> None:
    out = io.StringIO()
    lines = LiveLines(Console(file=out, width=40), pause=10.0)
    for stand in stands(4.0, 4.25, 4.5):  # resumed: the time left is from what was trained since
        lines.show("long", stand)
        clock[0] += 12.0
    assert out.getvalue().splitlines() == [
        "long: epoch 4.2 of 10  dev mean 53.00  best 53.00 (epoch 4)  at most 0:04:36 left",  # 5.75 of 12 s / 0.25
        "long: epoch 4.5 of 10  dev mean 53.00  best 53.00 (epoch 4)  at most 0:04:24 left",
    ]
    for stand in stands(*range(6)):
        lines.show("short", stand)
        clock[0] += 4.0
    assert [line[:18] for line in out.getvalue().splitlines()[2:]] == ["short: epoch 3 of "]


def test_a_terminal_has_one_line_that_moves_and_the_last_stays(clock: list[float]) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, legacy_windows=False, _environ={"TERM": "xterm"})
    with LiveLines(console) as lines:
        for stand in stands(0, 1, 2, 3):
            lines.show("", stand)
        console.print("said")
        moved = out.getvalue()
        clock[0] += 60.0
    assert "epoch 3 of 10  dev mean 52.00  best 52.00 (epoch 3)  at most 0:00:00 left  ▁▅█" in moved
    assert moved.index("said") < moved.rindex("epoch 3")
    assert "\x1b[2K" in out.getvalue()[len(moved) :]  # it is wiped, and printed plainly
    assert out.getvalue().endswith("epoch 3 of 10  dev mean 52.00  best 52.00 (epoch 3)\n")


def test_lines_that_are_over_go_and_leave_the_terminal_to_others() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, legacy_windows=False, _environ={"TERM": "xterm"})
    with LiveLines(console) as lines:
        for name in ("a", "b"):
            lines.show(name, Stand(0.5, 10))
        lines.show("a", None)
        assert "\x1b[?25h" not in out.getvalue()  # the cursor is hidden while a line moves
        lines.show("b", None)
        assert out.getvalue().endswith("\r\x1b[2K\x1b[?25h\r")  # wiped, with the cursor there again
        length = len(out.getvalue())
    assert len(out.getvalue()) == length


def test_curves_and_means_by_hand() -> None:
    assert curve([]) == ""
    assert curve([5.0, 5.0]) == "▁▁"
    assert curve([0.0, 1.0, 7.0, 3.0], width=3) == "▁█▃"  # of 1, 7 and 3: 0, 7 and 7 / 3
    first, second = Stand(2.0, 10, "dev mean", 60.0, 70.0, 1), Stand(3.0, 12, "dev mean", math.nan, 80.0, 2)
    assert mean_stand([first, second]) == Stand(2.5, 12, "dev mean", 60.0, 75.0, 0, 2)
    assert mean_stand([first]) is first


def test_the_loops_tell_every_step_and_epoch_in_place_of_messages(tmp_path: Path) -> None:
    config, clips, said, told = (
        small.config(training={"num_epochs": 2, "batch_size": 32}),
        small.joined(),
        list[str](),
        list[Stand](),
    )
    run = RunDirectory(tmp_path / "alone")
    run.path.mkdir()
    train(config, clips, small.tasks(), Accelerator(cpu=True), run, said.append, watch=told.append)
    assert not [message for message in said if message.startswith("epoch")]
    epochs = [stand.epoch for stand in told]
    steps = len(told) // 2 - 1  # of an epoch, which then ends; and the first is from before any
    assert epochs == pytest.approx(
        [0.0] + [epoch + part / (steps + 1) for epoch in (0, 1) for part in range(1, steps + 2)]
    )
    assert math.isnan(told[steps].value)
    last = told[-1]
    assert (last.name, last.num_epochs, last.best) == ("dev mean", 2, max(told[steps + 1].value, last.value))
    together: list[Stand] = []

    def begin(index: int) -> Course:
        folder = RunDirectory(tmp_path / str(index))
        folder.path.mkdir()
        return Course.begin(config, clips, small.tasks(), Accelerator(cpu=True), folder, said.append)

    for _, course in train_stacked([lambda: begin(0), lambda: begin(1)], watch=together.append):
        course.finish()
    assert {stand.num_runs for stand in together} == {2}
    assert [stand.epoch for stand in together] == pytest.approx(
        [epoch + part / (steps + 1) for epoch in (0, 1) for part in range(steps)]
    )

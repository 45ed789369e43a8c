"""Sessions of the page: what they sent is removed with them, and with the last of those that sent the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from training.app.analysis import AppError
from training.app.base import KEPT, Sessions


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    (tmp_path / "root").mkdir()
    return Sessions(tmp_path / "root")


def upload(sessions: Sessions, name: str, content: str = "x") -> Path:
    path = sessions.root / content / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_what_a_session_sent_is_removed_with_it_alone(sessions: Sessions) -> None:
    own, other = upload(sessions, "a.mp4", "one"), upload(sessions, "b.mp4", "two")
    sessions.hold("first", own)
    sessions.hold("second", other)
    vectors = sessions.of("first").folder / "vectors"
    vectors.mkdir()
    sessions.end("first")
    assert not own.parent.exists()
    assert not vectors.exists()
    assert other.exists()
    sessions.end("first")  # twice does no harm
    sessions.end("second")
    assert list(sessions.root.iterdir()) == []


def test_a_file_that_two_sent_stays_until_both_left(sessions: Sessions) -> None:
    path = upload(sessions, "a.mp4")
    sessions.hold("first", path)
    sessions.hold("second", path)
    sessions.end("first")
    assert path.exists()
    sessions.end("second")
    assert not path.exists()


def test_broken_off_uploads_are_removed_with_the_last_session(sessions: Sessions) -> None:
    sessions.of("first")
    sessions.of("second")
    (sessions.root / "tmpabc").write_text("half", encoding="utf-8")
    sessions.end("first")
    assert (sessions.root / "tmpabc").exists()
    sessions.end("second")
    assert list(sessions.root.iterdir()) == []


def test_work_that_goes_on_after_the_page_was_left_leaves_nothing(sessions: Sessions) -> None:
    def work() -> None:
        with sessions.working("first") as session:
            folders.append(session.folder)
            sessions.end("first")
            sessions.of("first")  # the page is back, as another session
            session.folder.mkdir()
            (session.folder / "vectors").write_text("late", encoding="utf-8")
            raise OSError("disk")

    folders: list[Path] = []
    with pytest.raises(OSError, match="disk"):
        work()
    assert not folders[0].exists()
    assert sessions.of("first").folder.exists()
    with sessions.working("first") as session:
        pass
    assert session.folder.exists()


def test_only_uploads_that_are_there_can_be_held(sessions: Sessions, tmp_path: Path) -> None:
    with pytest.raises(AppError, match=r"a\.mp4 is not here any more, because the page was left; load it again"):
        sessions.hold("first", sessions.root / "a.mp4")
    outside = tmp_path / "secret.mp4"
    outside.write_text("x", encoding="utf-8")
    for path in (outside, sessions.root / ".." / "secret.mp4"):
        with pytest.raises(AppError, match="not here any more"):
            sessions.hold("first", path)


def test_the_oldest_analyses_are_forgotten(sessions: Sessions) -> None:
    session = sessions.of("first")
    fake: Any = SimpleNamespace(name="a.mp4")
    for _ in range(KEPT + 2):
        session.add(fake)
    assert list(session.analyses) == [f"{number}. a.mp4" for number in range(3, KEPT + 3)]

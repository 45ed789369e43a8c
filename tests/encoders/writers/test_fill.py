"""Texts that models write: the store, corrections, what is filled where, failures, kills, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest

from encoders.config import DescriberConfig, TranscriberConfig
from encoders.creation import WRITERS
from encoders.errors import ExtractionError, StoreError
from encoders.media.clip import ClipMedia
from encoders.spec import source_of
from encoders.store.claims import Claims
from encoders.store.text_store import TextStore, Written
from encoders.writers import fill as text_filling
from encoders.writers.fill import FilledTexts, TextWork, fill_texts
from mmpsr.config import ConfigError, validate
from tests.support.fake_writers import FakeWriter, batches, features, table


class Desk:
    """A store, a fake writer, and what it was given."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.log = root / "store", root / "log"
        self.writer = FakeWriter(self.log)
        monkeypatch.setattr(text_filling, "text_writers", lambda *_: [self.writer])

    def fill(self, clips: pd.DataFrame, **changes: object) -> FilledTexts:
        return fill_texts(clips, features(self.store, **changes), show_progress=False)

    @property
    def folder(self) -> Path:
        return TextStore(self.store).folder("fake", self.writer.spec)

    def correct(self, content: str, encoding: str = "utf-8") -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "corrections.csv").write_text(content, encoding=encoding)
        return self.folder / "corrections.csv"

    def texts(self, ids: Sequence[str], **changes: object) -> list[object]:
        return self.fill(table(ids), **changes).clips["text"].tolist()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_fills_what_is_missing_and_nothing_else(desk: Desk) -> None:
    clips = table(["a", "b", "c", "d"], text=["said", pd.NA, "  ", pd.NA], language=["en", pd.NA, "fr", pd.NA])
    clips.index = pd.Index([7, 5, 3, 1])
    filled, summary = desk.fill(clips)
    assert filled["text"].tolist() == ["said", "words of b", "words of c", "words of d"]
    assert filled["language"].tolist() == ["en", "de", "de", "de"]
    assert filled["text"].dtype == filled["language"].dtype == "string"
    assert filled.index.tolist() == [7, 5, 3, 1]
    assert filled.columns.tolist() == [*clips.columns, "words"]
    assert filled["words"].tolist() == [pd.NA, *['[["words", 0.0, 0.5]]'] * 3]
    assert ClipMedia.from_row(filled.iloc[1].to_dict()).words == [("words", 0.0, 0.5)]
    assert ClipMedia.from_row(filled.iloc[0].to_dict()).words is None
    assert filled["description"].isna().all()
    assert clips["text"].isna().sum() == 2  # the table given is left alone
    count = summary.counts["fake", "transcript"]
    assert (count.done, count.reused, count.absent, count.failed, summary.num_clips) == (3, 0, 0, 0, 3)
    assert batches(desk.log) == [["b", "c"], ["d"]]


def test_nothing_is_written_twice_nor_loaded_for_nothing(desk: Desk) -> None:
    first = desk.fill(table(["a", "b", "c"])).clips
    again, summary = desk.fill(table(["a", "b", "c"]))
    pd.testing.assert_frame_equal(first, again)
    assert desk.writer.loaded == 1
    assert batches(desk.log) == [["a", "b"], ["c"]]
    count = summary.counts["fake", "transcript"]
    assert (count.done, count.reused, summary.num_clips) == (0, 3, 0)


def test_a_language_that_the_model_does_not_know_stays(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWriter, "write", lambda self, prepared: [Written(clip_id) for clip_id in prepared])
    assert desk.fill(table(["a", "b"], language=["en", pd.NA])).clips["language"].tolist() == ["en", pd.NA]


def test_without_writers_the_table_is_unchanged(tmp_path: Path) -> None:
    clips = table(["a"])
    filled, summary = fill_texts(clips, features(tmp_path), show_progress=False)
    assert filled is clips
    assert not summary.counts
    assert not len(summary.ledger)


def test_overwrites_only_when_asked(desk: Desk) -> None:
    clips = table(["a", "mute-b"], text=["said", "also said"], language=["en", "en"])
    assert desk.fill(clips).clips["text"].tolist() == ["said", "also said"]
    assert batches(desk.log) == []
    desk.writer.overwrite = True
    filled = desk.fill(clips).clips
    assert filled["text"].tolist() == ["words of a", "also said"]  # the model has nothing better
    assert filled["language"].tolist() == ["de", "en"]


def test_description_leaves_language_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWriter, "kind", "description")
    monkeypatch.setattr(FakeWriter, "column", "description")
    filled = desk.fill(table(["a"], language=["en"])).clips
    assert filled["description"].tolist() == ["words of a"]
    assert filled["language"].tolist() == ["en"]
    assert filled["text"].isna().all()


def test_store_layout(desk: Desk) -> None:
    desk.fill(table(["a"]))
    assert desk.folder.parent == desk.store / "fake" / "texts"
    assert desk.folder.name == f"transcript-fake_writer-{desk.writer.spec.fingerprint}"
    assert json.loads((desk.folder / "encoder.json").read_text())["settings"] == {"prompt": "plain"}
    (part,) = desk.folder.glob("part-*.parquet")
    (row,) = pd.read_parquet(part).to_dict("records")
    assert row["text"] == "words of a"
    assert row["language"] == "de"
    assert json.loads(row["words"]) == [["words", 0.0, 0.5]]
    source = source_of(table(["a"]).iloc[0].to_dict(), "audio")
    assert row["source"] == source
    read = TextStore(desk.store).read_texts("fake", desk.writer.spec)
    assert read == {("a", source): Written("words of a", "de", [("words", 0.0, 0.5)])}


def test_changed_prompt_or_media_is_written_anew(desk: Desk, tmp_path: Path) -> None:
    media = tmp_path / "a.wav"
    media.write_bytes(b"123")
    clips = table(["a"], media=[str(media)])
    desk.fill(clips)
    before = desk.writer.spec.fingerprint
    desk.writer.prompt = "other"
    assert desk.writer.spec.fingerprint != before
    desk.fill(clips)
    media.write_bytes(b"1234")
    desk.fill(clips)
    desk.fill(clips.assign(text="", description="she nods"))  # neither is what a text is made from
    assert batches(desk.log) == [["a"]] * 3


def test_version_is_part_of_the_fingerprint(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = desk.writer.spec.fingerprint
    monkeypatch.setattr(FakeWriter, "version", 2)
    assert desk.writer.spec.fingerprint != before


def test_failures_are_in_the_ledger(desk: Desk) -> None:
    ids = ["a", "silent-1", "broken-2", "odd-3", "mute-4", "crash-5", "b"]
    filled, summary = desk.fill(table(ids))
    assert filled["text"].tolist() == ["words of a", *[pd.NA] * 5, "words of b"]
    ledger = summary.ledger.set_index("clip_id")[["modality", "encoder", "status", "reason"]]
    where = ("texts", "transcript-fake/writer")
    assert {clip_id: tuple(row) for clip_id, row in zip(ledger.index, ledger.to_numpy().tolist(), strict=True)} == {
        "silent-1": (*where, "absent", "no media file"),
        "broken-2": (*where, "failed", "file is empty (0 bytes)"),
        "odd-3": (*where, "failed", "ValueError: odd size"),
        "mute-4": (*where, "absent", "no speech recognised"),
        "crash-5": (*where, "failed", "ZeroDivisionError: in the model"),
    }
    count = summary.counts["fake", "transcript"]
    assert (count.done, count.absent, count.failed) == (2, 2, 3)
    desk.log.unlink()
    desk.fill(table(ids))
    assert batches(desk.log) == []  # settled
    desk.fill(table(ids), retry_failed=True)
    assert batches(desk.log) == [["crash-5"]]  # the other failures do not reach the model


def test_a_failure_that_another_process_tried_again_meanwhile_is_settled(desk: Desk) -> None:
    ids = ["crash-1", "crash-2", "crash-3"]
    desk.fill(table(ids))
    asked = features(desk.store, retry_failed=True)
    desk.writer.batch_size = 1
    here, there = (TextWork(table(ids), desk.writer, asked) for _ in range(2))
    assert here.find_missing()
    assert there.find_missing()
    with Claims(desk.store) as claims, Claims(desk.store) as others:
        rows = there.claim(others, set())
        assert here.claim(claims, waits_for := set()) == [1]  # the first is taken
        assert len(waits_for) == 1
        there.finish(rows, [there.writer.prepare(ClipMedia(clip_id="crash-1"))], others)
        assert not others.held
        assert here.claim(claims, set()) == [2]
        assert not here.pending


def test_a_batch_is_halved_until_one_clip_is_at_fault(desk: Desk) -> None:
    desk.writer.batch_size = 4
    assert desk.texts(["a", "b", "crash", "c"]) == ["words of a", "words of b", pd.NA, "words of c"]
    assert batches(desk.log) == [["a", "b", "crash", "c"], ["a", "b"], ["crash", "c"], ["crash"], ["c"]]


def test_too_little_memory_for_one_clip_stops(desk: Desk) -> None:
    with pytest.raises(ExtractionError, match="fake/writer runs out of memory with a single clip on cpu in float32"):
        desk.fill(table(["a", "b", "large"]))
    assert desk.texts(["a", "b"]) == ["words of a", "words of b"]
    assert batches(desk.log) == [["a", "b"], ["large"]]  # what was complete is kept


def test_control_c_keeps_what_is_complete_and_drops_claims(desk: Desk) -> None:
    with pytest.raises(KeyboardInterrupt):
        desk.fill(table(["a", "b", "stop", "c", "d"]))
    assert list((desk.store / ".claims").glob("*.json")) == []
    desk.log.unlink()
    assert desk.texts(["a", "b", "c", "d"]) == [f"words of {name}" for name in "abcd"]
    assert batches(desk.log) == [["c", "d"]]


def test_batches_are_of_one_corpus_and_of_similar_length(desk: Desk) -> None:
    spans = {"start": [0.0, 5.0, 0.0, float("nan"), 0.0], "end": [1.0, 9.0, 2.0, 3.0, 8.0]}
    clips = table(["one", "four", "two", "unknown", "eight"], corpus="x", **spans)
    other = table(["z"], corpus="w")
    desk.fill(pd.concat([clips.iloc[:3], other, clips.iloc[3:]], ignore_index=True))
    assert batches(desk.log) == [["z"], ["unknown", "eight"], ["four", "two"], ["one"]]


def test_corrections_win(desk: Desk) -> None:
    clips = table(["a", "b", "mute-c", "d"], text=[pd.NA, pd.NA, pd.NA, "said"], language=[pd.NA, pd.NA, pd.NA, "en"])
    before = desk.fill(clips).clips
    desk.correct('clip_id,text,by\nb,"Well, ""maybe"".",me\nmute-c,  Hm. \nd,heard\n', encoding="utf-8-sig")
    after, summary = desk.fill(clips)
    assert after["text"].tolist() == ["words of a", 'Well, "maybe".', "Hm.", "heard"]
    assert after["language"].tolist() == ["de", "de", pd.NA, "en"]
    assert summary.counts["fake", "transcript"].reused == 1
    sources = [[source_of(row, "text") for row in filled.to_dict("records")] for filled in (before, after)]
    assert [old == new for old, new in zip(*sources, strict=True)] == [True, False, False, False]


def test_a_corrected_clip_needs_no_model(desk: Desk) -> None:
    desk.correct("clip_id,text\na,NA\nb,\n")
    filled = desk.fill(table(["a", "b"], text=[pd.NA, "noise"])).clips
    assert filled["text"].tolist() == ["NA", pd.NA]  # "NA" is a text, nothing is none
    assert desk.writer.loaded == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("clip;text\na;b\n", "columns must be clip_id,text (separated by a comma), found clip,text"),
        ("clip_id,text\na,well, yes\n", "corrections.csv, row 2: has 3 cells, the head has 2; beyond it stands 'yes'"),
        ('clip_id,text\na,"well\nb,no\n', "row 2 (lines 2 to 3), column 'text': the quotation mark that begins 'well'"),
        ("clip_id,text\na\n", "corrections.csv, row 2: has 1 of 2 cells"),
        ("clip_id,text\na,x\na,y\n", "corrections.csv, row 3: clip 'a' occurs twice; keep one"),
        ("clip_id,text\n ,x\n", "corrections.csv, row 2: clip_id is empty"),
        ("clip_id,text\nq,x\nr,y\n", "corpus 'fake' has no clip 'q' (nor 1 others)"),
        ("", "not a table of corrections (it is empty; its first line names the columns); it must be CSV in UTF-8"),
    ],
)
def test_corrections_that_cannot_be_used(desk: Desk, content: str, message: str) -> None:
    path = desk.correct(content)
    with pytest.raises(StoreError) as error:
        desk.fill(table(["a"]))
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_corrections_in_another_encoding(desk: Desk) -> None:
    desk.correct("clip_id,text\na,schön\n", encoding="latin-1")
    with pytest.raises(StoreError, match="it must be CSV in UTF-8"):
        desk.fill(table(["a"]))


def test_corrections_may_name_clips_of_other_runs(desk: Desk) -> None:
    desk.fill(table(["a", "mute-b"]))
    desk.correct("clip_id,text\nmute-b,x\n")
    assert desk.texts(["a"]) == ["words of a"]


def _start(store: Path, log: Path, num_clips: int, kill_at: int = 0, moment: str = "before") -> subprocess.Popen[str]:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    words = [sys.executable, "-m", "tests.support.fake_writers", str(store), str(log), str(num_clips)]
    return subprocess.Popen(
        [*words, str(kill_at), moment], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize(("moment", "num_kept"), [("before", 2), ("after", 4)])
def test_killed_at_a_part_it_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, num_kept: int
) -> None:
    desk = Desk(tmp_path, monkeypatch)
    process = _start(desk.store, desk.log, 7, 2, moment)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    kept = {clip_id for clip_id, _ in TextStore(desk.store).read_texts("fake", desk.writer.spec)}
    assert len(kept) == num_kept
    desk.log.unlink()
    ids = [f"slow-{number}" for number in range(7)]
    filled, summary = desk.fill(table(ids))
    assert filled["text"].tolist() == [f"words of {clip_id}" for clip_id in ids]
    assert sorted(chain.from_iterable(batches(desk.log))) == sorted(set(ids) - kept)  # nothing twice
    count = summary.counts["fake", "transcript"]
    assert (count.done, count.reused) == (7 - num_kept, num_kept)
    parts = pd.concat([pd.read_parquet(part) for part in desk.folder.glob("part-*.parquet")])
    assert sorted(parts["clip_id"]) == ids


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, monkeypatch)
    processes = [_start(desk.store, desk.log, 30) for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    done = [int(answer.split()[0]) for answer, _ in answers]
    assert sum(done) == 30
    assert [answer.split()[1] for answer, _ in answers] == ["30", "30"]
    assert sorted(chain.from_iterable(batches(desk.log))) == sorted(f"slow-{number}" for number in range(30))


def test_prompt_configuration() -> None:
    full, short, emotion = (DescriberConfig(prompt=name).wording for name in ("full", "short", "emotion"))
    assert len({full, short, emotion}) == 3
    assert "75 tokens" in full
    assert "ambivalence" in full
    assert "ambivalence" not in emotion
    assert DescriberConfig(prompt="What does she do?").wording == "What does she do?"
    with pytest.raises(ConfigError, match=r"prompt is neither a prompt of the catalogue nor.*; did you mean 'full'"):
        validate(DescriberConfig, {"prompt": "ful"}, "configuration")
    with pytest.raises(ConfigError, match="overwrit is not a setting; did you mean 'overwrite'"):
        validate(TranscriberConfig, {"overwrit": True}, "configuration")


def test_writers_of_a_configuration(tmp_path: Path) -> None:
    from encoders.writers.build import text_writers

    asked = features(
        tmp_path, transcriber={"batch_size": 3, "overwrite": True}, describer={"revision": "abc", "prompt": "short"},
        trust_remote_code=["Qwen/Qwen2.5-VL-3B-Instruct"],
    )  # fmt: skip
    transcriber, describer = text_writers(asked, "cuda:1", "bfloat16")
    assert (transcriber.kind, transcriber.batch_size, transcriber.overwrite) == ("transcript", 3, True)
    assert (transcriber.device, transcriber.dtype) == ("cuda:1", "bfloat16")
    model = "openai/whisper-large-v3-turbo"
    assert transcriber.checkpoint.identity == f"{model} {WRITERS[model].revision}"  # the one that the catalogue pins
    (newest,) = text_writers(features(tmp_path, transcriber={"model": "x/whisper"}))
    assert newest.checkpoint.identity == "x/whisper main"
    assert not transcriber.checkpoint.is_trusted
    assert (describer.kind, describer.batch_size, describer.overwrite) == ("description", 8, False)
    assert describer.checkpoint.identity == "Qwen/Qwen2.5-VL-3B-Instruct abc"
    assert describer.checkpoint.is_trusted
    assert (describer.device, describer.dtype) == ("cuda:1", "bfloat16")
    other = features(tmp_path, describer={"prompt": "full"}, weights={"Qwen/Qwen2.5-VL-3B-Instruct": "nowhere"})
    (local,) = text_writers(other)
    with pytest.raises(ConfigError, match=r'weights."Qwen/.*": nowhere is not a folder with a model'):
        _ = local.spec

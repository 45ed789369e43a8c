"""What the feature store holds, whether it can be trusted, what a configuration uses of it, and what may go."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.config import FeaturesConfig, TranscriberConfig
from encoders.errors import StoreError
from encoders.extraction.encode import make_encoder
from encoders.maintenance import inventory
from encoders.maintenance.inventory import FolderReport, Usage, take_inventory, usage_of
from encoders.maintenance.pruning import Leftover, find_leftovers, prunable, remove
from encoders.spec import EncoderSpec, SequenceSpec
from encoders.store.claims import Claims, Item
from encoders.store.sequence_store import SequenceStore
from encoders.store.text_store import TextStore, Written
from encoders.store.timed_store import TimedStore, rows_of
from encoders.store.vector_store import FeatureStore
from encoders.timed import Timed
from encoders.visibility import FaceFigures, FaceSummary
from encoders.writers.build import text_writers

SPEC = EncoderSpec("org/name", 1, "text", 2, {}, "0123456789ab")
PLAIN = EncoderSpec("plain", 1, "video", 3, {}, "ba9876543210", "none")
FOLDER = "meld/text/org_name-0123456789ab"
OTHER = "meld/text/org_name-ffffffffffff"


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def one(store: FeatureStore, usage: Usage | None = None) -> FolderReport:
    (report,) = take_inventory(store.root, usage)
    return report


def rows(*vectors: list[float]) -> np.ndarray:
    return np.array(vectors, dtype=np.float32)


def write_part(folder: Path, vectors: np.ndarray, ids: list[str], name: str = "part-raw.parquet") -> Path:
    """A part as the store would not write it."""
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), vectors.shape[1])
    table = pa.table(
        {
            "clip_id": ids,
            "source": ["s"] * len(ids),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=kind),
        }
    )
    pq.write_table(table, folder / name)
    return folder / name


def test_counts_and_figures_of_a_folder(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a", "b"], ["s", "s"], rows([1, 2, 3, 5], [1, 4, 7, 5]))
    store.write("meld", SPEC, ["c"], ["s"], rows([1, 6, 5, 5]))
    store.write_failures("meld", SPEC, [("d", "s", "failed", "dark"), ("e", "s", "absent", "no text")])
    report = one(store)
    assert (report.corpus, report.modality, report.encoder, report.fingerprint) == (
        "meld", "text", "org/name", "0123456789ab",
    )  # fmt: skip
    assert (report.folder, report.in_use) == (FOLDER, None)
    assert (report.done, report.failed, report.absent, report.superseded) == (3, 1, 1, 0)
    assert (report.width, report.num_parts, report.damaged, report.not_finite) == (4, 2, [], 0)
    # 1+2+3+5 + 1+4+7+5 + 1+6+5+5 = 45 over 12 values; squares 39 + 91 + 87 = 217
    assert report.mean == pytest.approx(45 / 12)
    assert report.std == pytest.approx((217 / 12 - (45 / 12) ** 2) ** 0.5)
    assert report.constant_columns == 2  # the first and the last
    assert report.constant_vectors == 0
    assert report.is_sound
    assert report.num_bytes == sum(path.stat().st_size for path in (store.root / FOLDER).iterdir())


def test_figures_do_not_depend_on_the_parts_and_stand_far_from_zero(store: FeatureStore) -> None:
    vectors = (1e4 + np.random.default_rng(0).normal(size=(60, 4))).astype(np.float32)
    for start in range(0, 60, 7):
        ids = [f"clip{row}" for row in range(start, min(start + 7, 60))]
        store.write("meld", SPEC, ids, ["s"] * len(ids), vectors[start : start + 7])
    report = one(store)
    assert report.mean == pytest.approx(vectors.astype(np.float64).mean(), rel=1e-12)
    assert report.std == pytest.approx(vectors.astype(np.float64).std(), rel=1e-7)
    assert report.constant_columns == 0


def test_without_pooling_the_width_is_that_of_one_embedding(store: FeatureStore) -> None:
    store.write("meld", PLAIN, ["a"], ["s"], rows([2, 2, 2]))
    report = one(store)
    assert (report.width, report.constant_vectors, report.constant_columns) == (3, 1, None)  # one vector: no column
    assert (report.mean, report.std) == (2.0, 0.0)


def test_a_vector_of_one_value_is_not_called_constant(store: FeatureStore) -> None:
    store.write("meld", dataclasses.replace(PLAIN, width=1), ["a"], ["s"], rows([2]))
    assert one(store).constant_vectors == 0


def test_the_latest_word_counts_and_a_vector_above_all(store: FeatureStore) -> None:
    store.write_failures("meld", SPEC, [("a", "s", "failed", "why")], "2024-01-01")
    folder = store.root / FOLDER
    first = set(folder.iterdir())
    for name, (day, status) in enumerate(((3, "absent"), (1, "failed"), (2, "failed"))):  # the order of reading
        store.write_failures("meld", SPEC, [("b", "s", status, "why")], f"2024-01-0{day}")
        (added,) = set(folder.iterdir()) - first
        first.add(added.rename(folder / f"ledger-{name}.parquet"))
    store.write("meld", SPEC, ["a"], ["s"], rows([1, 2, 3, 4]))
    store.write_failures("meld", SPEC, [("a", "s", "failed", "why")], "2024-01-05")
    report = one(store)
    assert (report.done, report.failed, report.absent, report.superseded) == (1, 0, 1, 4)


def test_of_two_sources_without_a_vector_the_later_word_counts(store: FeatureStore) -> None:
    store.write_failures("meld", SPEC, [("a", "s", "failed", "why")], "2024-01-02")
    folder = store.root / FOLDER
    next(folder.glob("ledger-*")).rename(folder / "ledger-0.parquet")
    store.write_failures("meld", SPEC, [("a", "other", "absent", "why")], "2024-01-01")
    report = one(store)
    assert (report.failed, report.absent, report.superseded) == (1, 0, 1)


def test_another_source_of_a_clip_is_superseded(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a", "b"], ["old", "old"], rows([1, 2, 3, 4], [1, 2, 3, 4]))
    store.write("meld", SPEC, ["a"], ["new"], rows([1, 2, 3, 4]))
    store.write_failures("meld", SPEC, [("b", "new", "failed", "why")])
    unknown = one(store)
    assert (unknown.done, unknown.failed, unknown.superseded) == (2, 0, 2)  # which source is today's is not known
    usage = Usage({FOLDER: "org/name"}, {"meld": frozenset("ab")}, {FOLDER: {"a": "new", "b": "new"}})
    known = one(store, usage)
    assert (known.done, known.failed, known.superseded, known.in_use) == (1, 1, 2, True)


def test_clips_that_the_corpus_lost_are_superseded_in_any_folder(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a", "gone"], ["s", "s"], rows([1, 2, 3, 4], [1, 2, 3, 4]))
    report = one(store, Usage({}, {"meld": frozenset("a")}, {}))
    assert (report.done, report.superseded, report.in_use) == (1, 1, False)
    unreadable = one(store, Usage({FOLDER: "org/name"}, {}, {}))
    assert (unreadable.done, unreadable.superseded, unreadable.in_use) == (2, 0, True)


def test_vectors_that_are_not_finite_are_counted_and_left_out_of_the_figures(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a"], ["s"], rows([1, 2, 3, 4]))
    write_part(store.root / FOLDER, rows([np.nan, 2, 3, 4], [1, np.inf, 3, 4], [1, 2, 3, 5]), ["b", "c", "d"])
    report = one(store)
    assert (report.not_finite, report.done, report.is_sound) == (2, 4, False)
    assert report.mean == pytest.approx(21 / 8)
    assert report.constant_columns == 3


def test_a_folder_of_none_but_broken_vectors_has_no_figures(store: FeatureStore) -> None:
    store.write_failures("meld", SPEC, [("a", "s", "failed", "why")])
    write_part(store.root / FOLDER, rows([np.nan, 2, 3, 4]), ["b"])
    report = one(store)
    assert (report.mean, report.std, report.constant_columns, report.width) == (None, None, None, 4)
    assert (report.done, report.not_finite, report.damaged) == (1, 1, [])
    assert json.loads(json.dumps(dataclasses.asdict(report), allow_nan=False))["mean"] is None


def test_damaged_files_are_named_and_stop_nothing(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a"], ["s"], rows([1, 2, 3, 4]))
    store.write("meld", PLAIN, ["a"], ["s"], rows([1, 2, 3]))
    folder = store.root / FOLDER
    whole = next(folder.glob("part-*")).read_bytes()
    (folder / "part-1.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "part-2.parquet").write_bytes(b"")
    write_part(folder, rows([1, 2, 3]), ["b"], "part-3.parquet")
    pq.write_table(pa.table({"clip_id": ["c"], "source": ["s"]}), folder / "part-4.parquet")
    pq.write_table(pa.table({"clip_id": ["c"], "source": ["s"], "vector": [[1.0] * 4]}), folder / "part-5.parquet")
    (folder / "ledger-1.parquet").write_bytes(b"no parquet at all")
    text, video = take_inventory(store.root)
    assert [damage.file for damage in text.damaged] == [
        f"{FOLDER}/{name}.parquet" for name in ("ledger-1", "part-1", "part-2", "part-3", "part-4", "part-5")
    ]
    reasons = [damage.reason for damage in text.damaged]
    assert "Parquet" in reasons[0]
    assert reasons[3] == "vectors are of type fixed_size_list<element: float not null>[3], expected float32 4 wide"
    assert reasons[4] == "has no column 'vector', found clip_id, source"
    assert reasons[5].endswith("expected float32 4 wide")
    assert (text.done, text.superseded, text.num_parts, text.is_sound) == (1, 0, 6, False)
    assert (video.done, video.is_sound) == (1, True)


@pytest.mark.parametrize("content", [None, "{", "[1]", '{"id": "org/name"}'])
def test_a_damaged_encoder_json(store: FeatureStore, content: str | None) -> None:
    store.write("meld", SPEC, ["a"], ["s"], rows([1, 2, 3, 4]))
    path = store.root / FOLDER / "encoder.json"
    path.unlink() if content is None else path.write_text(content)
    report = one(store)
    assert [damage.file for damage in report.damaged] == [f"{FOLDER}/encoder.json"]
    assert (report.fingerprint, report.done, report.width) == ("", 1, 4)


def test_a_store_of_an_earlier_version_says_nothing_of_pooling(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a"], ["s"], rows([1, 2, 3, 4]))
    path = store.root / FOLDER / "encoder.json"
    path.write_text(json.dumps({"id": "org/name", "fingerprint": "0123456789ab", "width": 2}))
    assert one(store).is_sound


def test_times_of_the_oldest_and_the_newest_part(store: FeatureStore) -> None:
    for name in "ab":
        store.write("meld", SPEC, [name], ["s"], rows([1, 2, 3, 4]))
    for path, seconds in zip((store.root / FOLDER).glob("part-*"), (86_400, 0), strict=True):
        os.utime(path, (seconds, seconds))
    report = one(store)
    assert (report.oldest, report.newest) == ("1970-01-01T00:00:00+00:00", "1970-01-02T00:00:00+00:00")
    store.write_failures("fiv2", SPEC, [("a", "s", "absent", "why")])
    only_ledger = next(take_inventory(store.root))
    assert (only_ledger.oldest, only_ledger.newest, only_ledger.num_parts) == (None, None, 0)


def test_what_is_no_encoders_folder_is_passed_over(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a"], ["s"], rows([1, 2, 3, 4]))
    for name in (".claims/a/b", "notes/of/mine", "meld/text/.temporary-1"):
        (store.root / name).mkdir(parents=True)
    (store.root / "notes/of/mine/part-list.txt").touch()
    (store.root / "meld/text/.temporary-1/part-1.parquet").touch()
    (store.root / ".claims/a/b/encoder.json").touch()
    (store.root / "meld/text/file").touch()
    assert one(store).folder == FOLDER
    assert list(take_inventory(store.root / "nowhere")) == []


def test_texts_are_listed_without_a_width(tmp_path: Path) -> None:
    texts = TextStore(tmp_path)
    spec = EncoderSpec("transcript-org/model", 1, "texts", 0, {}, "0123456789ab", "none")
    texts.write_texts("meld", spec, ["a", "b"], ["s", "s"], [Written("one"), Written("two", "en")])
    texts.write_failures("meld", spec, [("c", "s", "absent", "silent")])
    report = one(texts)
    assert (report.modality, report.encoder, report.width) == ("texts", "transcript-org/model", None)
    assert (report.done, report.absent, report.mean, report.damaged) == (2, 1, None, [])


SEQUENCES = f"{FOLDER}-sequence-4"
CAPPED = SPEC.sequences(4)


def write_sequences(store: FeatureStore, spec: SequenceSpec, **sequences: list[list[float]]) -> None:
    arrays = [np.array(values, dtype=np.float16) for values in sequences.values()]
    SequenceStore(store.root).write_sequences("meld", spec, list(sequences), ["s"] * len(arrays), arrays)


def test_sequences_are_examined_element_by_element(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sequences(store, CAPPED, a=[[1, 5], [2, 5], [6, 5]], b=[[3, 5]])
    write_sequences(store, CAPPED, c=[[4, 5], [4, 5]])
    store.write_failures("meld", CAPPED, [("d", "s", "failed", "too large")])
    report = one(store)
    assert (report.folder, report.encoder, report.fingerprint) == (SEQUENCES, "org/name", "0123456789ab")
    assert (report.done, report.failed, report.superseded, report.num_parts) == (3, 1, 0, 2)
    assert (report.cap, report.longest, report.width, report.damaged) == (4, 3, 2, [])
    # 1 + 2 + 6 + 3 + 4 + 4 = 20 and 6 * 5; squares 1 + 4 + 36 + 9 + 16 + 16 = 82 and 6 * 25
    assert report.mean == pytest.approx(50 / 12)
    assert report.std == pytest.approx((232 / 12 - (50 / 12) ** 2) ** 0.5)
    assert report.constant_columns == 1
    assert report.constant_vectors == 1  # c stands still; a single element, as of b, does not
    assert report.is_sound
    assert report.num_bytes == sum(path.stat().st_size for path in (store.root / SEQUENCES).iterdir())
    monkeypatch.setattr(inventory, "_SLICE", 2)
    sliced = one(store)
    assert (sliced.mean, sliced.std) == (pytest.approx(report.mean), pytest.approx(report.std))


def test_sequences_that_are_not_finite_or_damaged(store: FeatureStore) -> None:
    write_sequences(store, CAPPED, a=[[1, 2], [3, 4]], b=[[5, 6], [7, 8]])
    folder = store.root / SEQUENCES
    (path,) = folder.glob("part-*")
    part = pq.read_table(path)
    elements = [[np.array(each, dtype="<f2").tobytes() for each in one] for one in ([[1, np.nan], [1, 1]], [[5, 6]])]
    broken = part.set_column(2, "length", pa.array([2, 1], pa.int32()))
    pq.write_table(broken.set_column(3, "sequence", pa.array(elements, part.schema.field("sequence").type)), path)
    report = one(store)
    assert (report.not_finite, report.done, report.is_sound) == (1, 2, False)
    assert (report.mean, report.constant_vectors) == (5.5, 0)
    pq.write_table(part.set_column(2, "length", pa.array([2, 3], pa.int32())), folder / "part-1.parquet")
    pq.write_table(part.drop_columns(["length"]), folder / "part-2.parquet")
    write_sequences(store, dataclasses.replace(SPEC, width=3).sequences(4), c=[[1, 2, 3]])
    (wide,) = set(folder.glob("part-*")) - {path, folder / "part-1.parquet", folder / "part-2.parquet"}
    wide.rename(folder / "part-3.parquet")
    pq.write_table(part.slice(0, 0), folder / "part-4.parquet")  # empty, yet sound
    reasons = {damage.file.rpartition("/")[2]: damage.reason for damage in one(store).damaged}
    assert reasons == {
        "part-1.parquet": "lengths of sequences are not those stated",
        "part-2.parquet": "has no column 'length', found clip_id, source, sequence, note",
        "part-3.parquet": "sequences are of type list<element: fixed_size_binary[6] not null>, expected lists of the "
        "bytes of 2 float16 numbers",
    }
    for name in ("encoder.json", "part-3.parquet"):
        (folder / name).unlink()
    assert (one(store).cap, one(store).width) == (4, 2)


def test_usage_knows_sequences_and_what_they_are_made_from(tmp_path: Path) -> None:
    clips = clip_table(tmp_path / "a.mp4", a="good", b=None)
    features = FeaturesConfig(store=str(tmp_path), encoders={"text": "minilm"}, sequences={"text": 9})
    usage = usage_of(features, {"mine": clips})
    vectors, sequences = usage.folders
    assert sequences == f"{vectors}-sequence-9"
    assert set(usage.folders.values()) == {"minilm"}
    assert usage.sources[vectors] == usage.sources[sequences]


def test_only_sequences_of_the_configured_cap_stay(store: FeatureStore) -> None:
    old = dataclasses.replace(SPEC, fingerprint="f" * 12)
    store.write("meld", SPEC, ["a"], ["s"], rows([1, 2, 3, 4]))
    other = dataclasses.replace(SPEC, id="b")
    for spec in (CAPPED, SPEC.sequences(5), old.sequences(4), other.sequences(4)):
        write_sequences(store, spec, a=[[1, 2]])
    kept = {FOLDER: "org/name", SEQUENCES: "org/name"}
    assert pruned(store, Usage(kept, {}, {})) == [f"{FOLDER}-sequence-5", f"{OTHER}-sequence-4"]
    # without sequences in the configuration, none of its encoder stays
    assert pruned(store, Usage({FOLDER: "org/name"}, {}, {})) == [
        SEQUENCES, f"{FOLDER}-sequence-5", f"{OTHER}-sequence-4",
    ]  # fmt: skip
    assert remove(store.root, [SEQUENCES], []) == ([SEQUENCES], {})
    assert (store.root / FOLDER).exists()


def test_parts_are_read_one_by_one(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcdefgh":
        store.write("meld", SPEC, [name], ["s"], rows([1, 2, 3, 4]))
    pa.default_memory_pool().release_unused()
    held: list[int] = []
    read = inventory._read

    def watched(*arguments: Any) -> pa.Table:
        held.append(pa.total_allocated_bytes())
        return read(*arguments)

    monkeypatch.setattr(inventory, "_read", watched)
    one(store)
    assert len(held) == 8
    assert abs(held[-1] - held[1]) < 1_000  # some bytes come and go; six parts would hold more


def clip_table(path: Path, **texts: str | None) -> pd.DataFrame:
    frame = pd.DataFrame(
        {"corpus": "mine", "clip_id": list(texts), "media": str(path), "text": list(texts.values())}, dtype="string"
    )
    columns = ("audio_media", "fallback_media", "faces", "language", "context", "description")
    times = ("audio_start", "audio_end", "fallback_start", "fallback_end")
    empty = {name: pd.Series(pd.NA, index=frame.index, dtype="string") for name in columns}
    return frame.assign(start=0.0, end=1.0, **empty, **dict.fromkeys(times, np.nan))


def test_usage_follows_the_clips_as_they_are(tmp_path: Path) -> None:
    clips = clip_table(tmp_path / "a.mp4", a="good", b=None)
    features = FeaturesConfig(store=str(tmp_path / "store"), encoders={"text": "minilm"})
    usage = usage_of(features, {"mine": clips, "broken": None})
    encoder = make_encoder("minilm", "text")
    key = encoder.spec.key
    assert usage.folders == {f"mine/text/{key}": "minilm", f"broken/text/{key}": "minilm"}
    assert usage.clips == {"mine": frozenset("ab")}
    row = {"text": "good", "description": None, "media": str(tmp_path / "a.mp4"), "start": 0.0, "end": 1.0}
    assert usage.sources[f"mine/text/{key}"]["a"] == encoder.source(row)
    assert list(usage.sources) == [f"mine/text/{key}"]
    assert usage.clips_of("mine/text/other", "mine") == {"a": None, "b": None}
    assert usage.clips_of("broken/text/other", "broken") is None
    assert not (tmp_path / "store").exists()
    changed = usage_of(features, {"mine": clip_table(tmp_path / "a.mp4", a="other", b=None)})
    assert changed.sources[f"mine/text/{key}"]["a"] != usage.sources[f"mine/text/{key}"]["a"]


def test_encoders_see_none_where_a_clip_has_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, seen = make_encoder("minilm", "text"), []
    monkeypatch.setattr(encoder, "source", lambda row: seen.append((row["text"], row["audio_start"])) or "s")
    monkeypatch.setattr("encoders.extraction.read.make_encoder", lambda *_: encoder)
    features = FeaturesConfig(store=str(tmp_path), encoders={"text": "minilm"})
    usage_of(features, {"mine": clip_table(tmp_path / "a.mp4", a="good", b=None)})
    assert seen == [("good", None), (None, None)]


def test_usage_counts_with_the_texts_that_models_wrote(tmp_path: Path) -> None:
    clips = clip_table(tmp_path / "a.mp4", a="good", b=None)
    features = FeaturesConfig(
        store=str(tmp_path / "store"), encoders={"text": "minilm"}, transcriber=TranscriberConfig()
    )
    (writer,) = text_writers(features)
    folder = f"mine/texts/{writer.spec.key}"
    before = usage_of(features, {"mine": clips})
    assert before.folders[folder] == writer.spec.id
    assert list(before.sources[folder]) == ["b"]
    texts = TextStore(features.store)
    texts.write_texts("mine", writer.spec, ["b"], [before.sources[folder]["b"]], [Written("heard")])
    after = usage_of(features, {"mine": clips})
    (vectors,) = (name for name in after.folders if name != folder)
    spoken = usage_of(features, {"mine": clip_table(tmp_path / "a.mp4", a="good", b="heard")})
    assert after.sources[vectors] == spoken.sources[vectors]
    assert after.sources[vectors]["b"] != before.sources[vectors]["b"]
    next(Path(features.store, folder).glob("part-*")).write_bytes(b"damaged")
    assert usage_of(features, {"mine": clips}).sources == before.sources
    assert not one(texts, before).is_sound
    Path(features.store, folder, "corrections.csv").write_text("wrong\n")
    with pytest.raises(StoreError, match="columns must be clip_id,text"):
        usage_of(features, {"mine": clips})


def pruned(store: FeatureStore, usage: Usage) -> list[str]:
    return [report.folder for report in prunable(store.root, take_inventory(store.root, usage), usage)]


def test_only_other_fingerprints_of_the_same_corpus_modality_and_encoder_may_go(store: FeatureStore) -> None:
    old = dataclasses.replace(SPEC, fingerprint="f" * 12)
    vector = rows([1, 2, 3, 4])
    for corpus in ("meld", "fiv2"):
        for spec in (SPEC, old):
            store.write(corpus, spec, ["a"], ["s"], vector)
    store.write("meld", dataclasses.replace(old, modality="behavior"), ["a"], ["s"], vector)
    store.write("meld", dataclasses.replace(old, id="org/names"), ["a"], ["s"], vector)
    usage = Usage({FOLDER: "org/name"}, {}, {})
    assert pruned(store, usage) == [OTHER]
    assert pruned(store, Usage({OTHER: "org/name"}, {}, {})) == [FOLDER]
    (store.root / OTHER / "corrections.csv").write_text("clip_id,text\n")
    assert pruned(store, usage) == []
    (store.root / OTHER / "corrections.csv").unlink()
    (store.root / OTHER / "encoder.json").write_text("{")
    assert pruned(store, usage) == []


def test_a_linked_folder_stays(store: FeatureStore, tmp_path: Path) -> None:
    elsewhere = FeatureStore(tmp_path / "elsewhere")
    elsewhere.write("meld", dataclasses.replace(SPEC, fingerprint="f" * 12), ["a"], ["s"], rows([1, 2, 3, 4]))
    (store.root / OTHER).parent.mkdir(parents=True)
    (store.root / OTHER).symlink_to(elsewhere.root / OTHER, target_is_directory=True)
    usage = Usage({FOLDER: "org/name"}, {}, {})
    assert one(store, usage).done == 1
    assert pruned(store, usage) == []


def test_leftovers_are_old_temporary_files_and_folders_about_to_go(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a"], ["s"], rows([1, 2, 3, 4]))
    names = [".claims/.temporary-1", f"{FOLDER}/.temporary-2", "meld/text/.temporary-3/part-1.parquet"]
    sizes = {name: 9 - place for place, name in enumerate((*names, f"{FOLDER}/.temporary-new"))}
    for name in sizes:
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1" * sizes[name])
        if "new" not in name:
            os.utime(path, (time.time() - 601,) * 2)
    nested = store.root / "meld/text/.temporary-3/.temporary-4"
    nested.touch()
    os.utime(nested, (0, 0))
    found = find_leftovers(store.root)
    paths = [".claims/.temporary-1", "meld/text/.temporary-3", f"{FOLDER}/.temporary-2"]
    assert found == [Leftover(path, size) for path, size in zip(paths, (9, 7, 8), strict=True)]
    assert remove(store.root, [], paths) == (paths, {})
    assert find_leftovers(store.root) == []
    assert one(store).done == 1
    assert (store.root / FOLDER / ".temporary-new").exists()


def test_removal(store: FeatureStore) -> None:
    old = dataclasses.replace(SPEC, fingerprint="f" * 12)
    for spec in (SPEC, old):
        store.write("meld", spec, ["a"], ["s"], rows([1, 2, 3, 4]))
    assert remove(store.root, [OTHER], []) == ([OTHER], {})
    assert [path.name for path in (store.root / "meld/text").iterdir()] == [Path(FOLDER).name]
    assert list((store.root / ".claims").glob("*.json")) == []


def test_nothing_that_may_be_worked_on_is_removed(store: FeatureStore) -> None:
    for spec in (SPEC, dataclasses.replace(SPEC, fingerprint="f" * 12)):
        store.write("meld", spec, ["a"], ["s"], rows([1, 2, 3, 4]))
    with Claims(store.root) as claims:
        claims.add([Item(FOLDER, "b", "s")])  # in another folder, yet its process may read this one later
        removed, kept = remove(store.root, [OTHER], [])
        assert removed == []
        assert list(kept) == [OTHER]
        assert kept[OTHER].startswith(f"process {os.getpid()} on ")
        assert kept[OTHER].endswith(" works on the store")
    assert len(list(take_inventory(store.root))) == 2
    assert remove(store.root, [OTHER], [])[0] == [OTHER]


def test_a_removal_that_is_killed_leaves_the_folder_whole_or_a_leftover(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("meld", SPEC, ["a"], ["s"], rows([1, 2, 3, 4]))

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("encoders.maintenance.pruning.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(store.root, [FOLDER], [])
    monkeypatch.undo()
    assert list(take_inventory(store.root)) == []
    (leftover,) = find_leftovers(store.root)
    remove(store.root, [], [leftover.path])
    assert list((store.root / "meld/text").iterdir()) == []


def test_weights_that_torch_keeps_are_found_without_it(tmp_path: Path) -> None:
    program = (
        "import sys; from encoders.creation import CATALOGUE; from encoders.catalogue.checkpoint import is_cached\n"
        "assert is_cached(CATALOGUE['vggish']); assert 'torch' not in sys.modules"
    )
    torch_home = tmp_path / "torch"
    file = torch_home / "hub" / "checkpoints" / "vggish-10086976.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    for variables in ({"TORCH_HOME": str(torch_home)}, {"XDG_CACHE_HOME": str(tmp_path)}):
        environment = {**{k: v for k, v in os.environ.items() if k != "TORCH_HOME"}, **variables}
        subprocess.run([sys.executable, "-c", program], env=environment, cwd=Path(__file__).parents[3], check=True)


def test_what_pictures_show_of_faces_is_summed_up_by_folder(store: FeatureStore) -> None:
    def seen(number: int) -> dict[str, Any]:
        return FaceFigures(12, number, 1, 10.0 * number or None, None, False).to_dict()

    store.write("meld", PLAIN, ["a", "b"], ["s", "s"], rows([1, 2, 3], [4, 5, 6]), None, [seen(12), seen(6)])
    store.write("meld", PLAIN, ["a"], ["old"], rows([1, 2, 3]), None, [seen(1)])
    store.write_failures("meld", PLAIN, [("c", "s", "failed", "few")], figures=[seen(2)])
    usage = Usage({}, {}, {"meld/video/plain-ba9876543210": dict.fromkeys("abc", "s")})
    # shares 1, 1/2 and 1/6, the last below a quarter; the clip a of other media does not count
    assert one(store, usage).faces == FaceSummary(3, 0.5, 1, 0, 0, 60.0, None)
    store.write("meld", SPEC, ["a"], ["s"], rows([1, 2, 3, 4]))
    assert [report.faces is None for report in take_inventory(store.root)] == [True, False]


TIMED = SPEC.in_time(None, {})


def in_time(*values: float, state: int = 2) -> Timed:
    frames = np.repeat(np.array(values, dtype=np.float16)[:, None], 2, axis=1)
    return Timed(frames, Fraction(24), 0.0, np.full(len(values), state, dtype=np.int8))


def test_values_in_time_are_counted_by_frames(store: FeatureStore) -> None:
    timed = TimedStore(store.root)
    timed.write_timed("meld", TIMED, ["a", "b"], ["s", "s"], [in_time(1, 2, 4), in_time(0, 0, state=0)])
    timed.write_timed("meld", TIMED, ["c"], ["s"], [in_time(5, state=1)])
    timed.write_failures("meld", TIMED, [("d", "s", "failed", "dark")])
    report = one(store)
    assert (report.folder, report.rate, report.cap) == (f"meld/text/{TIMED.key}", "own", None)
    assert (report.done, report.failed, report.num_parts, report.width) == (3, 1, 2, 2)
    assert (report.num_frames, report.num_repeated, report.num_none, report.longest) == (6, 1, 2, 3)
    assert report.mean == pytest.approx(12 / 6)  # 1 + 2 + 4 + 0 + 0 + 5; squares 46
    assert report.std == pytest.approx((46 / 6 - 4) ** 0.5)
    assert (report.constant_vectors, report.constant_columns) == (1, 0)  # b
    assert report.is_sound
    assert report.num_bytes == sum(path.stat().st_size for path in (store.root / report.folder).iterdir())


def test_damaged_values_in_time_are_found(store: FeatureStore) -> None:
    timed = TimedStore(store.root)
    for name in "abc":
        timed.write_timed("meld", TIMED, [name], ["s"], [in_time(1, 2)])
    parts = sorted((store.root / "meld" / "text" / TIMED.key).glob("part-*.parquet"))
    rows_of(parts[0]).unlink()
    np.save(rows_of(parts[1]), np.zeros((1, 2), np.float16))
    np.save(rows_of(parts[2]), np.full((2, 2), np.nan, np.float16))
    report = one(store)
    reasons = sorted(damage.reason for damage in report.damaged)
    assert [reason.split("-")[0] for reason in reasons] == [
        "its rows, frames",
        "places or states of clips do not fit the 1 rows of frames",
    ]
    assert report.not_finite == 1
    assert not report.is_sound


def test_rows_that_no_part_names_are_a_leftover_after_a_while(store: FeatureStore) -> None:
    timed = TimedStore(store.root)
    timed.write_timed("meld", TIMED, ["a"], ["s"], [in_time(1, 2)])
    timed.write_timed("meld", TIMED, ["b"], ["s"], [in_time(3)])
    part = next((store.root / "meld" / "text" / TIMED.key).glob("part-*.parquet"))
    rows = rows_of(part)
    part.unlink()
    assert find_leftovers(store.root) == []  # its writer may be about to write the part
    os.utime(rows, (0, 0))
    (leftover,) = find_leftovers(store.root)
    assert leftover == Leftover(rows.relative_to(store.root).as_posix(), rows.stat().st_size)
    assert remove(store.root, [], [leftover.path])[0] == [leftover.path]
    assert not rows.exists()


def test_values_in_time_of_a_configuration(store: FeatureStore) -> None:
    used = FeaturesConfig(store=str(store.root), encoders={"text": "minilm"}, timed=("text",))
    clips = pd.DataFrame([{"corpus": "meld", "clip_id": "a", "media": None, "start": None, "end": None,
                           "text": "hi", "description": None, "words": None}])  # fmt: skip
    usage = usage_of(used, {"meld": clips})
    keys = [folder.rpartition("/")[2] for folder in usage.folders]
    assert [key.endswith("-frames-own") for key in keys] == [False, True]
    vectors, timed = usage.folders
    assert usage.sources[vectors]["a"] != usage.sources[timed]["a"]
    spec = make_encoder("minilm", "text").spec
    other = TimedStore(store.root)
    values = Timed(np.ones((1, 384), np.float16), Fraction(24), 0.0, np.full(1, 2, np.int8))
    other.write_timed("meld", spec.in_time(12, {}), ["a"], ["s"], [values])
    assert [report.rate for report in prunable(store.root, take_inventory(store.root, usage), usage)] == ["12"]

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from encoders.errors import StoreError
from encoders.spec import EncoderSpec, source_of
from encoders.store import index as index_module
from encoders.store import vector_store as store_module
from encoders.store.claims import Claims, Item
from encoders.store.parts import clean
from encoders.store.vector_store import LEDGER_COLUMNS, FeatureStore

SPEC = EncoderSpec("org/name", 1, "text", 2, {"revision": "abc"}, "0123456789ab")


def vectors(*firsts: float) -> np.ndarray:
    return np.array([[first, 1, 2, 3] for first in firsts], dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path)


def test_layout_is_the_documented_one(store: FeatureStore, tmp_path: Path) -> None:
    store.write("meld", SPEC, ["a"], ["s"], vectors(1), ["a note"])
    store.write_failures("meld", SPEC, [("b", "s", "failed", "why")])
    folder = tmp_path / "meld" / "text" / "org_name-0123456789ab"
    names = sorted(path.name for path in folder.iterdir())
    assert [name.partition("-")[0] for name in names] == ["encoder.json", "ledger", "part"]
    spec = json.loads((folder / "encoder.json").read_text())
    assert spec == {
        "id": "org/name", "version": 1, "modality": "text", "width": 2, "settings": {"revision": "abc"},
        "fingerprint": "0123456789ab", "pooling": "mean+std",
    }  # fmt: skip
    part = pq.read_table(next(folder.glob("part-*.parquet")))
    assert part.column_names == ["clip_id", "source", "vector", "note"]
    assert str(part.schema.field("vector").type) == "fixed_size_list<element: float not null>[4]"
    assert part.to_pylist() == [{"clip_id": "a", "source": "s", "vector": [1.0, 1.0, 2.0, 3.0], "note": "a note"}]


def test_read_follows_the_order_asked_for_and_masks_what_is_missing(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a", "b"], ["s", "s"], vectors(1, 2))
    store.write("meld", SPEC, ["c"], ["s"], vectors(3))
    store.write("other", SPEC, ["d"], ["s"], vectors(4))
    present, found = store.read("meld", SPEC, ["c", "d", "a"], ["s", "s", "s"])
    assert present.tolist() == [True, False, True]
    assert found.dtype == np.float32
    assert found.tolist() == [[3, 1, 2, 3], [0, 0, 0, 0], [1, 1, 2, 3]]


def test_rows_of_another_source_are_ignored(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a", "b"], ["old", "old"], vectors(1, 2))
    store.write("meld", SPEC, ["a"], ["new"], vectors(9))
    present, found = store.read("meld", SPEC, ["a", "b"], ["new", "new"])
    assert present.tolist() == [True, False]
    assert found[0].tolist() == [9, 1, 2, 3]
    assert store.read("meld", SPEC, ["a"], ["old"])[1][0].tolist() == [1, 1, 2, 3]


def test_empty_store_reads_as_absent(store: FeatureStore) -> None:
    present, found = store.read("meld", SPEC, ["a"], ["s"])
    assert present.tolist() == [False]
    assert found.shape == (1, 4)
    assert store.read("meld", SPEC, [], [])[1].shape == (0, 4)


def test_asking_twice_for_a_clip_is_an_error(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="asked for twice"):
        store.read("meld", SPEC, ["a", "a"], ["s", "s"])


def test_unfinished_file_is_ignored_and_removed_once_stale(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a"], ["s"], vectors(1))
    folder = store.folder("meld", SPEC)
    fresh, stale = folder / ".temporary-1", folder / ".temporary-2"
    fresh.write_bytes(b"PAR1 torn")
    stale.write_bytes(b"PAR1 torn")
    os.utime(stale, (time.time() - 3600,) * 2)
    assert store.clip_ids("meld", SPEC) == {"a"}
    assert store.read("meld", SPEC, ["a"], ["s"])[0].all()
    assert clean(folder) == 1
    assert fresh.exists()
    assert not stale.exists()


def test_failed_write_leaves_no_part(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(table: object, path: Path, **_: object) -> None:
        path.write_bytes(b"PAR1 torn")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.pq, "write_table", full_disk)
    with pytest.raises(OSError, match="No space"):
        store.write("meld", SPEC, ["a"], ["s"], vectors(1))
    assert [path.name for path in store.folder("meld", SPEC).iterdir()] == ["encoder.json"]


def test_bytes_are_on_the_disk_before_the_name(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append("fsync"), fsync(file))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (events.append("replace"), replace(*names))[1])
    store.write("meld", SPEC, ["a"], ["s"], vectors(1))
    assert events == ["fsync", "replace"] * 2  # encoder.json, then the part


def test_torn_part_is_named(store: FeatureStore) -> None:
    store.write("meld", SPEC, ["a"], ["s"], vectors(1))
    torn = store.folder("meld", SPEC) / "part-torn.parquet"
    torn.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"part-torn\.parquet: not a readable part .*delete it"):
        store.read("meld", SPEC, ["a"], ["s"])


def test_wrong_vectors_are_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match=r"need vectors \(1, 4\), found \(1, 3\)"):
        store.write("meld", SPEC, ["a"], ["s"], np.zeros((1, 3), dtype=np.float32))
    with pytest.raises(StoreError, match=r"clip 'b' .* not finite"):
        store.write("meld", SPEC, ["a", "b"], ["s", "s"], vectors(1, np.inf))
    assert not store.folder("meld", SPEC).exists()


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a\0b"])
def test_names_that_are_no_folders_are_refused(store: FeatureStore, name: str) -> None:
    with pytest.raises(StoreError, match="cannot name a folder"):
        store.folder(name, SPEC)


def test_done_prefers_a_vector_and_then_the_latest_word(store: FeatureStore) -> None:
    rows = [("a", "s", "failed", "first"), ("b", "s", "failed", "first")]
    store.write_failures("meld", SPEC, rows, time="2024-01-02T00:00:00.000000+00:00")
    for _ in range(4):  # parts are named at random: the order of files must not decide
        store.write_failures("meld", SPEC, [("b", "s", "failed", "old")], time="2024-01-01T00:00:00.000000+00:00")
    store.write_failures("meld", SPEC, [("b", "s", "absent", "second")])
    assert store.done("meld", SPEC)["a", "s"].reason == "first"
    store.write("meld", SPEC, ["a"], ["s"], vectors(1))
    for view in (store, FeatureStore(store.root)):  # what a long-lived and a new instance see
        entries = view.done("meld", SPEC)
        assert entries["a", "s"].status == "done"
        assert (entries["b", "s"].status, entries["b", "s"].reason) == ("absent", "second")


def test_done_opens_only_new_parts(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = index_module.read_part
    monkeypatch.setattr(index_module, "read_part", lambda path, names: (opened.append(path.name), read(path, names))[1])
    for clip in "abc":
        store.write("meld", SPEC, [clip], ["s"], vectors(1))
        assert ("a", "s") in store.done("meld", SPEC)
    assert len(opened) == 3  # re-reading everything would be 1 + 2 + 3


def test_ledger_says_what_is_missing_and_why(store: FeatureStore) -> None:
    store.write_failures("meld", SPEC, [("a", "s", "failed", "no face"), ("b", "s", "absent", "no text")])
    store.write_failures("meld", SPEC, [("c", "s", "failed", "no face")])
    store.write("meld", SPEC, ["c"], ["s"], vectors(1))
    ledger = store.ledger("meld", SPEC)
    assert tuple(ledger.columns) == LEDGER_COLUMNS
    ledger = ledger.sort_values("clip_id").reset_index(drop=True)
    assert ledger["clip_id"].tolist() == ["a", "b"]
    assert ledger.loc[0, ["corpus", "modality", "encoder", "status", "reason"]].tolist() == [
        "meld", "text", "org/name", "failed", "no face",
    ]  # fmt: skip
    assert abs((pd.Timestamp.now(tz="UTC") - pd.Timestamp(ledger.loc[0, "time"])).total_seconds()) < 60
    assert store.ledger("meld", SPEC, [("b", "s"), ("a", "changed")])["clip_id"].tolist() == ["b"]
    with pytest.raises(StoreError, match="'failed' or 'absent', found 'lost'"):
        store.write_failures("meld", SPEC, [("a", "s", "lost", "why")])


def test_source_follows_what_a_modality_is_made_from(tmp_path: Path) -> None:
    media = tmp_path / "a.mp4"
    media.write_bytes(b"12345")
    clip = {"media": str(media), "start": 0.0, "end": 1.0, "text": "hello", "description": None}

    def changed(modality: str, **changes: object) -> bool:
        return source_of({**clip, **changes}, modality) != source_of(clip, modality)

    assert len(source_of(clip, "video")) == 12
    assert changed("video", end=2.0)
    assert changed("video", start=float("nan"))
    assert not changed("video", text="bye")
    assert changed("text", text="bye")
    assert not changed("text", end=2.0)
    assert changed("behavior", description="smiles")
    assert changed("behavior", end=2.0)
    untranscribed = {**clip, "text": pd.NA}
    assert source_of(untranscribed, "text") != source_of({**untranscribed, "end": 2.0}, "text")
    before = source_of(clip, "audio")
    media.write_bytes(b"123456")
    assert source_of(clip, "audio") != before
    moved = tmp_path / "b.mp4"
    moved.write_bytes(b"123456")
    assert not changed("audio", media=str(moved))
    assert changed("audio", media=str(tmp_path / "missing.mp4"))


def test_source_covers_a_fallback_and_a_sound_file_where_given(tmp_path: Path) -> None:
    full, sound = tmp_path / "full.mp4", tmp_path / "a.wav"
    full.write_bytes(b"123")
    sound.write_bytes(b"1234567")
    clip = {"media": None, "start": 0.0, "end": 1.0, "text": None, "description": None}
    modalities = ("video", "audio", "text", "behavior")

    def changes(before: dict[str, object], **after: object) -> list[str]:
        return [name for name in modalities if source_of(before | after, name) != source_of(before, name)]

    fallen = clip | {"fallback_media": str(full), "fallback_start": 3.0, "fallback_end": 4.0}
    heard = clip | {"audio_media": str(sound), "audio_start": 3.0, "audio_end": 4.0}
    assert changes(clip, fallback_media=str(full)) == list(modalities)
    assert changes(fallen, fallback_start=3.5) == list(modalities)
    assert changes(fallen, fallback_end=float("nan")) == list(modalities)
    assert changes(fallen, fallback_media=str(sound)) == list(modalities)  # another size
    assert changes(clip, audio_media=str(sound)) == ["audio", "text", "behavior"]
    assert changes(heard, audio_start=3.5) == ["audio", "text", "behavior"]
    assert changes(heard, audio_end=None) == ["audio", "text", "behavior"]
    assert changes(heard, audio_media=str(full)) == ["audio", "text", "behavior"]
    assert changes(heard, text="hello") == ["text", "behavior"]
    assert changes(heard | {"text": "hello"}, audio_start=0.0) == ["audio", "behavior"]
    same_size = fallen | {"audio_media": None} | heard | {"audio_media": str(full)}
    assert source_of(fallen, "audio") != source_of(same_size | {"fallback_media": None}, "audio")
    moved = tmp_path / "moved.mp4"
    moved.write_bytes(b"321")
    assert changes(fallen, fallback_media=str(moved)) == []


def test_source_of_a_clip_without_other_files_never_changes(tmp_path: Path) -> None:
    """Stores that exist stay valid: these are the hashes that they were written with."""
    media = tmp_path / "a.mp4"
    media.write_bytes(b"12345")
    clip = {"media": str(media), "start": 0.5, "end": 1.25, "text": "well, no", "description": "looks away"}
    bare = {"media": None, "start": float("nan"), "end": None, "text": None, "description": None}
    gone = clip | {"media": str(tmp_path / "gone.mp4"), "text": " "}
    expected = {
        "video": ("8eb083977207", "7ed5958c5c4e", "5d9983f74028"),
        "audio": ("8eb083977207", "7ed5958c5c4e", "5d9983f74028"),
        "text": ("14f1753cd2f1", "f94139614091", "95e3229ccc17"),
        "behavior": ("4eae4ccb0961", "17e71049fd76", "0fc57711b4ac"),
    }
    names = ("audio_media", "audio_start", "audio_end", "fallback_media", "fallback_start", "fallback_end", "context")
    missing = (pd.NA, None, float("nan"))
    for more in ({}, *(dict.fromkeys(names, value) for value in missing)):
        for modality, hashes in expected.items():
            assert tuple(source_of(row | more, modality) for row in (clip, bare, gone)) == hashes


def test_claims_of_the_living_are_seen_and_those_of_the_dead_removed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from encoders.store.claims import Claims, Item\n"
        "with Claims(sys.argv[1]) as claims:\n"
        "    with claims.exclusive: claims.add([Item('f', 'a', 's'), Item('f', 'b', 's')])\n"
        "    claims.drop([Item('f', 'b', 's')]); print('claimed', flush=True); time.sleep(60)\n"
    )
    peer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert peer.stdout is not None
    assert peer.stdout.readline() == "claimed\n"
    with Claims(tmp_path) as claims:
        with claims.exclusive:
            claims.add([Item("f", "c", "s")])
            taken = claims.others()
        assert taken == {Item("f", "a", "s"): taken[Item("f", "a", "s")]}
        assert f"process {peer.pid} on " in taken[Item("f", "a", "s")]
        peer.kill()
        peer.wait()
        peer.stdout.close()
        with claims.exclusive:
            assert claims.others() == {}
        assert len(list((tmp_path / ".claims").glob("*.json"))) == 1  # the own
    assert sorted(path.name for path in (tmp_path / ".claims").iterdir()) == ["ended", "exclusive.lock"]


def test_figures_lie_beside_vectors_and_failures(store: FeatureStore, tmp_path: Path) -> None:
    store.write("meld", SPEC, ["a", "b"], ["s", "s"], vectors(1, 2), None, [{"num_frames": 12}, None])
    store.write_failures("meld", SPEC, [("c", "s", "failed", "dark"), ("d", "s", "absent", "no text")])
    rows = [("e", "s", "failed", "few"), ("f", "s", "failed", "few")]
    store.write_failures("meld", SPEC, rows, figures=[None, {"num_frames": 8}])
    expected = {("a", "s"): {"num_frames": 12}, ("f", "s"): {"num_frames": 8}}
    assert store.figures("meld", SPEC) == expected
    assert FeatureStore(tmp_path).figures("meld", SPEC) == expected
    assert store.figure_rows("meld", SPEC, [("f", "s"), ("a", "other"), ("c", "s")]) == [
        {"corpus": "meld", "modality": "text", "encoder": "org/name", "clip_id": "f", "num_frames": 8}
    ]
    assert store.read("meld", SPEC, ["b"], ["s"])[0].tolist() == [True]
    assert sorted(store.ledger("meld", SPEC)["clip_id"]) == ["c", "d", "e", "f"]  # parts have names by chance


def test_a_store_without_figures_is_read_and_added_to(store: FeatureStore, tmp_path: Path) -> None:
    store.write("meld", SPEC, ["a"], ["s"], vectors(1), ["a note"])  # as before: no column of figures
    store.write("meld", SPEC, ["b"], ["s"], vectors(2), None, [{"num_frames": 4}])
    parts = sorted(pq.read_table(path).column_names[-1] for path in tmp_path.rglob("part-*.parquet"))
    assert parts == ["note", "note"]
    assert store.figures("meld", SPEC) == {("b", "s"): {"num_frames": 4}}
    assert store.notes("meld", SPEC) == {("a", "s"): "a note"}
    assert store.read("meld", SPEC, ["a", "b"], ["s", "s"])[0].all()

"""`mmpsr features`: what it prints, what it removes, and with which status it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from encoders.config import FeaturesConfig, TranscriberConfig
from encoders.extraction.encode import make_encoder
from encoders.extraction.read import timed_source, timed_specs
from encoders.maintenance import pruning
from encoders.store.claims import Claims, Item
from encoders.store.sequence_store import SequenceStore
from encoders.store.timed_store import TimedStore
from encoders.store.vector_store import FeatureStore
from encoders.timed import Timed
from encoders.writers.build import text_writers
from training.commands.console import app

ENCODER = make_encoder("minilm", "text")
SPEC = ENCODER.spec
OLD = dataclasses.replace(SPEC, fingerprint="0123456789ab")
USED, UNUSED = f"mine/text/{SPEC.key}", f"mine/text/{OLD.key}"
VECTOR = np.arange(768, dtype=np.float32)[np.newaxis]
CONFIGURED = ("--config", "run.toml")


@pytest.fixture
def store(table_run: Path) -> FeatureStore:
    """A store with a used and an unused fingerprint of one clip, a lost clip, and a leftover."""
    Path("mine.csv").write_text("id,text,split,label\na,one,train,present\nb,two,dev,absent\n", encoding="utf-8")
    store = FeatureStore(table_run / "store")
    row = {"media": None, "start": None, "end": None, "description": None}
    store.write("mine", SPEC, ["a"], [ENCODER.source({**row, "text": "one"})], VECTOR)
    store.write("mine", SPEC, ["a", "gone"], ["s", "s"], np.concatenate([VECTOR, VECTOR]))
    store.write_failures("mine", SPEC, [("b", ENCODER.source({**row, "text": "two"}), "failed", "why")])
    store.write("mine", OLD, ["a"], ["s"], VECTOR)
    store.write("other", OLD, ["z"], ["s"], VECTOR)
    leftover = store.root / USED / ".temporary-1"
    leftover.write_bytes(b"1234567")
    os.utime(leftover, (time.time() - 601,) * 2)
    return store


def run(*arguments: str, status: int = 0, answer: str | None = None) -> tuple[str, str]:
    result = CliRunner().invoke(app, arguments, input=answer)
    assert result.exit_code == status, result.output
    return " ".join(result.stdout.split()), " ".join(result.stderr.split())


def listed(*arguments: str, status: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["features", "--json", *arguments])
    assert result.exit_code == status, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_the_json_document(store: FeatureStore) -> None:
    document = listed(*CONFIGURED)
    assert list(document) == ["store", "config", "folders", "leftovers", "num_bytes", "removed", "kept"]
    used = next(folder for folder in document["folders"] if folder["folder"] == USED)
    times = {used.pop("oldest"), used.pop("newest")}
    num_bytes = used.pop("num_bytes")
    others = [folder["num_bytes"] for folder in document["folders"] if folder is not used]
    assert all(time.endswith("+00:00") for time in times)
    assert num_bytes == sum(path.stat().st_size for path in (store.root / USED).iterdir())
    # 0 to 767: mean 767 / 2, variance (768^2 - 1) / 12
    assert used.pop("mean") == pytest.approx(383.5)
    assert used.pop("std") == pytest.approx(((768**2 - 1) / 12) ** 0.5)
    assert used == {
        "folder": USED, "corpus": "mine", "modality": "text", "encoder": "minilm", "fingerprint": SPEC.fingerprint,
        "in_use": True, "done": 1, "failed": 1, "absent": 0, "superseded": 2, "cap": None, "longest": None,
        "rate": None, "num_frames": None, "num_repeated": None, "num_none": None,
        "width": 768, "constant_columns": 768, "constant_vectors": 0, "not_finite": 0, "num_parts": 2, "damaged": [],
        "faces": None,
    }  # fmt: skip
    assert (document["store"], document["config"]) == ("store", "run.toml")
    assert document["leftovers"] == [{"path": f"{USED}/.temporary-1", "num_bytes": 7}]
    assert document["num_bytes"] == num_bytes + sum(others)
    assert (document["removed"], document["kept"]) == ([], {})
    assert {folder["folder"]: folder["in_use"] for folder in document["folders"]} == {
        USED: True, UNUSED: False, f"other/text/{OLD.key}": False,
    }  # fmt: skip


def test_tables(store: FeatureStore) -> None:
    out, err = run("features", *CONFIGURED)
    assert "mine modality encoder done failed absent superseded width mean ± std size" in out
    assert "text minilm 1 0 0 0 768 384 ± 222" in out
    assert "text minilm 1 1 0 2 768 384 ± 222" in out
    assert "not used by this configuration" in out
    assert f"{SPEC.fingerprint}, 20" in out
    assert "768 of 768 columns are the same in all vectors" in out
    assert "1 leftovers of killed processes, 7 bytes" in out
    assert "store: 3 folders," in out
    assert out.endswith("all can be read and are finite")
    assert err == ""


def test_without_a_configuration_use_is_not_told(store: FeatureStore) -> None:
    document = listed("--store", "store")
    assert document["config"] is None
    assert {folder["in_use"] for folder in document["folders"]} == {None}
    used = next(folder for folder in document["folders"] if folder["folder"] == USED)
    assert (used["done"], used["failed"], used["superseded"]) == (2, 1, 1)
    out, _ = run("features", "--store", "store")
    assert "use" not in out.split()


def test_where_the_store_is(store: FeatureStore) -> None:
    assert listed()["store"] == "data/features"
    assert listed()["folders"] == []
    assert run("features")[0] == "data/features: holds nothing"
    other = FeatureStore("elsewhere")
    other.write("mine", OLD, ["a"], ["s"], VECTOR)
    document = listed(*CONFIGURED, "--store", "elsewhere")
    assert [folder["folder"] for folder in document["folders"]] == [UNUSED]
    assert listed(*CONFIGURED, "--set", 'features.store="elsewhere"')["store"] == "elsewhere"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "nowhere"], "error: --store: there is no folder nowhere"),
        (["--prune"], "error: --prune needs --config: what is used is what a file says"),
        ([*CONFIGURED, "--prune", "--compact"], "error: --prune and --compact: give one at a time"),
        (["--store", "nowhere", "--compact"], "error: --store: there is no folder nowhere"),
        (["--set", "a.b=1"], "error: --set needs --config: what is used is what a file says"),
        (["--config", "nowhere.toml"], "error: nowhere.toml: there is no such configuration file"),
        ([*CONFIGURED, "--set", 'features.encoders.text="minilmm"'], "error: features.encoders.text: no encoder is"),
    ],
)
def test_what_cannot_be_used_ends_with_status_2(store: FeatureStore, arguments: list[str], message: str) -> None:
    out, err = run("features", "--json", *arguments, status=2)
    assert out == ""
    assert err.startswith(message)


def test_damage_and_broken_vectors_end_with_status_1(store: FeatureStore) -> None:
    (store.root / UNUSED / "part-0.parquet").write_bytes(b"")
    out, _ = run("features", "--store", "store", status=1)
    assert "part-0.parquet cannot be read" in out
    assert "delete it and its clips are extracted again" in out
    assert out.endswith("1 of them cannot be trusted")
    (store.root / UNUSED / "part-0.parquet").unlink()
    (store.root / UNUSED / "encoder.json").unlink()
    assert "delete it and extraction writes it anew" in run("features", "--store", "store", status=1)[0]


def test_broken_and_odd_vectors_are_told(store: FeatureStore) -> None:
    part = next((store.root / UNUSED).glob("part-*"))
    odd = np.concatenate([np.ones_like(VECTOR), np.full_like(VECTOR, 2), np.full_like(VECTOR, np.nan)])
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), 768)
    values = pa.FixedSizeListArray.from_arrays(pa.array(odd.ravel()), type=kind)
    pq.write_table(pa.table({"clip_id": list("abc"), "source": list("sss"), "vector": values}), part)
    out, _ = run("features", "--store", "store", status=1)
    assert "1 vectors hold NaN or infinity" in out
    assert "2 vectors hold one value throughout" in out


def test_sequences_are_listed_kept_and_pruned(store: FeatureStore) -> None:
    spec, keep = SPEC.sequences(9), ("--set", "features.sequences={text=9}")
    source = ENCODER.source({"media": None, "start": None, "end": None, "description": None, "text": "one"})
    still = np.ones((2, SPEC.width), dtype=np.float16)
    SequenceStore(store.root).write_sequences("mine", spec, ["a", "gone"], [source, "s"], [still, still])
    folder = f"{USED}-sequence-9"
    out, _ = run("features", *CONFIGURED, *keep)
    assert f"text minilm 1 0 0 1 384 1 ± 0 4.6 kB {SPEC.fingerprint}, sequences of at most 9 (longest 2)" in out
    assert "2 sequences do not change over time" in out
    assert "384 of 384 columns are the same in all sequences" in out
    document = listed(*CONFIGURED, *keep, "--prune", "--yes")
    assert {each["folder"]: each["longest"] for each in document["folders"] if each["in_use"]} == {
        USED: None,
        folder: 2,
    }
    assert folder not in document["removed"]
    assert listed(*CONFIGURED, "--prune", "--yes")["removed"] == [folder]
    assert (store.root / USED).exists()
    wrong = ("--set", "features.sequences={txt=9}")
    assert "'txt' has no encoder; did you mean 'text'?" in run("features", *CONFIGURED, *wrong, status=2)[1]


def test_values_in_time_are_listed_kept_and_pruned(store: FeatureStore) -> None:
    keep = ("--set", 'features.timed=["text"]')
    row = {"media": None, "start": None, "end": None, "description": None, "text": "one"}
    spec = timed_specs(FeaturesConfig(encoders={"text": "minilm"}, timed=("text",)), {"text": ENCODER})["text"]
    values = np.zeros((4, SPEC.width), dtype=np.float16)
    values[1:] = [[1], [1], [2]]
    timed = Timed(values, Fraction(24), 0.0, np.array([0, 2, 1, 2], dtype=np.int8))
    TimedStore(store.root).write_timed("mine", spec, ["a", "gone"], [timed_source(ENCODER, row), "s"], [timed, timed])
    folder = f"mine/text/{spec.key}"
    out, _ = run("features", *CONFIGURED, *keep)
    lines = f"{spec.fingerprint}, 8 frames in time, each file's own rate (2 repeated, 2 without any)"
    assert "text minilm 1 0 0 1 384 1 ± 0.707" in out
    assert lines in out
    document = listed(*CONFIGURED, *keep, "--prune", "--yes")
    assert {each["folder"]: each["num_frames"] for each in document["folders"] if each["in_use"]} == {
        USED: None,
        folder: 8,
    }
    assert folder not in document["removed"]
    in_time = listed(*CONFIGURED, "--set", "model.kind=frame", "--prune", "--yes")  # it keeps them without being told
    assert {each["folder"] for each in in_time["folders"] if each["in_use"]} == {USED, folder}
    assert in_time["removed"] == []
    assert listed(*CONFIGURED, "--prune", "--yes")["removed"] == [folder]


def test_corrected_texts_that_cannot_be_used_end_with_status_2(store: FeatureStore) -> None:
    (writer,) = text_writers(FeaturesConfig(transcriber=TranscriberConfig()))
    folder = store.root / "mine" / "texts" / writer.spec.key
    folder.mkdir(parents=True)
    (folder / "corrections.csv").write_text("wrong\n")
    out, err = run("features", "--json", *CONFIGURED, "--set", "features.transcriber={}", status=2)
    assert out == ""
    assert "corrections.csv: columns must be clip_id,text" in err


def test_a_corpus_that_cannot_be_read_is_told(store: FeatureStore) -> None:
    Path("mine.csv").unlink()
    result = CliRunner().invoke(app, ["features", "--json", *CONFIGURED])
    assert result.exit_code == 0
    assert result.stderr.startswith("corpus 'mine' cannot be read, so any of its clips counts: ")
    used = next(folder for folder in json.loads(result.stdout)["folders"] if folder["folder"] == USED)
    assert (used["in_use"], used["done"]) == (True, 2)


def test_why_a_corpus_cannot_be_read_quotes_no_texts(store: FeatureStore) -> None:
    _, err = run("features", *CONFIGURED, "--set", 'corpora.sources.mine.split="what he said on the phone"')
    assert "has no column '...' (6 words)" in err


def test_encoders_of_modalities_that_are_not_in_use_are_not_made(store: FeatureStore) -> None:
    listed(*CONFIGURED, "--set", 'features.encoders.video="no_module:Encoder"')
    listed(*CONFIGURED, "--set", 'data.modalities=["text", "audio"]')  # which has no encoder, so no folder either
    run("features", *CONFIGURED, "--set", 'features.encoders.video="no_module:E"', "--set",
        'data.modalities=["text", "video"]', status=2)  # fmt: skip


def test_pruning_shows_and_asks(store: FeatureStore) -> None:
    _, err = run("features", *CONFIGURED, "--prune", answer="n\n")
    assert UNUSED in err
    assert "1 clips, not used by this configuration" in err
    assert f"{USED}/.temporary-1 leftover of a killed process 7 bytes" in err
    assert err.endswith("Remove them? [y/N]:nothing was removed")
    assert (store.root / UNUSED).exists()
    run("features", *CONFIGURED, "--prune", answer="", status=130)
    assert (store.root / UNUSED).exists()
    _, err = run("features", *CONFIGURED, "--prune", answer="y\n")
    assert err.endswith("removed 2 of 2")
    assert not (store.root / UNUSED).exists()
    assert not (store.root / USED / ".temporary-1").exists()
    assert (store.root / "other/text" / OLD.key).exists()
    assert run("features", *CONFIGURED, "--prune")[1] == "nothing to remove"


def test_pruning_without_a_question_leaves_one_document(store: FeatureStore) -> None:
    (store.root / UNUSED / "part-0.parquet").write_bytes(b"")
    document = listed(*CONFIGURED, "--prune", "--yes")  # what was damaged is gone, so the status is 0
    assert document["removed"] == [UNUSED, f"{USED}/.temporary-1"]
    assert document["kept"] == {}
    assert len(document["folders"]) == 3
    assert listed(*CONFIGURED)["removed"] == []


def test_leftovers_alone_are_removed_too(store: FeatureStore) -> None:
    shutil.rmtree(store.root / UNUSED)
    _, err = run("features", *CONFIGURED, "--prune", answer="n\n")
    assert "leftover of a killed process 7 bytes 7 bytes Remove them?" in err
    assert listed(*CONFIGURED, "--prune", "--yes")["removed"] == [f"{USED}/.temporary-1"]


def test_what_is_printed_on_the_way_does_not_disturb_the_document(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "find_leftovers", lambda root: print("looking") or [])
    result = CliRunner().invoke(app, ["features", "--json"])
    assert json.loads(result.stdout)["leftovers"] == []
    assert result.stderr == "looking\n"


def test_pruning_keeps_folders_while_others_work_on_the_store(store: FeatureStore) -> None:
    (store.root / UNUSED / "part-0.parquet").write_bytes(b"")
    with Claims(store.root) as claims:
        claims.add([Item(UNUSED, "a", "s")])
        document = listed(*CONFIGURED, "--prune", "--yes", status=1)
        assert document["removed"] == [f"{USED}/.temporary-1"]
        assert list(document["kept"]) == [UNUSED]
        _, err = run("features", *CONFIGURED, "--prune", "--yes", status=1)
    assert f"kept {UNUSED}: process {os.getpid()} on" in err
    assert err.endswith("removed 0 of 1")


def test_compacting_shows_asks_and_says_what_was_done(store: FeatureStore) -> None:
    store.write("mine", SPEC, ["c"], ["s"], VECTOR)
    before = sum(path.stat().st_size for path in (store.root / USED).glob("part-*.parquet"))
    _, err = run("features", "--store", "store", "--compact", answer="n\n")
    plan = f"1 folder, 4 parts into 2, {before / 1000:.1f} kB copied"  # three parts become one, the ledger stays
    assert err == f"to be compacted: {plan} Compact them? [y/N]:nothing was compacted"
    assert len(list((store.root / USED).glob("part-*.parquet"))) == 3
    out, _ = run("features", *CONFIGURED, "--compact", answer="y\n")
    assert out.endswith(f"store: compacted {plan}")  # after the answer
    assert len(list((store.root / USED).glob("part-*.parquet"))) == 1
    assert run("features", "--store", "store", "--compact")[1] == "store: nothing to compact"
    document = listed(*CONFIGURED)
    assert {folder["folder"]: folder["done"] for folder in document["folders"]}[
        USED
    ] == 1  # the configured clips, as before
    assert [folder["num_parts"] for folder in document["folders"]] == [1, 1, 1]


def test_compacting_without_a_question_leaves_one_document(store: FeatureStore) -> None:
    (store.root / USED / "part-0.parquet").write_bytes(b"")
    result = CliRunner().invoke(app, ["features", "--store", "store", "--compact", "--yes", "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    (report,) = document.pop("compacted")
    assert document == {"store": "store"}
    assert (report["folder"], report["parts_before"], report["parts_after"]) == (USED, 4, 3)
    assert list(report["left"]) == ["part-0.parquet"]
    assert f"left {USED}/part-0.parquet: " in " ".join(result.stderr.split())

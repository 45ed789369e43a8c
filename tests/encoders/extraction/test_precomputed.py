from __future__ import annotations

import os
import pickle
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.base import pool
from encoders.config import FeaturesConfig, PrecomputedConfig
from encoders.creation import create_encoder
from encoders.errors import ExtractionError, Failure, MissingModality
from encoders.extraction import precomputed, workers
from encoders.extraction import precomputed as feature_files
from encoders.extraction.encode import make_encoder
from encoders.extraction.extract import extract
from encoders.extraction.precomputed import Precomputed
from encoders.extraction.read import encoder_specs, read_vectors
from encoders.media.clip import ClipMedia
from encoders.spec import EncoderSpec
from mmpsr.config import Config, ConfigError, validate
from mmpsr.unpickling import load_pickle
from tests.support.encoding import encode_clips
from tests.support.fake_encoders import Obedient, features

FRAMES = [[1.0, 2.0], [3.0, 6.0]]
POOLED = [2.0, 4.0, 1.0, 2.0]  # mean (1 + 3) / 2 and (2 + 6) / 2; population standard deviation 1 and 2


class Root(Config):
    features: FeaturesConfig


def table(*rows: Mapping[str, object]) -> pd.DataFrame:
    return pd.DataFrame([{"corpus": "c", "split": "train", "text": None, **row} for row in rows])


def declared(path: Path | str, **values: Any) -> PrecomputedConfig:
    return PrecomputedConfig(path=str(path), **values)


def encode(path: Path | str, *rows: Mapping[str, object], **values: Any) -> list[list[float] | Failure]:
    """What becomes of clips: vectors as lists, or failures."""
    encoder = make_encoder("mine", "video", FeaturesConfig(precomputed={"mine": declared(path, **values)}))
    results = encode_clips(encoder, [ClipMedia.from_row(row) for row in rows])
    return [result if isinstance(result, Failure) else result.tolist() for result in results]


def save(path: Path, array: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(array, dtype=np.float32))


def dump(path: Path, tree: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(tree, protocol=protocol))
    return path


def rows(*ids: str) -> list[dict[str, object]]:
    return [{"clip_id": name} for name in ids]


def without_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pool was started")

    monkeypatch.setattr(workers, "ProcessPoolExecutor", refuse)


@pytest.mark.parametrize(
    ("encoder", "modality", "fingerprint"),
    [
        ("face-mesh", "video", "61907f2b67ae"),
        ("egemaps", "audio", "80aef4b780d7"),
        ("minilm", "text", "8543ed2d3e92"),
        ("minilm", "behavior", "645620bf28e5"),
        ("cue-narrative", "behavior", "b29a35d10599"),
    ],
)
def test_vectors_of_earlier_stores_keep_their_names(encoder: str, modality: str, fingerprint: str) -> None:
    assert create_encoder(encoder, modality).fingerprint() == fingerprint


def test_an_own_encoder_keeps_its_name_and_width() -> None:
    spec = Obedient("text").spec
    assert (spec.key, spec.pooling, spec.vector_width) == ("obedient-67206c560bc1", "mean+std", 4)


def test_every_format_reaches_the_rows_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four formats in one extraction, then nothing left to do, then a replaced file that is read again."""
    clips = table(
        {"clip_id": "b", "group": "g1", "raw.part": 7.0, "speaker": "anna"},
        {"clip_id": "a", "group": "g1", "raw.part": 8.0, "speaker": "bert"},
        {"clip_id": "x", "group": "g2", "raw.part": None, "speaker": "anna"},
    )
    save(tmp_path / "npy" / "train" / "a.npy", [5.0, 6.0, 7.0])
    save(tmp_path / "npy" / "train" / "b.npy", [1.0, 2.0, 3.0])
    np.savez(tmp_path / "all.npz", **{"anna/b": np.array(FRAMES), "bert/a": np.zeros((1, 2))})
    ids, vision = np.array(["g1$_$8", "g1$_$7"]), np.array([[[9, 9], [9, 9]], FRAMES])
    dump(tmp_path / "mmsa.pkl", {"train": {"id": ids, "vision": vision}})
    pd.DataFrame({"name": ["a", "b"], "one": [1.0, 2.0], "two": [3, 4]}).to_parquet(tmp_path / "rows.parquet")
    config = features(
        tmp_path / "store",
        encoders={"video": "faces", "audio": "sound", "text": "words", "behavior": "signs"},
        precomputed={
            "faces": {"path": str(tmp_path / "npy/{split}/{clip_id}.npy")},
            "sound": {"path": str(tmp_path / "all.npz"), "key": "{speaker}/{clip_id}"},
            "words": {"path": str(tmp_path / "mmsa.pkl"), "field": "vision", "key": "{group}$_${raw.part}"},
            "signs": {"path": str(tmp_path / "rows.parquet")},
            "unused": {"path": "nowhere/{no_such_column}.npy"},
        },
    )
    summary = extract(clips, config, show_progress=False)
    assert {name: vars(count) for (_, name), count in summary.counts.items()} == {
        name: {"done": 2, "reused": 0, "absent": 1, "failed": 0} for name in ("video", "audio", "text", "behavior")
    }
    read = read_vectors(clips, config)
    assert {name: present.tolist() for name, (present, _) in read.items()} == {
        name: [True, True, False] for name in read
    }
    assert {name: vectors.tolist() for name, (_, vectors) in read.items()} == {
        "video": [[1, 2, 3], [5, 6, 7], [0, 0, 0]],
        "audio": [POOLED, [0, 0, 0, 0], [0, 0, 0, 0]],
        "text": [POOLED, [9, 9, 0, 0], [0, 0, 0, 0]],
        "behavior": [[2, 4], [1, 3], [0, 0]],
    }
    assert summary.ledger.set_index("modality")["reason"].to_dict() == {
        "video": f"{tmp_path}/npy/train/x.npy: there is no such file",
        "audio": f"{tmp_path}/all.npz: nothing is named 'anna/x' among 2, for example 'anna/b'",
        "text": "{group}$_${raw.part}: the clip has no 'raw.part'",
        "behavior": f"{tmp_path}/rows.parquet: nothing is named 'x' among 2, for example 'a'",
    }
    with monkeypatch.context() as patch:
        without_pools(patch)
        again = extract(clips, config, show_progress=False)
        assert {count.reused for count in again.counts.values()} == {2}
    save(tmp_path / "npy" / "train" / "a.npy", [5.0, 6.0, 8.0])  # as long as before
    os.utime(tmp_path / "npy" / "train" / "a.npy", ns=(10**18, 10**18))
    assert read_vectors(clips, config)["video"][0].tolist() == [True, False, False]
    assert extract(clips, config, show_progress=False).counts["c", "video"].done == 1
    assert read_vectors(clips, config)["video"][1][:2].tolist() == [[1, 2, 3], [5, 6, 8]]


def test_the_documented_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```toml\n(.*?)```", precomputed.__doc__ or "", re.DOTALL)
    assert example is not None
    config = validate(Root, tomllib.loads(example[1]), "example").features
    monkeypatch.chdir(tmp_path)
    save(Path("features/openface-UTT/dia0.npy"), [1.0, 2.0])
    Path("Processed").mkdir()
    dump(Path("Processed/aligned_50.pkl"), {"test": {"id": ["v$_$3"], "audio": np.array([FRAMES])}})
    assert [spec.id for spec in encoder_specs(config).values()] == ["openface", "sound", "minilm"]
    config = config.model_copy(update={"encoders": {"video": "openface", "audio": "sound"}, "num_workers": 1})
    clips = table({"clip_id": "dia0", "group": "v", "raw.clip": "3"})
    extract(clips, config, show_progress=False)
    found = {name: vectors.tolist() for name, (_, vectors) in read_vectors(clips, config).items()}
    assert found == {"video": [[1.0, 2.0]], "audio": [POOLED]}


def test_npy_frames_are_pooled_and_other_shapes_named(tmp_path: Path) -> None:
    for name, array in {
        "a": FRAMES, "b": [7.0, 8.0], "c": np.zeros((2, 3)), "d": [FRAMES], "e": [[1.0, np.nan]], "f": [[1.0, np.inf]],
        "g": np.zeros((0, 2)),
    }.items():  # fmt: skip
        save(tmp_path / f"{name}.npy", array)
    (tmp_path / "h.npy").write_bytes(b"\x93NUMPY torn")
    np.save(tmp_path / "i.npy", np.array(["one", "two"]))
    np.save(tmp_path / "j.npy", np.array([1, 2]))
    results = encode(tmp_path / "{clip_id}.npy", *rows(*"abcdefghij", "z"))
    assert results[:7] == [
        POOLED,
        [7.0, 8.0, 0.0, 0.0],  # one frame of a sequence
        Failure("failed", f"{tmp_path}/c.npy: shape (2, 3), expected [T >= 1, 2]"),
        Failure("failed", f"{tmp_path}/d.npy: shape (1, 2, 2), expected [T >= 1, 2]"),
        Failure("failed", "NaN in the vector"),
        Failure("failed", "NaN in the vector"),  # infinity minus itself
        Failure("failed", f"{tmp_path}/g.npy: shape (0, 2), expected [T >= 1, 2]"),
    ]
    assert isinstance(results[7], Failure)
    assert re.fullmatch(rf"{tmp_path}/h\.npy: cannot be read \(ValueError: .*\)", results[7].reason)
    assert results[8:] == [
        Failure("failed", f"{tmp_path}/i.npy: '' is of type <U3, expected numbers"),
        [1.0, 2.0, 0.0, 0.0],
        Failure("absent", f"{tmp_path}/z.npy: there is no such file"),
    ]


def test_one_vector_per_clip_is_stored_as_it_is(tmp_path: Path) -> None:
    for name, array in {"a": [1.0, 2.0], "b": [[3.0, 4.0]], "c": FRAMES, "d": [np.inf, 1.0], "e": [1.0]}.items():
        save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "f.npy", np.array([1e300, 0.0]))
    path = tmp_path / "{clip_id}.npy"
    assert encode(path, *rows(*"abcdef")) == [
        [1.0, 2.0],
        [3.0, 4.0],
        Failure("failed", f"{tmp_path}/c.npy: shape (2, 2), expected [2]"),
        Failure("failed", "infinity in the vector"),
        Failure("failed", f"{tmp_path}/e.npy: shape (1,), expected [2]"),
        Failure("failed", "infinity in the vector"),  # too large for float32
    ]
    assert encode(path, *rows("a", "c"), pooling="mean+std") == [[1.0, 2.0, 0.0, 0.0], POOLED]
    spec, pooled = (Precomputed("m", "video", declared(path, pooling=p)).spec for p in (None, "mean+std"))
    assert (spec.pooling, spec.width, spec.vector_width) == ("none", 2, 2)
    assert (pooled.pooling, pooled.width, pooled.vector_width) == ("mean+std", 2, 4)
    assert spec.fingerprint != pooled.fingerprint


def test_an_encoder_without_pooling_gives_one_row(tmp_path: Path) -> None:
    class Several(Obedient):
        id = "several"
        pooling = "none"

    encoder = Several("text")
    encoder.load()
    (found,) = encode_clips(encoder, [ClipMedia(clip_id="clip1", text="a")])
    assert found == Failure("failed", "the encoder returned shape (2, 2), expected [1, 2]")
    assert pool(np.array([[2, 3]], dtype=np.float64), "none").dtype == np.float32


def test_npz_by_key_and_by_field(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "all.npz", a=np.array(FRAMES), b=np.array([[1, 2, 3]]), c=np.array([None]))
    assert encode(tmp_path / "all.npz", *rows("a", "b")) == [
        POOLED,
        Failure("failed", f"{tmp_path}/all.npz: shape (1, 3), expected [T >= 1, 2]"),
    ]
    (refused,) = encode(tmp_path / "all.npz", *rows("c"))
    assert isinstance(refused, Failure)
    assert refused.reason.startswith(f"{tmp_path}/all.npz: 'c' cannot be read (Object arrays cannot be loaded")
    for name, array in {"x": [5.0, 6.0], "y": [7.0, 8.0]}.items():
        np.savez(tmp_path / f"clip_{name}.npz", id=np.array("text"), pose=np.array(array))
    np.savez(tmp_path / "clip_z.npz", other=np.zeros(2))
    path = tmp_path / "clip_{clip_id}.npz"
    assert encode(path, *rows("y", "x", "z"), field="pose") == [
        [7.0, 8.0],
        [5.0, 6.0],
        Failure("absent", f"{tmp_path}/clip_z.npz: nothing is named 'pose' among 1, for example 'other'"),
    ]
    with pytest.raises(ExtractionError, match=r"clip_x\.npz: holds no array named 'post'; did you mean 'pose'\?"):
        encode(path, field="post")
    np.savez(tmp_path / "none.npz")
    with pytest.raises(ExtractionError, match=r"none\.npz: holds no array$"):
        encode(tmp_path / "none.npz")
    save(tmp_path / "one.npy", [1.0])
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ExtractionError, match=r"one\.npz: holds one array as \.npy does, expected an archive"):
        encode(tmp_path / "one.npz")


def test_pickled_splits(tmp_path: Path) -> None:
    frames = np.array(FRAMES)
    zeros = np.zeros((1, 2))
    tree = {
        "train": {
            "id": [["a"], ["b"], ["c"]],
            "raw_text": ["one", "two", "three"],
            "padded": np.stack([np.vstack([zeros, frames]), np.vstack([frames, zeros]), np.zeros((3, 2))]),
            "cut": np.stack([np.vstack([frames, zeros]), np.vstack([frames, zeros]), np.ones((3, 2))]),
            "cut_lengths": [2, 3, 0],
            "listed": [frames, frames[:1], np.zeros((4, 3))],
        },
        "valid": {
            "id": np.array([b"d", "gr\u00fcn".encode(), b"a"]),
            "padded": [frames] * 3,
            "cut": [frames] * 3,
            "cut_lengths": np.array([1, 2, 2]),
            "listed": np.array([frames, frames, frames, 0], dtype=object)[:3],
        },
        "note": "no split",
    }
    path = dump(tmp_path / "unaligned.pickle", tree)
    assert encode(path, *rows("b", "c", "d", "gr\u00fcn", "a", "e"), field="padded") == [
        POOLED,
        Failure("failed", f"{path}: 'c' is zero throughout"),
        POOLED,
        POOLED,
        Failure("failed", f"{path}: 'a' stands there more than once; the key must tell clips apart"),
        Failure("absent", f"{path}: nothing is named 'e' among 5, for example 'a'"),
    ]
    assert encode(path, *rows("b", "c", "d"), field="cut") == [
        # mean (1 + 3 + 0) / 3 and (2 + 6 + 0) / 3: zeros within the length count; squares' means 10 / 3 and 40 / 3
        pytest.approx([4 / 3, 8 / 3, (10 / 3 - 16 / 9) ** 0.5, (40 / 3 - 64 / 9) ** 0.5]),
        Failure("failed", f"{path}: shape (0, 2), expected [T >= 1, 2]"),
        [1.0, 2.0, 0.0, 0.0],
    ]
    assert encode(path, *rows("b", "c", "d"), field="listed") == [
        [1.0, 2.0, 0.0, 0.0],
        Failure("failed", f"{path}: 'c' is zero throughout"),
        POOLED,
    ]
    dump(path, {"train": {"id": ["a", "b"], "functionals": np.array([[1.0, 0.0], [0.0, 0.0]])}})
    assert encode(path, *rows("a", "b"), field="functionals") == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"train": {"id": ["a"], "vision": [FRAMES]}, "test": {"id": [], "audio": []}},
         r"split 'train' has no 'visions'; did you mean 'vision'\?"),
        ({"train": {"id": ["a"], "visions": []}}, "split 'train' has 1 ids, 0 rows of 'visions'"),
        ({"train": {"id": ["a"], "visions": [FRAMES], "visions_lengths": [1, 2]}},
         "split 'train' has 1 ids, 1 rows, 2 lengths of 'visions'"),
        ({"vision": [FRAMES]}, "expected splits, each a dictionary with 'id' and arrays; found a dictionary of 'vis"),
        ([FRAMES], "expected splits, each a dictionary with 'id' and arrays; found list"),
        ({"train": {"id": [], "visions": []}}, "holds no array named 'visions'"),
        ({"train": {"id": ["a"], "visions": [np.zeros((1, 2, 3))]}}, r"shape \(1, 2, 3\), expected \[D\] or \[T, D\]"),
        ({"train": {"id": ["a"], "visions": [["x"]]}}, "'a' is of type <U1, expected numbers"),
        ({"train": {"id": ["a"], "visions": [[[1], [1, 2]]]}}, "'a' cannot be read .*inhomogeneous"),
        ({"train": {"id": ["a"], "visions": [1]}}, r"shape \(\), expected"),
        ({"train": {"id": ["a"], "visions": 3}}, r"cannot be read \(TypeError: "),
    ],
)  # fmt: skip
def test_pickles_laid_out_otherwise_are_named(tmp_path: Path, tree: object, message: str) -> None:
    path = dump(tmp_path / "a.pkl", tree)
    with pytest.raises(ExtractionError, match=rf"features\.precomputed\.mine: {path}: {message}"):
        encode(path, field="visions")


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"text": ["x", "y"], "clip_id": ["a", "b"], "one": [1.0, np.nan], "two": [2, 3], "ok": True})
    frame.index = pd.Index([4, 6])
    frame.to_parquet(path)
    assert encode(path, *rows("a", "b")) == [[1.0, 2.0], Failure("failed", "NaN in the vector")]
    frames = pd.DataFrame({"name": ["b", "a", "b", None], "one": [1, 5, 3, 9], "two": [2, 5, 6, 9]})
    frames["name"] = frames["name"].astype("category")
    frames.to_parquet(path)
    assert encode(path, *rows("b", "a")) == [POOLED, [5.0, 5.0, 0.0, 0.0]]
    wide = pa.list_(pa.list_(pa.float32()))
    columns = {
        "name": pa.array(["a", "b", "c"], pa.large_string()), "flat": [[1.0, 2.0], [3.0], None],
        "deep": pa.array([FRAMES, [[1.0, 2.0]], []], wide), "n": [1, 2, 3],
    }  # fmt: skip
    pq.write_table(pa.table(columns), path)
    assert encode(path, *rows("a", "b", "c"), field="flat") == [
        [1.0, 2.0],
        Failure("failed", f"{path}: shape (1,), expected [2]"),
        Failure("failed", f"{path}: 'c' is of type object, expected numbers"),
    ]
    assert encode(path, *rows("a", "b"), field="deep") == [POOLED, [1.0, 2.0, 0.0, 0.0]]
    pq.write_table(pa.table({"name": ["b", "b"], "flat": FRAMES}), path)
    assert encode(path, *rows("b"), field="flat") == [POOLED]
    with pytest.raises(ExtractionError, match=r"a\.parquet: no column is named 'flet'; did you mean 'flat'\?"):
        encode(path, field="flet")
    with pytest.raises(ExtractionError, match=r"a\.parquet: has no numeric column; name the column of lists as field"):
        encode(path)
    pq.write_table(pa.table({"x": ["b"], "y": ["b"], "one": [1]}), path)
    with pytest.raises(ExtractionError, match=r"expected one text column of keys, .* text columns are \['x', 'y'\]"):
        encode(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(ExtractionError, match=r"features\.precomputed\.mine: .*a\.parquet: cannot be read \(ArrowInv"):
        encode(path)


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    ("evil", "name"),
    [
        (lambda marker: Calls(os.system, f"touch {marker}"), "posix.system"),
        (lambda marker: Calls(eval, f"open({str(marker)!r}, 'w')"), "eval"),
        (lambda marker: np.array([1, Calls(os.system, f"touch {marker}")], dtype=object), "posix.system"),
        (lambda marker: {"id": [Calls(getattr, os, "system")]}, "getattr"),
        (lambda marker: Calls(np.load, str(marker)), "load"),
    ],
)
def test_pickles_that_execute_are_refused(tmp_path: Path, evil: Any, name: str, protocol: int) -> None:
    marker = tmp_path / "marker"
    if name == "getattr":
        body = b"\x80\x02cbuiltins\ngetattr\ncposix\nsystem\nX\x04\x00\x00\x00name\x86R."
        (tmp_path / "evil.pkl").write_bytes(body)
    else:
        dump(tmp_path / "evil.pkl", {"train": {"id": ["a"], "vision": evil(marker)}}, protocol)
    expected = rf"evil\.pkl asks for [\w.]*{re.escape(name)}; such a file may hold nothing but containers"
    with pytest.raises(ExtractionError, match=expected):
        encode(tmp_path / "evil.pkl", field="vision")
    assert not marker.exists()


DTYPE = b"cnumpy\ndtype\nU\x02%sK\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


def test_python_2_pickles_are_read(tmp_path: Path) -> None:
    """Written byte by byte as Python 2 does: byte strings in Latin-1, old numpy names."""
    values = bytes.fromhex("0000803f 00000040 00004040 0000c040")  # 1, 2, 3, 6
    array = EMPTY + b"(K\x01K\x01K\x02K\x02\x87" + DTYPE % b"f4" + b"\x89U\x10" + values + b"tb"
    body = b"\x80\x02}U\x05train}(U\x02id]U\x08caf\xe9$_$0aU\x06vision" + array + b"us."
    path = tmp_path / "old.pkl"
    path.write_bytes(body)
    assert encode(path, {"clip_id": "0", "group": "caf\u00e9"}, field="vision", key="{group}$_${clip_id}") == [POOLED]


def test_a_shared_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(
        feature_files,
        "load_pickle",
        lambda path, *rest, **how: (opened.append(path), load_pickle(path, *rest, **how))[1],
    )
    path = dump(tmp_path / "a.pkl", {"train": {"id": ["a", "b"], "x": [FRAMES, FRAMES], "y": np.ones((2, 3))}})
    assert encode(path, *rows("a", "b"), field="x") == [POOLED, POOLED]
    assert encode(path, *rows("a"), field="y") == [[1.0, 1.0, 1.0]]
    assert len(opened) == 1
    config = features(tmp_path, encoders={"video": "m"}, precomputed={"m": {"path": str(path), "field": "x"}})
    assert encoder_specs(config)["video"].width == 2
    assert len(opened) == 1
    for cache in (feature_files._pickled, feature_files._opened):
        assert cache.cache_info().currsize == 0  # workers have their own
    assert encoder_specs(config)["video"].width == 2  # known without opening it again
    assert len(opened) == 1
    dump(path, {"train": {"id": ["a"], "x": [[[1.0, 2.0, 3.0]]]}})
    assert encode(path, *rows("a"), field="x") == [[1.0, 2.0, 3.0, 0.0, 0.0, 0.0]]
    assert len(opened) == 2


def test_the_fingerprint_says_where_the_vectors_came_from(tmp_path: Path) -> None:
    path = dump(tmp_path / "a.pkl", {"train": {"id": ["a"], "x": [FRAMES], "y": [FRAMES]}})
    np.savez(tmp_path / "a.npz", x=np.array(FRAMES))

    def spec(path: Path | str = path, name: str = "m", **values: Any) -> EncoderSpec:
        return Precomputed(name, "audio", declared(path, **{"field": "x", **values})).spec

    assert spec().settings == {"path": str(path), "format": "pickle", "field": "x", "key": "{clip_id}"}
    assert spec().key == f"m-{spec().fingerprint}"
    others = [spec(field="y"), spec(key="{group}"), spec(name="n"), spec(tmp_path / "{clip_id}.npz")]
    assert len({spec().fingerprint, *(other.fingerprint for other in others)}) == 5


def test_source_follows_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "{split}.npz"
    for split in ("train", "dev"):
        np.savez(tmp_path / f"{split}.npz", a=np.zeros(2))
        os.utime(tmp_path / f"{split}.npz", ns=(5, 5))
    encoder = Precomputed("m", "audio", declared(path))

    def source(split: str = "train", clip_id: str | None = "a") -> str:
        return encoder.source({"split": split, "clip_id": clip_id})

    before = source()
    assert re.fullmatch("[0-9a-f]{12}", before)
    assert before == source()
    assert len({before, source("dev"), source("test"), source(clip_id="b"), source(clip_id=None)}) == 5
    os.utime(tmp_path / "train.npz", ns=(5, 6))
    changed = source()
    assert changed != before
    np.savez(tmp_path / "train.npz", a=np.zeros(3))
    os.utime(tmp_path / "train.npz", ns=(5, 6))
    assert source() not in (before, changed)


def test_the_first_file_is_found_in_order_whatever_ids_hold(tmp_path: Path) -> None:
    save(tmp_path / "[x]" / "p2" / "visit" / "b.npy", [1.0, 2.0])
    save(tmp_path / "[x]" / "p1" / "visit" / "c.npy", [1.0, 2.0, 3.0])
    save(tmp_path / "[x]" / "p1" / "visit" / "._c.npy", [1.0])
    path = tmp_path / "[x]" / "{clip_id}.npy"
    assert encode(path, *rows("p1/visit/c"))[0] == [1.0, 2.0, 3.0]
    save(tmp_path / "[x]" / "q.npy", [5.0])
    assert encode(path, *rows("q"))[0] == [5.0]  # one that needs no slashes comes first
    with pytest.raises(ExtractionError, match=r"precomputed\.mine: there is no file .*/\[x\]/\{clip_id\}\.npz \(rel"):
        encode(tmp_path / "[x]" / "{clip_id}.npz")
    with pytest.raises(ExtractionError, match=r"there is no file .*none\.npz"):
        encode(tmp_path / "none.npz")


def test_values_are_filled_in_as_they_are_written(tmp_path: Path) -> None:
    fill = precomputed._fill
    clip = {"a": 3.0, "b": 2.5, "c": "x y", "d": 7, "e": None, "f": float("nan"), "raw.g": pd.NA}
    assert fill("{a}_{b}/{c}{d}", clip) == "3_2.5/x y7"
    for name in ("e", "f", "raw.g", "h"):
        with pytest.raises(MissingModality, match=rf"x/\{{{name}\}}: the clip has no '{name}'"):
            fill(f"x/{{{name}}}", clip)


def test_unknown_columns_and_names_are_errors(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", [1.0])
    clips = table({"clip_id": "a", "raw.clip": "1"})
    good = {"path": str(tmp_path / "{clip_id}.npy")}
    for path, message in [
        ("{clip_it}", r"features\.precomputed\.mine: the clip table has no column 'clip_it'; did you mean 'clip_id'\?"),
        ("{raw.clop}", r"has no column 'raw\.clop'; did you mean 'raw\.clip'\?"),
    ]:
        wrong = {"mine": {"path": str(tmp_path / f"{path}.npy")}}
        config = features(tmp_path, encoders={"video": "mine"}, precomputed=wrong)
        for use in (extract, read_vectors):
            with pytest.raises(ConfigError, match=message):
                use(clips, config)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"encoders\.video: neither an encoder nor features\.precomputed is named "
                       r"'mime'; did you mean 'mine'\?"):  # fmt: skip
        encoder_specs(features(tmp_path, encoders={"video": "mime"}, precomputed={"mine": good}))
    names = encoder_specs(features(tmp_path, encoders={"text": "minilm"}, precomputed={"mine": good}))
    assert names["text"].id == "minilm"
    with pytest.raises(ConfigError, match=r"features\.encoders\.video: 'minilm' describes text and behavior"):
        encoder_specs(features(tmp_path, encoders={"video": "minilm"}, precomputed={"mine": good}))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("minilm", {"path": "{clip_id}.npy"}, r"'minilm' is an encoder of the catalogue; choose another name"),
        ("a/b", {"path": "{clip_id}.npy"}, r"'a/b' cannot name a folder of the feature store"),
        ("a:b", {"path": "{clip_id}.npy"}, r"'a:b' cannot name a folder"),
        ("m", {"path": "{clip_id}.csv"}, r"path '\{clip_id\}\.csv' must end in \.npy, \.npz, \.pkl, \.pickle, \.parq"),
        ("m", {"path": "{clip_id.npy"}, r"'\{clip_id\.npy' has a brace too many; columns are written \{clip_id\}"),
        ("m", {"path": "a.npz", "key": "clip_id}"}, r"'clip_id\}' has a brace too many"),
        ("m", {"path": "a.pkl"}, r'field is missing: which array of the pickle, for example "vision"'),
        ("m", {"path": "{clip_id}.npy", "field": "x"}, r"field = 'x' means nothing here: a \.npy file holds one array"),
        ("m", {"path": "{clip_id}.npy", "key": "x"}, r"key = 'x' means nothing here: each file holds one clip"),
        ("m", {"path": "{clip_id}.npz", "field": "x", "key": "x"}, r"key = 'x' means nothing here"),
        ("m", {"path": "a.npy"}, r"path 'a\.npy' is the same for every clip; put \{clip_id\} into it"),
        ("m", {"path": "a.npz", "field": "x"}, r"path 'a\.npz' is the same for every clip"),
        ("m", {"path": "a.npz", "pooling": "max"}, r"features\.precomputed\.m\.pooling"),
        ("m", {"path": "a.npz", "keys": "x"}, r"features\.precomputed\.m\.keys is not a setting; did you mean 'key'\?"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(name: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(Root, {"features": {"precomputed": {name: values}}}, "run.toml")


def test_a_resolved_configuration_is_read_again() -> None:
    config = FeaturesConfig.model_validate(
        {"precomputed": {"m": {"path": "{clip_id}.NPY"}, "n": {"path": "a.pkl", "field": "x", "key": "{group}"}}}
    )
    assert FeaturesConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.precomputed["m"].format == "npy"
    assert config.precomputed["n"].columns == ["group"]


def test_workers_are_given_every_column_that_encoders_read(tmp_path: Path) -> None:
    from encoders.extraction.read import clip_records

    save(tmp_path / "a.npy", [1.0])
    clips = table({"clip_id": "a", "audio_media": "a.wav", "audio_start": 1.5, "raw.x": 3, "raw.y": 4, "faces": None})
    config = features(tmp_path, encoders={"video": "m"}, precomputed={"m": {"path": "{raw.x}/{split}/{clip_id}.npy"}})
    (record,) = clip_records(clips, config)
    assert record == {
        **dict.fromkeys(("media", "start", "end", "audio_end", "fallback_media", "fallback_start", "fallback_end")),
        **dict.fromkeys(("faces", "language", "text", "words", "context", "description")),
        "corpus": "c", "clip_id": "a", "split": "train", "audio_media": "a.wav", "audio_start": 1.5, "raw.x": 3,
    }  # fmt: skip


def test_an_encoder_may_tell_its_own_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from encoders.extraction.extract import _Work

    monkeypatch.setattr(Obedient, "source", lambda self, clip: f"{self.modality} of {clip['clip_id']}", raising=False)
    work = _Work(table({"clip_id": "a"}), features(tmp_path))
    assert work.sources == {"text": ["text of a"]}

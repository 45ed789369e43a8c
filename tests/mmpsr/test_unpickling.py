from __future__ import annotations

import collections
import copyreg
import pickle
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmpsr.unpickling import PickleError, load_pickle

DATA = {
    "list": [1, -2, 2.5, None, True, False, 2**100, 300, 70000, 1j],
    "tuple": ((), (1,), (1, "é"), (1, 2, 3), (1, 2, 3, 4)),
    "bytes": [b"", b"\x00\xff", b"x" * 300],
    "sets": [set(), {1, "a"}, frozenset({3, (1, 2)})],
    "text": ["", "plain", "mp4 – ü", "😀", "y" * 300],
    ("key", 1): {},
}
ARRAYS = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">f4"),
    "again": np.arange(4, dtype=">f4"),
    "text": np.array(["ab", "ü"]),
    "big endian text": np.array(["ab", "ü"], dtype=">U2"),
    "bytes": np.array([b"ab", b"c"]),
    "large": np.zeros(3000),
    "flags": np.array([True, False]),
    "nothing": np.zeros((0, 3), np.float32),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "annotation.pkl"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def load(path: Path, content: bytes, arrays: bool = False) -> Any:
    path.write_bytes(content)
    return load_pickle(path, "corpus/annotation.pkl", arrays)


def refusal(path: Path, content: bytes, arrays: bool = False) -> str:
    with pytest.raises(PickleError) as error:
        load(path, content, arrays)
    message = str(error.value)
    assert message.startswith("corpus/annotation.pkl ")
    assert len(message) < 400
    return message


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object, state: object = None) -> None:
        self.call = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Plain:
    pass


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("arrays", [False, True])
def test_plain_data_comes_back(path: Path, protocol: int, arrays: bool) -> None:
    loaded = load(path, pickle.dumps(DATA, protocol), arrays)
    assert loaded == DATA
    assert [type(value) for value in loaded["list"]] == [type(value) for value in DATA["list"]]  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", range(6))
def test_ordered_dictionaries_become_dictionaries(path: Path, protocol: int) -> None:
    loaded = load(path, pickle.dumps(collections.OrderedDict(b=1, a=2), protocol))
    assert type(loaded) is dict
    assert list(loaded.items()) == [("b", 1), ("a", 2)]


def test_shared_and_recursive_lists(path: Path) -> None:
    shared: list[object] = [1]
    shared.append(shared)
    loaded = load(path, pickle.dumps([shared, shared], 2))
    assert loaded[0] is loaded[1]
    assert loaded[0][1] is loaded[0]


def test_long_lists_are_read_in_parts(path: Path) -> None:
    assert load(path, pickle.dumps({str(number): number for number in range(2500)}, 2)) == {
        str(number): number for number in range(2500)
    }


PYTHON_2 = {
    # {'-a.b.000.mp4': 0.5, 'caf\xe9': [1, True]} as Python 2 writes it
    "protocol 0": b"(dp0\nS'-a.b.000.mp4'\np1\nF0.5\nsS'caf\\xe9'\np2\n(lp3\nI1\naI01\nas.",
    "protocol 1": b"}q\x00(U\x0c-a.b.000.mp4q\x01G?\xe0\x00\x00\x00\x00\x00\x00U\x04caf\xe9q\x02]q\x03(K\x01I01\neu.",
    "protocol 2": b"\x80\x02}q\x00(U\x0c-a.b.000.mp4q\x01G?\xe0\x00\x00\x00\x00\x00\x00"
    b"T\x04\x00\x00\x00caf\xe9q\x02]q\x03(K\x01\x88eu.",
}


@pytest.mark.parametrize("protocol", PYTHON_2)
def test_python_2_strings_are_latin_1(path: Path, protocol: str) -> None:
    assert load(path, PYTHON_2[protocol]) == {"-a.b.000.mp4": 0.5, "café": [1, True]}


def test_python_2_ordered_dictionary_set_and_long(path: Path) -> None:
    ordered = b"ccollections\nOrderedDict\np0\n((lp1\n(lp2\nS'a'\np3\naL5L\naatp4\nRp5\n."
    assert load(path, ordered) == {"a": 5}
    assert load(path, b"c__builtin__\nset\np0\n((lp1\nS'a'\np2\natp3\nRp4\n.") == {"a"}


def test_halves_of_characters_are_joined(path: Path) -> None:
    assert load(path, b"V\\ud83d\\ude00\np0\n.") == "😀"
    halves = "\ud83d\ude00".encode("utf-8", "surrogatepass")
    for length in (b"\x8c" + struct.pack("<B", 6), b"X" + struct.pack("<I", 6), b"\x8d" + struct.pack("<Q", 6)):
        assert load(path, b"\x80\x04" + length + halves + b".") == "😀"
    assert "cannot be read as a pickle: 'utf-16-le' codec" in refusal(path, b"V\\ud83d\np0\n.")


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_come_back(path: Path, protocol: int) -> None:
    loaded = load(path, pickle.dumps(ARRAYS, protocol), arrays=True)
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert type(loaded[name]) is np.ndarray
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        assert loaded[name].flags.writeable
        assert loaded[name].flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize("protocol", range(6))
def test_scalars_and_object_arrays_come_back(path: Path, protocol: int) -> None:
    objects = np.empty((2, 2), object)
    objects[:] = [["text", 1], [[1.5], None]]
    objects[1, 1] = np.arange(3)
    scalars = [np.float32(1.5), np.int64(-1), np.bool_(True), np.str_("ü")]
    loaded, found = load(path, pickle.dumps((objects, scalars), protocol), arrays=True)
    assert loaded.shape == (2, 2)
    assert loaded.ravel()[:3].tolist() == ["text", 1, [1.5]]
    np.testing.assert_array_equal(loaded[1, 1], [0, 1, 2])
    assert found == scalars
    assert [type(scalar) for scalar in found] == [type(scalar) for scalar in scalars]


CORE = b"_core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else b"core"
"""The package in whose name numpy pickles."""


def test_names_of_other_numpy_are_known(path: Path) -> None:
    written = pickle.dumps({"arrays": ARRAYS, "scalar": np.float32(1.5)}, 2)
    assert b"cnumpy.%s.multiarray" % CORE in written
    for core in (b"core", b"_core"):
        loaded = load(path, written.replace(b"cnumpy.%s." % CORE, b"cnumpy.%s." % core), arrays=True)
        np.testing.assert_array_equal(loaded["arrays"]["matrix"], ARRAYS["matrix"])
        assert loaded["scalar"] == np.float32(1.5)


@pytest.mark.parametrize("core", ["core", "_core"])
def test_array_of_python_2(path: Path, core: str) -> None:
    # numpy.array([1.0, 2.0], '>f4') of Python 2: text instead of bytes, the type shared by two arrays
    dtype = b"cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87Rq\x05(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.%s.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85%s\x89U\x08%stb"
    values = struct.pack(">2f", 1.0, 2.0)
    content = (
        b"\x80\x02" + array % (core.encode(), dtype, values) + array % (core.encode(), b"h\x05", values) + b"\x86."
    )
    first, second = load(path, content, arrays=True)
    assert first.tolist() == second.tolist() == [1.0, 2.0]


def test_arrays_only_where_they_are_asked_for(path: Path) -> None:
    message = refusal(path, pickle.dumps(np.arange(3), 2))
    numpy = f"numpy.{CORE.decode()}.multiarray"
    assert f"asks for {numpy}._reconstruct; such a file may hold nothing but containers, text" in message
    assert f"asks for {numpy}.scalar" in refusal(path, pickle.dumps(np.float32(1), 2))
    assert "containers, text, arrays and numbers" in refusal(path, pickle.dumps(Plain, 2), arrays=True)


def attacks(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would make the marker file, or look about, and the name that each is refused for."""
    touch, code = f"touch {marker}".encode(), f"open({str(marker)!r}, 'w')".encode()
    system = b"(S'" + touch + b"'\n"
    nested = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\nt" + (
        b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntbI00\n(lcos\nsystem\n" + system + b"tRatb."
    )
    return {
        "os.system": (b"cos\nsystem\n" + system + b"tR.", "os.system"),
        "posix.system": (b"\x80\x02cposix\nsystem\nU" + bytes([len(touch)]) + touch + b"\x85R.", "posix.system"),
        "eval": (b"c__builtin__\neval\n(V" + code + b"\ntR.", "__builtin__.eval"),
        "exec": (
            b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c" + bytes([len(code)]) + code + b"\x85R.",
            "builtins.exec",
        ),
        "getattr": (b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR.", "builtins.getattr"),
        "instance": (system + b"ios\nsystem\n.", "os.system"),
        "instance of a list": (b"(icollections\nOrderedDict\n.", "makes an object of a class"),
        "object": (b"(cos\nsystem\nS'" + touch + b"'\no.", "os.system"),
        "new object": (b"\x80\x02csubprocess\nPopen\nU\x02ls\x85\x81.", "subprocess.Popen"),
        "dotted name": (b"\x80\x04\x8c\x0bcollections\x8c\x1bOrderedDict.__init_subclass\x93.", "OrderedDict.__init_"),
        "reconstructor": (b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nNNtR.", "copy_reg._reconstructor"),
        "unicode name": ("cbuiltins\nevál\n.".encode(), "asks for builtins.ev\\xe1l;"),
        "long name": (b"c" + b"a" * 5000 + b"\nb\n.", "asks for " + "a" * 100 + ";"),
        "persistent id": (b"P" + touch + b"\n.", "instructions that plain data does not need"),
        "binary persistent id": (b"U\x01aQ.", "instructions that plain data does not need"),
        "in an array": (nested, "os.system"),
        "uncalled": (b"cos\nsystem\n.", "os.system"),
    }


@pytest.mark.parametrize("attack", attacks(Path("ran")))
@pytest.mark.parametrize("arrays", [False, True])
def test_nothing_is_run(path: Path, marker: Path, attack: str, arrays: bool) -> None:
    content, named = attacks(marker)[attack]
    message = refusal(path, content, arrays)
    assert named in message or (attack == "in an array" and not arrays)
    assert "Nothing of it was run" in message
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_calls_that_python_writes_are_refused(path: Path, marker: Path, protocol: int) -> None:
    holder = np.empty(1, object)
    for call, name in (
        (Calls(exec, f"open({str(marker)!r}, 'w')"), "exec"),
        (Calls(Path.touch, marker), "getattr" if protocol < 4 else "Path"),
        (Calls(Plain, state={"a": 1}), "Plain"),
        (Plain(), "_reconstructor" if protocol < 2 else "Plain"),
        (Calls(bytearray, 10), "bytearray"),
        (collections.defaultdict(Plain), "defaultdict"),
    ):
        holder[0] = call
        for content in (call, {"a": [call]}, holder):
            message = refusal(path, pickle.dumps(content, protocol), arrays=True)
            assert "asks for " in message
            assert name in message
    assert not marker.exists()


def test_extension_codes_are_refused(path: Path) -> None:
    copyreg.add_extension("os", "system", 240)
    try:
        pickle.loads(b"\x80\x02\x82\xf0.")  # from here on Python hands it out without asking for its name
        assert "instructions that plain data does not need" in refusal(path, b"\x80\x02\x82\xf0.")
    finally:
        copyreg.remove_extension("os", "system", 240)


ODD = {
    "calls a list": (b"]]\x85R.", "calls a list"),
    "calls a name without a tuple": (b"ccollections\nOrderedDict\n]R.", "calls a _Name"),
    "alters a list": (b"]}b.", "alters a list"),
    "alters a name": (b"c__builtin__\nset\n}b.", "alters a _Name"),
    "items of a list": (b"](I0\nI1\nu.", "sets items of a list"),
    "item of a name": (b"c__builtin__\nset\nI0\nI1\ns.", "sets items of a _Name"),
    "odd items": (b"}(I0\nu.", "cannot be read as a pickle: zip()"),
    "adds to a list": (b"](I0\n\x90.", "adds to a list"),
    "list as key": (b"}]I1\ns.", "has a key that is a list"),
    "list as key of many": (b"(]I1\nd.", "has a key that is a list"),
    "tuple in a tuple as key": (b"})\x85I1\ns.", "has a key that is a tuple"),
    "set of tuples": (b"\x8f()\x85\x90.", "has a key that is a tuple"),
    "frozen set of tuples": (b"()\x85\x91.", "has a key that is a tuple"),
    "called set of tuples": (b"cbuiltins\nset\n](I1\n)\x85e\x85R.", "has a key that is a tuple"),
    "ordered keys": (b"ccollections\nOrderedDict\n)\x85I1\n\x86\x85\x85R.", "has a key that is a tuple"),
    "other encoding": (b"c_codecs\nencode\n(Va\nVutf-7\ntR.", "bytes encoded as 'utf-7'"),
    "bytes of a size": (b"c__builtin__\nbytes\n(I1000000\ntR.", "cannot be read"),
    "nothing at all": (b"", "cannot be read as a pickle: EOFError"),
    "text": (b"<html><body>no such page</body>", "is not a pickle"),
    "unknown memo": (b"h\x07.", "cannot be read as a pickle"),
    "no end": (b"}", "cannot be read as a pickle"),
    "no mark": (b"e.", "cannot be read as a pickle"),
    "newer protocol": (b"\x80\xff.", "cannot be read as a pickle: unsupported pickle protocol"),
    "long text": (b"X\xff\xff\xff\xffabc.", "cannot be read as a pickle"),
    "long bytes": (b"\x80\x05\x8e" + b"\xff" * 7 + b"\x7fabc.", "cannot be read as a pickle"),
    "long array of bytes": (b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00abc.", "cannot be read as a pickle"),
    "long number": (b"\x8b\xff\xff\xff\x7fabc.", "cannot be read as a pickle"),
    "many digits": (b"I" + b"9" * 5000 + b"\n.", "cannot be read as a pickle"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_pickles_are_errors_with_the_name_of_the_file(path: Path, case: str) -> None:
    content, message = ODD[case]
    assert message in refusal(path, content, arrays=True)


def test_nested_and_shared_things_cost_nothing(path: Path) -> None:
    deep = b"]" + b"\x85" * 300_000
    load(path, deep + b".")
    assert "has a key that is a tuple" in refusal(path, b"}" + deep + b"I1\ns.")
    shared = b")" + b"2\x86" * 200  # a tuple of twice the one before: 2 ** 200 leaves
    assert "has a key that is a tuple" in refusal(path, b"}" + shared + b"I1\ns.")
    assert load(path, b"}r\xff\xff\xff\x7f.") == {}  # a far place in the memo takes no room


def test_what_is_made_is_bounded_by_the_file(path: Path) -> None:
    many = b"](" + b"I1\n" * 1000 + b"eq\x000"
    for name in (b"c__builtin__\nset\n", b"c__builtin__\nfrozenset\n"):
        assert "makes more than it holds" in refusal(path, many + b"(" + (name + b"h\x00\x85R") * 2000 + b"l.")
    text = b"V" + b"x" * 1000 + b"\nq\x000V" + b"latin1\nq\x010"
    encoded = b"c_codecs\nencode\nh\x00h\x01\x86R"
    assert "makes more than it holds" in refusal(path, text + b"(" + encoded * 2000 + b"l.")
    pairs = b"](" + b"I1\nI2\n\x86" * 1000 + b"eq\x000"
    ordered = b"ccollections\nOrderedDict\nh\x00\x85R"
    assert "makes more than it holds" in refusal(path, pairs + b"(" + ordered * 2000 + b"l.")


def test_a_forged_length_is_not_allocated(path: Path) -> None:
    tracemalloc.start()
    refusal(path, b"\x80\x05\x8e" + (1 << 28).to_bytes(8, "little") + b"abc.", arrays=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def forged(shape: bytes, dtype: bytes, values: bytes) -> bytes:
    """A pickled array of that state; `values` and `shape` are pickled already."""
    made = b"cnumpy\ndtype\n(S'%s'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb" % dtype
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    return empty + b"(I1\n" + shape + made + b"I00\n" + values + b"tb"


MADE_F4 = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
FORGED = {
    "addresses": (forged(b"(I1\nt", b"O8", b"U\x08abcdefgh"), "array of objects that are not its own"),
    "as many letters": (forged(b"(I8\nt", b"O8", b"U\x08abcdefgh"), "array of objects that are not its own"),
    "too many objects": (forged(b"(I1\nt", b"O8", b"(I1\nI2\nl"), "array of objects that are not its own"),
    "too few objects": (forged(b"(I3\nt", b"O8", b"(I1\nI2\nl"), "array of objects that are not its own"),
    "objects in objects": (forged(b"(I1\nt", b"O8", b"(" + forged(b"(I0\nt", b"O8", b"]") + b"l"), "themselves"),
    "itself": (forged(b"(I1\nt", b"O8", b"(h\x00l").replace(b"tR(I1\n", b"tRq\x00(I1\n", 1), "themselves"),
    "too short": (forged(b"(I4\nt", b"f4", b"U\x08abcdefgh"), "array of shape (4,) with other contents"),
    "too long": (forged(b"(I1\nt", b"f4", b"U\x08abcdefgh"), "array of shape (1,) with other contents"),
    "numbers for bytes": (forged(b"(I1\nt", b"f4", b"I5\n"), "array of shape (1,) with other contents"),
    "huge": (forged(b"(I1000000000\nI1000000000\nt", b"f4", b"U\x00"), "makes more than it holds"),
    "negative": (forged(b"(I-2\nI-1\nt", b"f4", b"U\x08abcdefgh"), "cannot be read as a pickle"),
    "letters of no size": (forged(b"(I1000000000\nt", b"S0", b"U\x00"), "array of type 'S0'"),
    "times": (forged(b"(I1\nt", b"M8", b"U\x08abcdefgh"), "array of type 'M8'"),
    "records": (forged(b"(I1\nt", b"V8", b"U\x08abcdefgh"), "array of type 'V8'"),
    "lists of types": (forged(b"(I1\nt", b"f4,f4", b"U\x08abcdefgh"), "array of type 'f4,f4'"),
    "fields": (forged(b"(I2\nt", b"f4", b"U\x08abcdefgh").replace(b"NNNI", b"N(S'a'\nt}I"), "alters a _Dtype"),
    "no text": (forged(b"(I1\nt", b"U1", b"U\x04\x00\x00\x11\x00"), "array of text that is not Unicode"),
    "half a character": (forged(b"(I1\nt", b"U1", b"U\x04\x00\xd8\x00\x00"), "array of text that is not Unicode"),
    "another class": (forged(b"(I0\nt", b"f4", b"U\x00").replace(b"numpy\nndarray", b"builtins\nset"), "another class"),
    "no type": (forged(b"(I0\nt", b"f4", b"U\x00").replace(b"(S'f4'", b"(I4"), "array of type 4"),
    "array by itself": (b"cnumpy\nndarray\n(I9\ntR.", "makes an array by itself"),
    "new array": (b"\x80\x02cnumpy\nndarray\n)\x81.", "instructions that plain data does not need"),
    "a word for a type": (forged(b"(I2\nt", b"f4", b"U\x08abcdefgh").replace(MADE_F4, b"S'f4'\n"), "without a type"),
    "scalar of objects": (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\ntRU\x08abcdefghtR.", "not its own"),
    "scalar of a word": (b"cnumpy.core.multiarray\nscalar\n(S'f4'\nU\x08abcdefghtR.", "without a type"),
    "filled twice": (forged(b"(I0\nt", b"f4", b"U\x00") + b"(I1\n(I0\ntNI00\nNtb", "alters a ndarray"),
    "item": (forged(b"(I0\nt", b"f4", b"U\x00") + b"I0\nI0\ns", "sets items of a ndarray"),
    "buffer of objects": (
        b"cnumpy.core.numeric\n_frombuffer\n(U\x08abcdefghcnumpy\ndtype\n(S'O8'\ntR(I1\ntS'C'\ntR", "not its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_forged_arrays_are_errors(path: Path, case: str) -> None:
    content, message = FORGED[case]
    assert message in refusal(path, content + b".", arrays=True)


def test_sound_forgery_is_read(path: Path) -> None:
    loaded = load(path, forged(b"(I2\nt", b"i1", b"U\x02\x01\x02") + b".", arrays=True)
    assert loaded.tolist() == [1, 2]


def test_damaged_files_are_errors_or_plain(path: Path) -> None:
    chance = random.Random(3)
    whole = pickle.dumps({"data": DATA, "arrays": ARRAYS}, 2)
    for _ in range(150):
        content = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.3 else whole)
        for _ in range(chance.randrange(1, 5)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        try:
            load(path, bytes(content), arrays=True)
        except PickleError:
            refusal(path, bytes(content), arrays=True)


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PickleError, match=r"^corpus/a\.pkl cannot be read as a pickle: \[Errno 2\]"):
        load_pickle(tmp_path / "none.pkl", "corpus/a.pkl")

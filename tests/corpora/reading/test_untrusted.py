"""YAML and pickles of a corpus: what is read, what is refused, and what it may cost."""

from __future__ import annotations

import datetime
import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from corpora.clips import CorpusError
from corpora.reading.untrusted import DEEPEST, ForbiddenTagError, as_text, load_pickle, load_yaml, read_yaml


def test_plain_values_and_tuples_are_read() -> None:
    content = {"a": [1, 2.5, None, True], "b": {"c": (0.0, None), "d": ["x", ()]}, 3: "é"}
    for text in (
        yaml.dump(content),
        yaml.dump(content, allow_unicode=True),
        yaml.dump(content, default_flow_style=True),
    ):
        assert load_yaml(text.encode(), "a.yml") == content
    assert load_yaml(b"", "a.yml") is None
    assert load_yaml(b"\xef\xbb\xbfa: 1", "a.yml") == {"a": 1}


def test_what_would_execute_is_refused_and_does_not_execute(tmp_path: Path) -> None:
    target = tmp_path / "made"
    text = f"a: 1\nb:\n- !!python/object/apply:os.mkdir ['{target}']\n"
    with pytest.raises(ForbiddenTagError) as error:
        load_yaml(text.encode(), "a.yml", first_line=11)
    assert not target.exists()
    assert str(error.value) == (
        "a.yml, line 13: the tag 'tag:yaml.org,2002:python/object/apply:os.mkdir' is not admitted, only "
        "plain values and 'tag:yaml.org,2002:python/tuple'; get the file from its authors again"
    )
    yaml.unsafe_load(text)
    assert target.exists()  # the document would have done it


@pytest.mark.parametrize("tag", ["!!python/name:os.system", "!!python/none", "!mine", "!!python/module:os"])
def test_every_other_tag_is_refused(tag: str) -> None:
    with pytest.raises(ForbiddenTagError, match=r"a\.yml, line 1: the tag"):
        load_yaml(f"{tag} ''".encode(), "a.yml")


def test_other_safe_loaders_are_left_as_they_are() -> None:
    load_yaml(b"!!python/tuple [1]", "a.yml")
    with pytest.raises(yaml.constructor.ConstructorError):
        yaml.load("!!python/tuple [1]", Loader=yaml.CSafeLoader)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: [", "a.yml, line 5: cannot be read as YAML: did not find expected node content"),
        (b"a: 1\nb: ]", "a.yml, line 5: cannot be read as YAML:"),
        (b"a: 2024-13-45", "a.yml: cannot be read as YAML: month must be in 1..12"),
        (b"a: !!timestamp x", "a.yml: cannot be read as YAML: "),
        (b"a: !!bool x", "a.yml: cannot be read as YAML: 'x'"),
        (b"a: !!int x", "a.yml: cannot be read as YAML: invalid literal"),
        (b"a: " + b"9" * 5000, "a.yml: cannot be read as YAML: Exceeds the limit"),
        (b"\x80\x81", "a.yml"),
        (b"\xff\xfe\x00", "a.yml"),
        (b"{[1]: 2}", "a.yml, line 4: cannot be read as YAML: found unhashable key"),
        (b"!!python/tuple 3", "a.yml, line 4: cannot be read as YAML: expected a sequence node"),
        (b"&a [*a]", "a.yml: cannot be read as YAML: an alias refers to what holds it"),
        (b"a\n---\nb", "a.yml, line 5: cannot be read as YAML: but found another document"),
    ],
)
def test_damage_is_one_error_with_file_and_line(data: bytes, message: str) -> None:
    with pytest.raises(CorpusError) as error:
        load_yaml(data, "a.yml", first_line=4)
    assert str(error.value).startswith(message)
    assert not isinstance(error.value, ForbiddenTagError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("opening", [b"[", b"- ", b"? ", b"{a: "])
def test_depth_is_bounded_before_the_parser_overruns_its_stack(opening: bytes) -> None:
    with pytest.raises(
        CorpusError, match=r"^a\.yml: cannot be read as YAML: lists and mappings lie more than 100 deep"
    ):
        load_yaml(opening * 100_000, "a.yml")
    as_deep_as_may_be = b"[" * DEEPEST + b"]" * DEEPEST
    assert len(load_yaml(as_deep_as_may_be, "a.yml")) == 1
    with pytest.raises(CorpusError, match="100 deep"):
        load_yaml(b"[" + as_deep_as_may_be + b"]", "a.yml")


def test_aliases_are_admitted_unless_they_multiply() -> None:
    assert load_yaml(b"a: &x [1, 2]\nb: [*x, *x]", "a.yml") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    # 11 levels of ten aliases each: 10^11 values
    levels = [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)]
    with pytest.raises(CorpusError, match="its aliases stand for more than 10000000 values"):
        load_yaml(b"a0: &a0 [x]\n" + b"\n".join(levels), "a.yml")


def test_read_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("a: !!python/tuple [1]", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yml", "a.yml") == {"a": (1,)}
    with pytest.raises(CorpusError, match=r"^corpus/b\.yml cannot be read: No such file"):
        read_yaml(tmp_path / "b.yml", "corpus/b.yml")


def test_as_text() -> None:
    values = [None, "x", 3, 2.5, True, [1, (None, "é")], {"a": datetime.date(2024, 3, 1)}]
    texts = [None, "x", "3", "2.5", "True", '[1, [null, "é"]]', '{"a": "2024-03-01"}']
    assert [as_text(value, "a.yml") for value in values] == texts
    for value in (16**9000, [16**9000], {(1,): 2}):
        with pytest.raises(CorpusError, match=r"^a\.yml: holds a value that cannot be written as text: "):
            as_text(value, "a.yml")


def test_what_is_refused_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "annotation.pkl"
    path.write_bytes(pickle.dumps({"a": np.arange(2)}, 4))
    assert "a" in load_pickle(path, "corpus/annotation.pkl", arrays=True)  # type: ignore[operator]
    with pytest.raises(
        CorpusError,
        match=r"^corpus/annotation\.pkl asks for numpy\._?core\.multiarray\._reconstruct; such a file may hold nothing "
        r"but containers, text and numbers\. Nothing of it was run; get it from the corpus' owners$",
    ):
        load_pickle(path, "corpus/annotation.pkl")
    with pytest.raises(CorpusError, match=r"^corpus/none\.pkl cannot be read as a pickle: \[Errno 2\]"):
        load_pickle(tmp_path / "none.pkl", "corpus/none.pkl")

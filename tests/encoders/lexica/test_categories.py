from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from encoders.errors import ExtractionError
from encoders.lexica import categories
from encoders.lexica.categories import category_names, count_categories
from encoders.lexica.scores import read_text


def test_shares_are_those_of_the_list() -> None:
    spec = find_spec("empath")
    assert spec is not None
    assert spec.origin is not None
    lines = (Path(spec.origin).parent / "data" / "categories.tsv").read_text().splitlines()
    lists = {line.split("\t")[0]: set(line.split("\t")[1:]) for line in lines}
    words = ("the", "doctor", "swims", "in", "fear", "of", "fear")
    expected = [sum(word in lists[name] for word in words) / len(words) for name in sorted(lists)]
    assert category_names() == tuple(sorted(lists))
    np.testing.assert_allclose(count_categories(read_text("The doctor swims, in FEAR of fear.")), expected, rtol=1e-6)
    assert max(expected) >= 2 / 7  # of fear, twice


def test_a_list_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Spec:
        origin = str(tmp_path / "__init__.py")

    categories._lists.cache_clear()
    monkeypatch.setattr(categories, "find_spec", lambda name: Spec)
    with pytest.raises(ExtractionError, match=r"finds no word list at .*categories\.tsv; reinstall"):
        category_names()
    categories._lists.cache_clear()

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from corpora.clips import CorpusError
from corpora.reading.untrusted import load_pickle


def test_what_is_refused_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "annotation.pkl"
    path.write_bytes(pickle.dumps({"a": np.arange(2)}, 4))
    assert "a" in load_pickle(path, "corpus/annotation.pkl", arrays=True)  # type: ignore[operator]
    with pytest.raises(
        CorpusError,
        match=r"^corpus/annotation\.pkl asks for numpy\.core\.multiarray\._reconstruct; such a file may hold nothing "
        r"but containers, text and numbers\. Nothing of it was run; get it from the corpus' owners$",
    ):
        load_pickle(path, "corpus/annotation.pkl")
    with pytest.raises(CorpusError, match=r"^corpus/none\.pkl cannot be read as a pickle: \[Errno 2\]"):
        load_pickle(tmp_path / "none.pkl", "corpus/none.pkl")

"""Objects that print as a table: text, HTML, and nothing in it that a browser would read as marks."""

from __future__ import annotations

import pandas as pd

from training.scoring.shown import ShownAsTable


class Two(ShownAsTable):
    def to_table(self) -> pd.DataFrame:
        return pd.DataFrame({"clip": ["a<b>.mp4", "c.mp4"], "emotion": ["Fear (57% sure)", ""]})

    def _heading(self) -> str:
        return "runs/a&b"


def test_it_prints_and_shows_the_same_cells() -> None:
    lines = repr(Two()).splitlines()
    assert lines[0] == "runs/a&b"
    assert [line.split() for line in lines[1:]] == [
        ["clip", "emotion"], ["a<b>.mp4", "Fear", "(57%", "sure)"], ["c.mp4"]
    ]  # fmt: skip
    page = Two()._repr_html_()
    assert page.startswith("<p>runs/a&amp;b</p><table")
    assert "<td>a&lt;b&gt;.mp4</td>" in page

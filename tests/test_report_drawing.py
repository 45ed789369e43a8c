"""What charts have in common."""

from __future__ import annotations

import pytest

from training.report.charts import figure_of, legend, shortened, styled, svg_of


@pytest.mark.parametrize(("text", "shown"), [("short", "short"), ("x" * 24, "x" * 24), ("x" * 25, "x" * 23 + "…")])
def test_shortened(text: str, shown: str) -> None:
    assert shortened(text) == shown


def test_a_legend_tells_more_series_apart_than_there_are_colours() -> None:
    found = legend(f"s{number}" for number in range(16))
    assert found[0] == ("c1", "s0")
    assert found[4] == ("c5 dashed", "s4")
    assert found[8] == ("c1 dashed", "s8")


def test_a_drawing_has_its_size_in_the_view_box_alone() -> None:
    draw = styled(lambda: svg_of(figure_of(123.0)[0], "k"))
    assert draw().startswith('<svg viewBox="0 0 320 123"')
    assert "<style" not in draw()
    assert "metadata" not in draw()
    assert "xmlns" not in draw()

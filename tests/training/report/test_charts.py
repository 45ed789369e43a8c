"""Charts: what they draw, and where."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from functools import cache

import numpy as np
import pytest

from training.report.charts import (
    Line,
    Range,
    bars,
    figure_of,
    forest,
    heat,
    legend,
    lines,
    rank_axis,
    reliability,
    ridges,
    shortened,
    styled,
    svg_of,
)


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


NAN = float("nan")


@cache
def every(name: str = "a") -> dict[str, str]:
    """One chart of each kind."""
    return {
        "forest": forest([Range(name, 50.0, 40.0, 60.0, 45.0, 10.0), Range("b", None)], name, "k0"),
        "lines": lines({name: Line([1, 2, 3], [1.0, NAN, 2.0]), "b": Line([1], [1.0])}, name, name, "k1", 2.0),
        "bars": bars({"train": {name: 1.0, "b": 2.0}, "dev": {name: 3.0, "b": 0.0}}, name, "k2"),
        "ridges": ridges({name: [0.1, 0.9], "b": [0.0, 0.0]}, name, "k3"),
        "heat": heat([[1.0, -1.0], [NAN, 0.0]], [[name, ""], ["", "0"]], [name, "b"], [name, "b"], name, name, "k4"),
        "reliability": reliability([0.1, 0.9], [0.2, 0.8], [10, 20], "k5"),
        "rank_axis": rank_axis({name: 1.0, "b": 2.5}, 1.2, "k6"),
    }  # fmt: skip


def texts(svg: str) -> list[str]:
    return ["".join(found.itertext()) for found in ElementTree.fromstring(svg).iter("text")]


def places(svg: str, colour: str) -> list[tuple[float, float]]:
    """Where marks of a colour stand."""
    found = []
    for use in ElementTree.fromstring(svg).iter("use"):
        if colour in use.get("style", ""):
            found.append((float(use.get("x", "nan")), float(use.get("y", "nan"))))
    return found


@pytest.mark.parametrize("kind", every())
def test_a_name_is_never_markup_or_mathematics(kind: str) -> None:
    hostile = "<b>$x^2$&\\frac"
    shown = texts(every(hostile)[kind])
    assert len(shown) == len(texts(every()[kind]))
    if kind not in ("reliability",):  # which has no names
        assert hostile in shown


@pytest.mark.parametrize("kind", every())
def test_colours_are_the_pages(kind: str) -> None:
    svg = every()[kind]
    assert not re.findall(r"#[0-9a-fA-F]{6}", svg)
    assert "fill: currentColor" in svg
    assert set(re.findall(r"var\(([^)]*)\)", svg)) <= {"--faint", *(f"--c{number}" for number in range(1, 9))}
    assert ElementTree.fromstring(svg).get("width") is None


def test_identifiers_are_those_of_one_chart() -> None:
    everything = "".join(every().values())
    found = re.findall(r' id="([^"]*)"', everything)
    assert len(found) == len(set(found))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', everything)) <= set(found)


def test_the_same_values_give_the_same_bytes() -> None:
    assert every() == every.__wrapped__()


def test_a_forest_puts_values_where_they_are() -> None:
    svg = forest([Range("a", 50.0, 40.0, 60.0, 45.0, 10.0), Range("b", 30.0)], "%", "k")
    (high, first), (low, second) = places(svg, "fill: var(--c1)")
    [(linear, of_linear)] = places(svg, "stroke: var(--c2)")
    [(chance, _)] = places(svg, "stroke: currentColor")
    assert first == of_linear < second  # the first row is on top
    unit = (high - low) / 20
    assert linear == pytest.approx(high - 5 * unit)
    assert chance == pytest.approx(high - 40 * unit)
    ends = re.findall(r"M ([\d.]+) [\d.]+\s+L ([\d.]+) [\d.]+\s+\" clip-path=[^>]*var\(--c1\)", svg)
    assert [[float(end) for end in pair] for pair in ends] == [
        [pytest.approx(high - 10 * unit), pytest.approx(high + 10 * unit)]
    ]


def test_a_line_has_a_gap_where_there_is_no_number() -> None:
    gapped = lines({"a": Line([1, 2, 3, 4, 5], [1, 2, NAN, 2, 1])}, "epoch", "%", "k")
    whole = lines({"a": Line([1, 2, 3, 4, 5], [1, 2, 2, 2, 1])}, "epoch", "%", "k")
    [path] = re.findall(r'd="([^"]*)"[^>]*stroke: var\(--c1\)', gapped)
    assert path.count("M") == 2
    [path] = re.findall(r'd="([^"]*)"[^>]*stroke: var\(--c1\)', whole)
    assert path.count("M") == 1


def test_shares_span_the_whole_axis() -> None:
    assert {"0", "100"} <= set(texts(lines({"a": Line([1, 2], [60, 61])}, "epoch", "%", "k", is_share=True)))
    assert "0" not in texts(lines({"a": Line([1, 2], [60, 61])}, "epoch", "%", "k"))


def test_shades_grow_with_the_value_and_turn_with_the_sign() -> None:
    svg = heat([[0.0, 0.5, 1.0, -1.0, NAN]], [[""] * 5], ["r"], list("abcde"), "", "", "k")
    shades = re.findall(r"fill: var\((--c\d)\); opacity: ([\d.]+)", svg)
    assert [(colour, float(opacity)) for colour, opacity in shades] == [
        ("--c1", pytest.approx(0.06)), ("--c1", pytest.approx(0.33)), ("--c1", pytest.approx(0.6)),
        ("--c2", pytest.approx(0.6)),
    ]  # fmt: skip


def test_the_best_rank_is_on_top_and_bars_join_rows_that_are_not_told_apart() -> None:
    svg = rank_axis({"worse": 3.0, "best": 1.0, "close": 1.5, "last": 3.5}, 1.0, "k")
    dots = places(svg, "fill: var(--c1)")
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    names = ["critical difference", "best", "close", "worse", "last"]
    assert [name for name in texts(svg) if name in names] == names
    bars = [
        [tuple(map(float, point)) for point in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)]
        for path in re.findall(r'd="([^"]*)"[^>]*stroke: var\(--c2\)', svg)
    ]
    for (top, bottom), joined in zip(bars, (dots[:2], dots[2:]), strict=True):  # 1.0 and 1.5; 3.0 and 3.5
        assert top[0] == bottom[0] > dots[-1][0]
        assert [y for _, y in dots if top[1] < y < bottom[1]] == [y for _, y in joined]
    assert "var(--c2)" not in rank_axis({"a": 1.0, "b": 2.0}, None, "k")
    assert "var(--c2)" not in rank_axis({"a": 1.0, "b": 3.0}, 1.0, "k")  # told apart


def test_dots_of_reliability_are_as_large_as_their_counts() -> None:
    svg = reliability([0.2, 0.8], [0.0, 1.0], [1, 100], "k")
    sizes = []
    for path in re.findall(r'd="([^"]*)"[^>]*style="fill: var\(--c1\)"', svg):
        sizes.append(np.ptp([float(x) for x in re.findall(r"[MC] (-?[\d.]+)", path)]))
    assert len(sizes) == 2
    assert sizes[0] < sizes[1]

"""The page of a report: its structure, what it escapes, and that it stands alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from training.report.charts import Range, forest
from training.report.page import Card, Cards, Cell, Chart, Charts, Page, Section, Table, Text, Warning_, render

HOSTILE = "<script>alert('&1')</script>\"><img src=x onerror=y>"


class Outline(HTMLParser):
    """Tags with their attributes, and whether every one that was opened was closed in order."""

    VOID = ("meta", "link", "img", "path", "use", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(name: str = "name") -> Page:
    chart = Chart(f"chart {name}", forest([Range(name, 1.0, 0.0, 2.0)], name, "one"), f"see {name}", [("dot", name)])
    blocks = [
        Text(f"text {name}"),
        Text(f"typed {name}", typed=True),
        Cards([Card(f"card {name}", name, name, [name])]),
        Charts([chart]),
        Table([name, name], [[name, Cell(name, name, strong=True)]], name, folded=name),
    ]
    warnings = [Warning_("note", f"little {name}"), Warning_("serious", f"much {name}"), Warning_("caution", name)]
    return Page(
        name, name, [(name, name)], warnings, [Section("part", name, blocks), Section("nothing", "left out", [])]
    )


def test_structure() -> None:
    outline = Outline(render(page()))
    assert outline.open == []
    assert [found["href"] for found in outline.named("a")] == ["#part"]
    assert [found["id"] for found in outline.named("section") if "id" in found] == ["part"]
    assert "left out" not in outline.text
    assert len(outline.named("figcaption")) == len(outline.named("figure")) == len(outline.named("svg")) == 1
    assert outline.named("th")[0]["class"] == "left"
    assert "class" not in outline.named("th")[1]
    [drawing] = [found for found in outline.named("div") if found.get("role") == "img"]
    assert drawing["aria-label"] == "chart name. see name"


def test_serious_warnings_come_first() -> None:
    outline = Outline(render(page()))
    levels = [found["class"] for found in outline.named("li") if found.get("class") in ("serious", "caution", "note")]
    assert levels == ["serious", "caution", "note"]
    text = render(page())
    assert text.index("much name") < text.index("little name") < text.index('<section id="part">')


def test_no_warning_no_list_of_them() -> None:
    assert "Read this first" in render(page())
    assert "Read this first" not in render(Page("a", "b", []))


def test_names_are_text_wherever_they_stand() -> None:
    plain, hostile = Outline(render(page("name"))), Outline(render(page(HOSTILE)))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert not hostile.named("script")
    assert not any(key.startswith("on") for _, attributes in hostile.tags for key in attributes)
    assert hostile.text.count(HOSTILE) >= 15


def test_nothing_is_fetched() -> None:
    html = render(page())
    for _, attributes in Outline(html).tags:
        for key, value in attributes.items():
            if key in ("src", "href", "xlink:href", "data", "srcset", "poster", "action"):
                assert str(value).startswith(("#", "data:")), value
    assert not re.search(r"@import|https?://|<script|<iframe|<object", html)
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)\)", html))


def test_the_same_page_gives_the_same_bytes() -> None:
    assert render(page()) == render(page())


@pytest.mark.parametrize("condition", ["screen and (prefers-color-scheme: dark)", "print", "(max-width: 480px)"])
def test_it_has_a_style_for(condition: str) -> None:
    assert f"@media {condition} {{" in render(page())

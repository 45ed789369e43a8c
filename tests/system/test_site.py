"""The documentation as a site: links that lead nowhere are found, and pages link to pages alone."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """The hooks of mkdocs.yml."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / ".ci" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_that_lead_nowhere_are_found(site: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "under").mkdir()
    (tmp_path / "under" / "index.html").write_text('<a id="here"></a><a href="../a.html#there"></a><img src="no.png">')
    links = [
        "#top",
        "#gone",
        "under",
        "under/#here",
        "under/index.html#lost",
        "b%20c.svg",
        "no.html",
        "https://x.org/y",
    ]
    (tmp_path / "a.html").write_text('<h1 id="top">' + "".join(f'<a href="{link}"></a>' for link in links))
    (tmp_path / "b c.svg").touch()
    assert list(site.broken_links(tmp_path)) == [
        "a.html: #gone", "a.html: under/index.html#lost", "a.html: no.html",
        "under/index.html: ../a.html#there", "under/index.html: no.png",
    ]  # fmt: skip


def test_files_of_the_repository_are_pages_of_the_site(site: ModuleType) -> None:
    text = "see [a](../mmpsr/tasks.py), [b](../CHANGELOG.md#removed) and [c](running.md)\n\n```sh needs a hub\nx\n```"
    assert site.on_page_markdown(text, None) == (
        "see [a](source/mmpsr/tasks.py.md), [b](CHANGELOG.md#removed) and [c](running.md)\n\n```sh\nx\n```"
    )
    page = site.source_page("mmpsr/tasks.py")
    assert "\n# mmpsr/tasks.py\n\n``````python\n" in page
    assert (ROOT / "mmpsr" / "tasks.py").read_text(encoding="utf-8").rstrip() in page


def test_every_guide_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("!!python/name:", "")
    named = re.findall(r"\w+\.md", str(yaml.safe_load(text)["nav"]))
    assert sorted(named) == sorted(
        [path.name for path in (ROOT / "docs").glob("*.md")] + ["CONTRIBUTING.md", "CHANGELOG.md"]
    )


def test_no_picture_loads_anything() -> None:
    for path in (ROOT / "docs" / "images").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert "var(" not in text, f"{path.name} has colours of a page"
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == [], f"{path.name} loads something"


def test_a_page_with_a_broken_link_ends_the_build(site: ModuleType, tmp_path: Path) -> None:
    from mkdocs.exceptions import PluginError

    (tmp_path / "index.html").write_text('<a href="gone.html"></a>')
    with pytest.raises(PluginError, match=r"index\.html: gone\.html"):
        site.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))

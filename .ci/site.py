"""Hooks of mkdocs.yml: pages in the order of the index, what they link to, and no link that leads nowhere.

Guides link to files outside docs/ as a checkout and a forge show them; the site has a page for each of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Of the repository's folder, that are pages as they are."""
OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)")
HEAD, ROW = re.compile(r"\| (\w+) \| for \|"), re.compile(r"\| \[([^]]+)\]\((\w+\.md)\) \|")
REASON = re.compile(r"^( *```\w+) .*$", re.MULTILINE)
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json"}


def on_config(config: Any) -> Any:
    """List pages as the tables of docs/README.md do."""
    config.nav = navigation((ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    return config


def navigation(index: str) -> list[dict[str, list[Any]]]:
    """Make the navigation: a section for each table of the index, in its order."""
    sections: dict[str, list[Any]] = {}
    for line in index.splitlines():
        if head := HEAD.match(line):
            name = head[1].capitalize()
            sections[name] = [] if sections else ["README.md"]
        elif row := ROW.match(line):
            sections[name].append({row[1]: row[2]})
    sections["Project"] = [{Path(name).stem.capitalize(): name} for name in PAGES]
    return [{name: pages} for name, pages in sections.items()]


def on_files(files: Files, config: Any) -> Files:
    """Add a page for every file or folder outside docs/ that a page links to."""
    for name in PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text.replace("](docs/", "](")))
    linked = {path for page in (ROOT / "docs").glob("*.md") for path in OUTSIDE.findall(page.read_text("utf-8"))}
    for path in sorted(linked - set(PAGES)):
        files.append(File.generated(config, f"source/{path}.md", content=source_page(path)))
    return files


def source_page(path: str) -> str:
    """Make the page of a file of the repository, or of a folder with its files' names; search leaves it out."""
    language, place = LANGUAGES.get(Path(path).suffix, "text"), ROOT / path
    if place.is_dir():
        text = "\n".join(sorted(each.relative_to(place).as_posix() for each in place.rglob("*") if each.is_file()))
    else:
        text = place.read_text(encoding="utf-8")
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n``````{language}\n{text.rstrip()}\n``````\n"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to files outside docs/ lead to their pages, and leave out why tests do not run a block."""
    markdown = REASON.sub(r"\1", markdown)
    return OUTSIDE.sub(lambda link: f"]({link[1] if link[1] in PAGES else f'source/{link[1]}.md'}", markdown)


def on_post_build(config: Any) -> None:
    """End the build where a link leads nowhere."""
    if broken := list(broken_links(Path(config.site_dir))):
        raise PluginError("links that lead nowhere:\n" + "\n".join(broken))


class _Links(HTMLParser):
    """Targets and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.targets += [value for name in ("href", "src") if (value := values.get(name))]
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}


def broken_links(folder: Path) -> Iterator[str]:
    """Find links of the pages in a folder that lead to no file of it, or to no anchor of a page.

    Yields:
        Page and target of each.
    """
    pages: dict[Path, _Links] = {}
    for path in sorted(folder.resolve().rglob("*.html")):
        pages[path] = _Links()
        pages[path].feed(path.read_text(encoding="utf-8"))
    for path, links in pages.items():
        if path.name == "404.html":
            continue  # its links begin at the address that the site is put at
        for target in dict.fromkeys(links.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            page = pages.get(file)
            is_lost = page is not None and parts.fragment and unquote(parts.fragment) not in page.anchors
            if not file.is_file() or (is_lost and parts.fragment != "__skip"):
                yield f"{path.relative_to(folder.resolve())}: {target}"

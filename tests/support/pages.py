"""The pages of `docs/` that are made from the code: formulas, settings, measured columns, the order of folders.

`python -m tests.support.pages` writes them anew; `tests/system/test_pages.py` holds them against the code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FORMULAS, ARCHITECTURE = REPOSITORY / "docs" / "formulas.md", REPOSITORY / "docs" / "architecture.md"
SETTINGS = REPOSITORY / "docs" / "settings.md"
MEASURES = REPOSITORY / "docs" / "measure.md"
BEGIN, END = "<!-- rooms: begin -->\n", "<!-- rooms: end -->\n"
COLUMNS_BEGIN, COLUMNS_END = "<!-- columns: begin -->\n", "<!-- columns: end -->\n"
ROOMS: Mapping[str, str] = {
    "layers/graph": "Graph layers",
    "layers/attention": "Attention layers",
    "layers": "Parts of layers",
    "models": "Models",
    "temporal": "Models in time",
    "objective": "Losses and pseudo-labels",
    "balancing": "Balancing",
    "": "Probabilities and decisions",
    "metrics": "Metrics and statistics",
    "calibration": "Calibration",
    "explanation": "Explanation",
    "adaptation": "Adaptation to one person",
    "prototypes": "Class texts",
}
"""Folder of `mmpsr/` -> heading, in the page's order."""

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Example|Examples|References|Note):?( .*)?$")
_INTRODUCTION = """# Formulas

Formula, class, file, paper and test of every method of `mmpsr/`, from docstrings, by `python -m tests.support.pages`.
Letters are explained there and at the top of each file. B clips, M modalities, H hidden width, C outputs of a task.
"""


_SETTINGS = """# Settings

All that a configuration file, or `--set section.key=value` over it, can say: from the models that read it, by
`python -m tests.support.pages`. `mmpsr settings lr` and `mmpsr settings 'training.*'` print parts of it.
`-` is left out by default; `<name>` is a name of yours; `[]` stands for each entry of a list.
Examples of whole files are in [configs](../configs).
"""


@dataclass(frozen=True)
class Method:
    """A class or function whose docstring has a formula or a paper; a module, where `name` is its file's.

    Attributes:
        name: of the class or function.
        file: relative to the repository.
        summary: first line of the docstring.
        meaning: of the letters in the formula, as it is introduced.
        formula: lines of its indented blocks.
        papers: lines of `References`.
        test: file that tests it, None where there is none.
    """

    name: str
    file: str
    summary: str
    meaning: str
    formula: tuple[str, ...]
    papers: tuple[str, ...]
    test: str | None


def sections(docstring: str) -> dict[str, list[str]]:
    """Lines of a cleaned docstring by section; the description is that of the empty name."""
    parts: dict[str, list[str]] = {"": []}
    name = ""
    for line in docstring.splitlines():
        head = _SECTION.match(line)
        if head:
            name = head[1]
            parts[name] = []
        else:
            parts[name].append(line)
    return parts


def formula_of(description: list[str]) -> tuple[str, ...]:
    """Indented blocks and tables of a description; a summary that is a formula itself, where there are none."""
    blocks = tuple(line.removeprefix("    ") for line in description if line.startswith(("    ", "|")))
    rest = tuple(line for line in description[2:] if line)
    if rest and not blocks and not any(line.endswith(".") for line in rest):
        blocks = rest  # the formatter takes the margin of a block that nothing follows
    is_formula = bool(description) and re.search(r" (=|<-|\+-) ", re.sub(r"`[^`]*`", "", description[0])) is not None
    return blocks or ((description[0],) if is_formula else ())


def meaning_of(description: list[str]) -> str:
    """What the first formula is introduced by, where that ends in a colon or goes on into it; else nothing."""
    first = next((number for number, line in enumerate(description) if line.startswith(("    ", "|"))), 0)
    before = "\n".join(description[1:first]).rstrip("\n").rpartition("\n\n")[2].strip()
    return " ".join(before.split())


def papers_of(lines: list[str]) -> tuple[str, ...]:
    """Papers of a section, one an entry: each begins with its authors and a colon."""
    text = " ".join(" ".join(lines).split())
    return tuple(re.split(r"(?<=\.) (?=[^.:0-9]{3,90}(?: et al\.)?: )", text)) if text else ()


def methods(folder: Path = REPOSITORY / "mmpsr") -> Iterator[Method]:
    """All methods of the rooms, in the page's order."""
    tests = {
        path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((REPOSITORY / "tests").rglob("test_*.py"))
    }
    for room in ROOMS:
        files = (
            [folder / name for name in ("decisions.py", "probabilities.py")]
            if not room
            else sorted((folder / room).glob("*.py"))
        )
        for path in files:
            yield from methods_of(path, tests)


def methods_of(path: Path, tests: Mapping[str, str]) -> Iterator[Method]:
    """Methods of a file, the module itself first."""
    file = path.relative_to(REPOSITORY).as_posix()
    if path.name == "__init__.py":
        return
    for name, docstring in documented(ast.parse(path.read_text(encoding="utf-8"))):
        parts = sections(docstring)
        formula, papers = formula_of(parts[""]), papers_of(parts.get("References", []))
        if formula or papers:
            test = _test_of(name.rpartition(".")[2] or path.stem, file, tests)
            summary = docstring.splitlines()[0]
            yield Method(name or path.stem, file, summary, meaning_of(parts[""]), formula, papers, test)


def documented(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Docstrings of a module (whose name is empty), of its public classes and functions, and of their methods."""
    yield "", _docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, _docstring(node)
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                    yield f"{node.name}.{part.name}", _docstring(part)


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """A docstring without the margin of its quotes; `ast.get_docstring` would take that of an indented block, too."""
    margin = " " * (node.body[0].col_offset if node.body else 0)
    lines = (ast.get_docstring(node, clean=False) or ".").rstrip().splitlines()
    return "\n".join(line.removeprefix(margin).rstrip() for line in lines)


def _test_of(name: str, file: str, tests: Mapping[str, str]) -> str | None:
    """The test file beside the module if it names the method, else the first of the same package that does."""
    folder, _, module = f"tests/{file}".rpartition("/")
    beside = [test for test in tests if test.startswith(f"{folder}/test_{module.removesuffix('.py')}")]
    near = [test for test in tests if test.startswith(f"{folder}/")]
    word = re.compile(rf"\b{re.escape(name)}\b")
    for test in (*beside, *near, *tests):
        if word.search(tests[test]):
            return test
    return beside[0] if beside else None


def formulas_page() -> str:
    """The text of `docs/formulas.md`."""
    lines = [_INTRODUCTION]
    found = list(methods())
    for room, heading in ROOMS.items():
        folder = f"mmpsr/{room}".rstrip("/")
        lines.append(f"## {heading}\n")
        for method in found:
            if method.file.rpartition("/")[0] == folder:
                lines += _entry(method)
    return "\n".join(lines).rstrip("\n") + "\n"


def _entry(method: Method) -> Iterator[str]:
    yield f"### {method.name}\n"
    yield f"{_prose(method.summary)}\n"
    if method.formula and method.formula != (method.summary,):
        if method.meaning:
            yield f"{_prose(method.meaning)}\n"
        yield "```"
        yield from method.formula
        yield "```\n"
    yield f"- file: [`{method.file}`](../{method.file})"
    for paper in method.papers:
        yield f"- paper: {_prose(paper)}"
    yield f"- test: [`{method.test}`](../{method.test})\n" if method.test else "- test: none of its own\n"


def _prose(text: str) -> str:
    """Text in which stars, underscores and bars of formulas mean themselves."""
    return "".join(part if part.startswith("`") else re.sub(r"([*_|<])", r"\\\1", part) for part in _spans(text))


def _spans(text: str) -> list[str]:
    return [part for part in re.split(r"(`[^`]*`)", text) if part]


def rooms_picture(order: Mapping[str, tuple[str, ...]], may_import: Mapping[str, set[str]]) -> str:
    """The folders and files of the packages as a drawing: each imports only what stands on lines below its own.

    Args:
        order: rooms of each package, from the ground up; a line holds those that do not need each other.
        may_import: packages that each package may import.
    """
    lines = ["```mermaid", "flowchart BT"]
    for package, floors in order.items():
        lines.append(f'    subgraph {package}["{package}/"]')
        lines.append("        direction BT")
        names = [f"{package}{number}" for number in range(len(floors))]
        lines += [f'        {name}["{floor}"]' for name, floor in zip(names, floors, strict=True)]
        lines.append(f"        {' --- '.join(names)}")
        lines.append("    end")
    lines += [
        f"    {below} --> {package}"
        for package in order
        for below in order
        if below != package and below in may_import[package] and below in _nearest(package, may_import)
    ]
    return "\n".join([*lines, "```", ""])


def _nearest(package: str, may_import: Mapping[str, set[str]]) -> set[str]:
    """Packages right below one: those that no other below it may import."""
    below = may_import[package] - {package}
    return {name for name in below if not any(name in may_import[other] for other in below - {name})}


def architecture_page(text: str, picture: str) -> str:
    """The page with the drawing between its marks."""
    return _between(text, BEGIN, picture, END)


def _between(text: str, begin: str, content: str, end: str) -> str:
    before, _, rest = text.partition(begin)
    return before + begin + content + end + rest.partition(end)[2]


def measures_page(text: str) -> str:
    """The page of `mmpsr measure` with a table of columns for each group between its marks."""
    from encoders.cues.columns import COLUMNS, PARTS

    lines = []
    for part, title in PARTS.items():
        lines += [f"**{title}**", "", "| column | unit | meaning |", "|---|---|---|"]
        lines += [f"| `{each.name}` | {each.unit} | {each.meaning} |" for each in COLUMNS.values() if each.part == part]
        lines.append("")
    return _between(text, COLUMNS_BEGIN, "\n".join(lines), COLUMNS_END)


def settings_page() -> str:
    """The text of `docs/settings.md`."""
    from tuning.console import listed_settings

    lines = [_SETTINGS]
    for kind, settings in listed_settings().items():
        lines.append(f"## Settings of {kind}\n")
        sections = dict.fromkeys(setting.place.partition(".")[0].removesuffix("[]") for setting in settings)
        for section in sections:
            lines += [f"### {section}\n", "| setting | type | default | meaning |", "|---|---|---|---|"]
            for setting in settings:
                if setting.place.partition(".")[0].removesuffix("[]") == section:
                    words = (setting.type, f"`{setting.default}`" if setting.default not in ("-", "required") else
                             setting.default, setting.sentence)  # fmt: skip
                    lines.append(
                        f"| `{setting.place}` | " + " | ".join(word.replace("|", "\\|") for word in words) + " |"
                    )
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def main() -> None:
    """Write all pages."""
    from tests.system.test_house import MAY_IMPORT, ORDER

    SETTINGS.write_text(settings_page(), encoding="utf-8")
    FORMULAS.write_text(formulas_page(), encoding="utf-8")
    text = ARCHITECTURE.read_text(encoding="utf-8")
    picture = rooms_picture(ORDER, MAY_IMPORT)
    ARCHITECTURE.write_text(architecture_page(text, picture), encoding="utf-8")
    MEASURES.write_text(measures_page(MEASURES.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

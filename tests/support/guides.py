"""The guides of `docs/` as blocks of code, and as scripts that run them in order."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "docs"
GUIDES = sorted(path.name for path in FOLDER.glob("*.md") if path.name != "README.md")

_FENCE = re.compile(r"^```(\S*) ?(.*)$")
_NAME = re.compile(r"(?:#!\S+\n)?# (\S+\.(?:toml|py|sh))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        guide: file name of the guide.
        line: of its fence, counted from 1.
        language: `bash` and `python` are run, `toml` is read, `sh` is not run for the `reason` beside it, `text` is
            what was printed, and none is a sketch.
        reason: rest of the fence's line.
        text: content.
    """

    guide: str
    line: int
    language: str
    reason: str
    text: str

    @property
    def name(self) -> str | None:
        """File that the reader saves the block as: its first line, but for #!, if that is a comment of nothing else."""
        found = _NAME.match(self.text)
        return found and found.group(1)

    def __str__(self) -> str:
        return f"docs/{self.guide}:{self.line}"


def blocks(guide: str, *languages: str) -> list[Block]:
    """The blocks of a guide in its order, of all languages where none is named."""
    found: list[Block] = []
    begin, language, reason, lines = 0, "", "", list[str]()
    for number, line in enumerate((FOLDER / guide).read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and not begin:
            begin, (language, reason), lines = number, fence.groups(), []
        elif line == "```":
            found.append(Block(guide, begin, language, reason, "\n".join(lines) + "\n"))
            begin = 0
        elif begin:
            lines.append(line)
    assert not begin, f"docs/{guide}:{begin}: the block does not end"
    return [block for block in found if not languages or block.language in languages]


def commands(block: Block) -> list[list[str]]:
    """The commands of a block as words, without comments and variables; a line that ends in a backslash goes on."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def script(guide: str, folder: Path) -> str:
    """A guide's commands as a script that stops at the first that fails; its named files are written to `folder`.

    A program in Python is run where it stands, or by the command that names it.
    """
    parts = ["set -euo pipefail"]
    texts = [block.text for block in blocks(guide, "bash")]
    for block in blocks(guide, "bash", "python", "toml"):
        name = block.name
        if block.language == "python":
            name = name or f"line{block.line}.py"
            if not any(name in text for text in texts):
                parts += [f"echo '@ {block}'", f"python {name}"]
        elif block.language == "bash" and name is None:
            parts += [f"echo '@ {block}'", block.text]
        if name is not None:
            (folder / name).write_text(block.text, encoding="utf-8")
    return "\n".join([*parts, ""])

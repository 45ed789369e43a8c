"""The pictures of the guides, drawn from a real run of the demo and a study of it: charts of reports, and terminals.

    python -m tests.support.gallery runs/demo/<run> runs/<study>

writes docs/images/*.svg, which need no font or style sheet of anywhere.
"""

from __future__ import annotations

import html
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
STYLE = (ROOT / "training" / "templates" / "report.css").read_text(encoding="utf-8")
COLORS = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", STYLE[: STYLE.index("@media")]))
"""Of the light theme."""
FONT = "DejaVu Sans, Segoe UI, Helvetica, Arial, sans-serif"
PAD, GAP, LINE = 12.0, 12.0, 14.0
SAID = "I am so happy that you came to see us!"
FIGURE = re.compile(r'<figure class="chart">.*?</figure>', re.DOTALL)


@dataclass(frozen=True)
class Drawing:
    """A drawing and its size in pixels."""

    width: float
    height: float
    body: str

    def at(self, x: float, y: float) -> str:
        """Place it."""
        return f'<g transform="translate({x:g} {y:g})">{self.body}</g>'

    def standalone(self, alt: str) -> str:
        """Make a file of it."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}" height="{self.height:g}" role="img" font-family="{FONT}">'
            f"<title>{html.escape(alt)}</title>{self.body}</svg>\n"
        )


def chart(page: str, section: str, title: str, name: str | None = None) -> Drawing:
    """Take a chart of a report with its title and legend, in the colours of the light theme.

    Args:
        page: HTML of a report.
        section: id of the section that it stands in.
        title: above it, as text.
        name: put in place of the title.
    """
    start = page.index(f'<section id="{section}">')
    figures = FIGURE.findall(page, start, page.find("</section>", start))
    [figure] = [each for each in figures if f"<h3>{html.escape(title)}</h3>" in each]
    found = re.search(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>(.*)</svg>', figure, re.DOTALL)
    assert found is not None
    width, height, body = float(found[1]), float(found[2]), found[3]
    head = [f'<text x="0" y="12" font-size="12.5" font-weight="bold" fill="{COLORS["ink"]}">{name or title}</text>']
    x, y = 0.0, 12.0 + LINE
    for kind, words in re.findall(r'<li><i class="([\w ]+)"></i>([^<]*)</li>', figure):
        step = 26 + 5.2 * len(html.unescape(words))
        if x and x + step > width:
            x, y = 0.0, y + LINE
        head.append(f'<g transform="translate({x:g} {y:g})">{_mark(kind)}<text x="14" font-size="9.5" '
                    f'fill="{COLORS["soft"]}">{words}</text></g>')  # fmt: skip
        x += step
    top = y + (6 if x else -6)
    body = re.sub(r"var\(--([\w-]+)\)", lambda color: COLORS[color[1]], body).replace("currentColor", COLORS["ink"])
    inner = f'{"".join(head)}<g transform="translate(0 {top:g})">{body}</g>'
    return _card(Drawing(width, top + height, inner))


def _mark(kind: str) -> str:
    """Draw the mark of a legend, left of its words."""
    if kind == "dot":
        return f'<circle cx="5" cy="-3" r="3.5" fill="{COLORS["c1"]}"/>'
    if kind == "diamond":
        return f'<path d="M 5 -7 L 9 -3 L 5 1 L 1 -3 z" fill="none" stroke="{COLORS["c2"]}"/>'
    if kind == "tick":
        return f'<path d="M 5 -8 V 2" stroke="{COLORS["ink"]}"/>'
    return f'<path d="M 0 -3 H 10" stroke="{COLORS[kind.split()[0]]}" stroke-width="3"/>'


def _card(inner: Drawing) -> Drawing:
    width, height = inner.width + 2 * PAD, inner.height + 2 * PAD
    back = f'<rect x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8" fill="{COLORS["card"]}" '
    return Drawing(width, height, f'{back}stroke="{COLORS["line"]}"/>{inner.at(PAD, PAD)}')


def terminal(lines: list[str], width: int = 100, size: float = 9.2) -> Drawing:
    """Draw what commands print; lines that begin with `$ ` are commands, and long ones go on under their text."""
    rows = []
    for line in lines:
        indent = " " * (max((found.end() for found in re.finditer(r"\S  +", line[:20])), default=0) or 2)
        rows += textwrap.wrap(line, width, subsequent_indent=indent, drop_whitespace=False) or [""]
    step, letter = size * 1.45, size * 0.602
    texts = []
    for number, row in enumerate(rows, start=1):
        words, x = row.strip(), (len(row) - len(row.lstrip())) * letter
        if not words:
            continue
        color = COLORS["head-soft"] if row.startswith("$ ") else COLORS["head-ink"]
        texts.append(
            f'<text x="{x:.1f}" y="{number * step:.1f}" fill="{color}" textLength="{len(words) * letter:.1f}" '
            f'lengthAdjust="spacingAndGlyphs">{html.escape(words)}</text>'
        )
    mono = f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{size:g}" xml:space="preserve">'
    inner = Drawing(width * letter, len(rows) * step + 4, mono + "".join(texts) + "</g>")
    outer = Drawing(inner.width + 2 * PAD, inner.height + 2 * PAD, "")
    back = f'<rect width="{outer.width:g}" height="{outer.height:g}" rx="8" fill="{COLORS["head"]}"/>'
    return Drawing(outer.width, outer.height, back + inner.at(PAD, PAD))


def stack(drawings: list[Drawing]) -> Drawing:
    """Put drawings of one width below each other."""
    y, body = 0.0, ""
    for each in drawings:
        body += each.at(0, y)
        y += each.height + GAP
    return Drawing(max(each.width for each in drawings), y - GAP, body)


def sheet(rows: list[list[Drawing]]) -> Drawing:
    """Lay drawings out in rows, each scaled to the width of the widest."""
    widths = [sum(each.width for each in row) + GAP * (len(row) - 1) for row in rows]
    width, y, body = max(widths), GAP, ""
    for row, own in zip(rows, widths, strict=True):
        scale, x = (width - GAP * (len(row) - 1)) / (own - GAP * (len(row) - 1)), GAP
        for each in row:
            body += f'<g transform="translate({x:g} {y:g}) scale({scale:.4f})">{each.body}</g>'
            x += each.width * scale + GAP
        y += max(each.height for each in row) * scale + GAP
    back = f'<rect width="{width + 2 * GAP:g}" height="{y:g}" rx="10" fill="{COLORS["page"]}"/>'
    return Drawing(width + 2 * GAP, y, back + body)


def printed(*arguments: str) -> list[str]:
    """Run `mmpsr` in the repository, and give the lines that it prints on stdout."""
    command = [str(Path(sys.executable).with_name("mmpsr")), *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


def main(run: Path, study: Path) -> None:
    """Draw all pictures."""
    report, studied = ((each / "report.html").read_text(encoding="utf-8") for each in (run, study))
    video = next((ROOT / "data" / "demo" / "fiv2" / "test-1").rglob("*.mp4"))
    said = printed("predict", str(run), str(video), "--text", SAID)
    warning, start = said[0].partition(":")[0], said.index(video.name)
    card = terminal([f'$ mmpsr predict RUN {video.name} --text "{SAID}"', f"{warning} ...", *said[start:]], width=112)
    pictures = {
        "figures": (chart(report, "figures", "meld emotion (zero-shot)"), "Figures of a corpus beside chance"),
        "learning": (chart(report, "training", "Dev figures of emotion"), "Dev figures by epoch"),
        "losses": (chart(report, "training", "Losses, supervised branch"), "Losses by epoch"),
        "calibration": (chart(report, "calibration", "bah ambivalence"), "Stated and observed shares"),
        "confusion": (chart(report, "confusion", "meld emotion (zero-shot)"), "Classes that are taken for others"),
        "conflict": (chart(report, "training", "Gradient conflict"), "Cosines of gradients of the tasks' losses"),
        "ranks": (chart(studied, "ranks", "Critical differences of mean ranks"), "Ranks with a critical difference"),
        "prediction": (card, "What mmpsr predict prints of a recording"),
    }
    figures = [("bah ambivalence", "Ambivalence on test clips"),
               ("meld emotion (zero-shot)", "Emotion of a corpus never trained on")]  # fmt: skip
    left = stack([chart(report, "figures", title, name) for title, name in figures])
    overview = sheet([[card], [left, chart(report, "training", "Dev figures of emotion", "Learning curves")]])
    for name, (drawing, alt) in {**pictures, "overview": (overview, "A prediction, figures, learning curves")}.items():
        (IMAGES / f"{name}.svg").write_text(drawing.standalone(alt), encoding="utf-8")
    print(f"{len(pictures) + 1} pictures in {IMAGES.relative_to(ROOT)}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

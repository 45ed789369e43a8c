"""Intervals with labels from annotation tools: tiers of ELAN's `.eaf` and of Praat's `.TextGrid`.

Both are texts that anyone may have written: no entity of an XML file is expanded, nothing refers to another file, and a
file has at most 64 MiB.

References:
    Wittenburg, Brugman, Russel, Klassmann and Sloetjes, ELAN: a professional framework for multimodality research,
    LREC 2006; EAF schema 3.0.
    Boersma and Weenink, Praat: doing phonetics by computer; its manual, "TextGrid file formats".
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from corpora.clips import CorpusError

__all__ = ["TIER_SUFFIXES", "Interval", "Tier", "read_tiers"]

TIER_SUFFIXES = (".eaf", ".textgrid")
"""Suffixes of the files that are read, lower case."""
LARGEST = 1 << 26
"""Bytes above which a file is not read."""

_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)!.*|(<\w+>)|(?<!\S)([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?!\S)')
"""What a text file of Praat consists of: quoted texts, flags and free-standing numbers; the rest is comment."""


class Interval(NamedTuple):
    """A labelled span, in seconds."""

    start: float
    end: float
    text: str


@dataclass
class Tier:
    """A tier of one file.

    Attributes:
        intervals: in the order of the file.
        faults: what could not be read, in words, by the name of the annotation.
        is_points: whether it has points in time instead of spans.
    """

    intervals: list[Interval] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    is_points: bool = False


def read_tiers(path: Path, shown: str) -> dict[str, Tier]:
    """Read all tiers of a file by name; its kind is told by the suffix.

    Args:
        path: `.eaf` or `.TextGrid`.
        shown: the file as messages name it.

    Raises:
        CorpusError: the file cannot be read, is too large, or is damaged; the place is named.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise CorpusError(f"{shown} has {path.stat().st_size:,} bytes; an annotation has at most {LARGEST:,}")
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{shown} cannot be read: {error.strerror}") from None
    if path.suffix.lower() == ".eaf":
        return _elan(data, shown)
    return _praat(_decoded(data, shown).replace("\r\n", "\n").replace("\r", "\n"), shown)


# --- ELAN


class _Annotation(NamedTuple):
    """One annotation: between two time slots, or of another annotation after an earlier one of the same parent."""

    slots: tuple[str, str] | None
    parent: str
    previous: str
    text: str


def _elan(data: bytes, shown: str) -> dict[str, Tier]:
    times, tiers = _elan_elements(data, shown)
    known = {name: annotation for members in tiers.values() for name, annotation in members.items()}
    spans: dict[str, tuple[float, float] | None] = {}
    parts: dict[str, tuple[int, int]] = {}
    for members in tiers.values():
        spans.update(_aligned(members, times))
        parts.update(_parts(members))

    def span_of(name: str) -> tuple[float, float] | None:
        chain: dict[str, None] = {}
        while name not in spans and name in known and name not in chain:
            chain[name] = None
            name = known[name].parent
        span = spans.get(name)
        for name in reversed(chain):
            if span is not None:
                position, count = parts[name]
                start, length = span[0], span[1] - span[0]
                span = start + length * position / count, start + length * (position + 1) / count
            spans[name] = span
        return span

    read = {}
    for tier, members in tiers.items():
        read[tier] = Tier()
        for name, annotation in members.items():
            span = span_of(name)
            if span is not None:
                read[tier].intervals.append(Interval(*span, annotation.text))
            elif annotation.slots:
                read[tier].faults[name] = "neither its time slots nor those around them have a time"
            else:
                read[tier].faults[name] = f"it refers to {annotation.parent!r}, which has no time"
    return read


def _elan_elements(data: bytes, shown: str) -> tuple[dict[str, float], dict[str, dict[str, _Annotation]]]:
    """Read seconds by time slot, and annotations by tier and id; slots without a time are left out."""
    from xml.parsers import expat

    times: dict[str, float] = {}
    tiers: dict[str, dict[str, _Annotation]] = {}
    inside: list[str] = []
    texts: list[str] = []
    opened: dict[str, str] = {}
    identities: set[str] = set()
    media: list[Mapping[str, str]] = []

    def fault(reason: str) -> CorpusError:
        return CorpusError(f"{shown}, line {parser.CurrentLineNumber}: {reason}")

    def start(name: str, given: dict[str, str]) -> None:
        if not inside and name != "ANNOTATION_DOCUMENT":
            raise fault(f"expected ELAN's <ANNOTATION_DOCUMENT>, found <{name[:40]}>")
        inside.append(name)
        if name == "HEADER" and given.get("TIME_UNITS", "milliseconds") != "milliseconds":
            raise fault(f"times in {given['TIME_UNITS']!r}; save the file with a newer ELAN, in milliseconds")
        if name == "MEDIA_DESCRIPTOR":
            media.append(given)
            if len(media) == 1 and given.get("TIME_ORIGIN", "0") not in ("", "0"):
                offset = given["TIME_ORIGIN"]
                raise fault(f"its times begin {offset} ms into the media; set the media's offset to 0 in ELAN")
        elif name == "TIME_SLOT" and given.get("TIME_VALUE", "") != "":
            try:
                times[given.get("TIME_SLOT_ID", "")] = int(given["TIME_VALUE"]) / 1000.0
            except ValueError:
                raise fault(f"TIME_VALUE {given['TIME_VALUE'][:40]!r} is no number of milliseconds") from None
        elif name == "TIER":
            opened["tier"] = given.get("TIER_ID", "")
            if opened["tier"] in tiers:
                raise fault(f"there are two tiers {opened['tier']!r}; rename one")
            tiers[opened["tier"]] = {}
        elif name in ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION"):
            opened.update(previous="", parent="", first="", last="")
            opened["id"] = given.get("ANNOTATION_ID", f"in line {parser.CurrentLineNumber}")
            opened["parent"], opened["previous"] = given.get("ANNOTATION_REF", ""), given.get("PREVIOUS_ANNOTATION", "")
            opened["first"], opened["last"] = given.get("TIME_SLOT_REF1", ""), given.get("TIME_SLOT_REF2", "")
            texts.clear()

    def characters(text: str) -> None:
        if inside[-1] == "ANNOTATION_VALUE":
            texts.append(text)

    def end(name: str) -> None:
        inside.pop()
        if name in ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION"):
            if "TIER" not in inside or opened["id"] in identities:
                raise fault(f"annotation {opened['id']!r} is in no tier, or occurs twice")
            identities.add(opened["id"])
            slots = (opened["first"], opened["last"]) if name.startswith("ALIGN") else None
            text = "".join(texts).strip()
            tiers[opened["tier"]][opened["id"]] = _Annotation(slots, opened["parent"], opened["previous"], text)

    def refuse(*_: object) -> None:
        raise fault("a document type, which can define entities, has no place in an annotation; it is not read")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise CorpusError(f"{shown}, line {error.lineno}: no XML ({expat.errors.messages[error.code]})") from None
    except (ValueError, LookupError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{shown}: no XML that can be read ({error})") from None
    return times, tiers


def _aligned(
    annotations: Mapping[str, _Annotation], times: Mapping[str, float]
) -> dict[str, tuple[float, float] | None]:
    """Give seconds to the annotations between time slots.

    Slots without a time lie in chains, where one annotation begins at the slot that ends another: those of a chain
    between two slots with times are spread evenly, as ELAN shows them. None where a chain has no time on both sides.
    """
    following = {annotation.slots[0]: annotation.slots[1] for annotation in annotations.values() if annotation.slots}
    begun = set(following.values())
    seconds = dict(times)
    for first in [slot for slot in following if slot not in begun or slot in times]:
        chain = [first]
        while chain[-1] in following and len(chain) <= len(following):
            chain.append(following[chain[-1]])
            if chain[-1] in times:
                break
        if chain[0] in times and chain[-1] in times and len(chain) > 2:
            spread = np.linspace(times[chain[0]], times[chain[-1]], len(chain))
            seconds.update({slot: float(time) for slot, time in zip(chain[1:-1], spread[1:-1], strict=True)})
    spans: dict[str, tuple[float, float] | None] = {}
    for name, annotation in annotations.items():
        if annotation.slots:
            start, end = (seconds.get(slot) for slot in annotation.slots)
            spans[name] = None if start is None or end is None else (start, end)
    return spans


def _parts(annotations: Mapping[str, _Annotation]) -> dict[str, tuple[int, int]]:
    """Place annotations that refer to one parent: which part of it each is, counted from 0, and of how many."""
    children: dict[str, list[str]] = {}
    for name, annotation in annotations.items():
        if annotation.slots is None:
            children.setdefault(annotation.parent, []).append(name)
    places = {}
    for names in children.values():
        after = {annotations[name].previous: name for name in reversed(names)}
        order: list[str] = []
        while (following := after.get(order[-1] if order else "")) is not None and following not in order:
            order.append(following)
        order += [name for name in names if name not in order]
        places.update({name: (position, len(order)) for position, name in enumerate(order)})
    return places


# --- Praat


def _decoded(data: bytes, shown: str) -> str:
    """Decode UTF-8, or UTF-16 with its byte order mark, as Praat writes them."""
    if data.startswith(b"ooBinaryFile"):
        raise CorpusError(f"{shown} is a binary file of Praat; save it there as text")
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{shown} is neither UTF-8 nor UTF-16 at byte {error.start}; save it in Praat as UTF-8"
        ) from None


def _praat(text: str, shown: str) -> dict[str, Tier]:
    """Read a long or short TextGrid, which are the same texts, flags and numbers with and without comments."""
    tokens = _Tokens(text, shown)
    if tokens.text("kind of file")[:10] != "ooTextFile" or tokens.text("class")[:8] != "TextGrid":
        raise CorpusError(f"{shown} is no TextGrid: it begins {text[:40]!r}")
    tokens.number("xmin")
    tokens.number("xmax")
    tiers: dict[str, Tier] = {}
    if tokens.flag() != "<exists>":
        return tiers
    for position in range(1, tokens.count("number of tiers") + 1):
        kind, name = tokens.text(f"class of tier {position}"), tokens.text(f"name of tier {position}")
        if kind not in ("IntervalTier", "TextTier"):
            raise tokens.fault(f"tier {name!r} is of class {kind!r}; known are IntervalTier and TextTier")
        if name in tiers:
            raise tokens.fault(f"there are two tiers {name!r}; rename one")
        tiers[name] = tier = Tier(is_points=kind == "TextTier")
        tokens.number("xmin")
        tokens.number("xmax")
        for interval in range(1, tokens.count(f"number of intervals of tier {name!r}") + 1):
            what = f"interval {interval} of tier {name!r}"
            start = tokens.number(f"start of {what}")
            end = start if tier.is_points else tokens.number(f"end of {what}")
            tier.intervals.append(Interval(start, end, tokens.text(f"text of {what}").strip()))
    return tiers


class _Tokens:
    """Texts, flags and numbers of a file, one after the other."""

    def __init__(self, text: str, shown: str) -> None:
        self.shown, self._text, self._at = shown, text, 0
        self._matches: Iterator[re.Match[str]] = (match for match in _TOKEN.finditer(text) if match.lastindex)

    def fault(self, reason: str) -> CorpusError:
        """Make the error of the place that was read last."""
        line = self._text.count("\n", 0, self._at) + 1
        return CorpusError(f"{self.shown}, line {line}: {reason}")

    def text(self, what: str) -> str:
        """Read a quoted text."""
        return self._next(1, f"expected the {what} in quotation marks").replace('""', '"')

    def flag(self) -> str:
        """Read a flag such as `<exists>`."""
        return self._next(2, "expected <exists> or <absent>")

    def number(self, what: str) -> float:
        """Read a finite number."""
        value = float(self._next(3, f"expected a number, the {what}"))
        if not math.isfinite(value):
            raise self.fault(f"the {what} is no finite number")
        return value

    def count(self, what: str) -> int:
        """Read how many follow."""
        value = self.number(what)
        if value < 0 or not value.is_integer():
            raise self.fault(f"{value:g} cannot be the {what}")
        return int(value)

    def _next(self, kind: int, expected: str) -> str:
        match = next(self._matches, None)
        if match is None:
            self._at = len(self._text)
            raise self.fault(f"{expected}, found the end of the file")
        self._at = match.start()
        if match.lastindex != kind:
            raise self.fault(f"{expected}, found {match[0][:40]!r}")
        return match[kind]

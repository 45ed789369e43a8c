"""The annotation of BAH: what it says about each video, without parsing its frames where they are not needed.

Nine tenths of the annotation are one entry per frame. It is cut at its videos, and their frames are left out by their
indentation, or read by their pattern; only a file that is not laid out so is parsed as a whole.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterable, Iterator
from typing import Any, NamedTuple

from corpora.bah.files import BahFiles, read_bytes, video_key
from corpora.clips import CorpusError, Defects
from corpora.reading.untrusted import ForbiddenTagError, load_yaml, read_yaml

__all__ = ["Facts", "read_annotated_frames", "read_annotations", "read_transcripts"]

FRAMES = "frame_annotation"

_FRAME = re.compile(rb"frame-(\d+)\.jpg['\"]?\r?\n +- ([01])\r?\n")
_TOP_LEVEL = re.compile(rb"\n(?=[^\s#])")


class Facts(NamedTuple):
    """What a file says about a video."""

    file: str
    said: dict[str, Any]


def read_transcripts(files: BahFiles, keys: Iterable[str], defects: Defects) -> dict[str, Facts]:
    """Transcripts of the videos `keys`; a damaged one is a defect.

    Raises:
        ForbiddenTagError: a transcript holds a tag other than a tuple.
    """
    found = {}
    for key in dict.fromkeys(keys):
        if key not in files.transcripts:
            continue
        shown = files.tree.shown(files.transcripts[key])
        try:
            said = read_yaml(files.tree.path(files.transcripts[key]), shown)
            if not isinstance(said, dict):
                raise CorpusError(f"{shown}: expected a mapping with text and chunks")
            found[key] = Facts(shown, said)
        except ForbiddenTagError:
            raise
        except CorpusError as error:
            reason = str(error).removeprefix(shown).lstrip(":, ")
            defects.add("unusable_row", shown, f"{reason}; this transcript is not used")
    return found


def read_annotations(files: BahFiles, defects: Defects) -> dict[str, Facts]:
    """Annotation by key, without its frames.

    Raises:
        CorpusError: an annotation is damaged or no mapping of videos.
    """
    found: dict[str, Facts] = {}
    for file in files.annotations:
        shown = files.tree.shown(file)
        for path, said in _entries(read_bytes(files.tree, file), shown):
            key = video_key(str(path))
            if not isinstance(said, dict):
                defects.add("unusable_row", f"{shown}, {path!r}", "expected a mapping; this annotation is not used")
                continue
            said.pop(FRAMES, None)
            if found.setdefault(key, Facts(shown, said)).said != said:
                reason = f"{found[key].file} annotates this video otherwise, and is used"
                defects.add("disagreement", f"{shown}, {path!r}", reason)
    return found


def read_annotated_frames(
    files: BahFiles, keys: Container[str], defects: Defects
) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """File, key, and numbers and labels of the annotated frames, of each video among `keys`.

    Raises:
        CorpusError: an annotation is damaged.
    """
    seen: set[str] = set()
    for file in files.annotations:
        shown, data = files.tree.shown(file), read_bytes(files.tree, file)
        blocks = _blocks(data)
        for line, block in blocks or [(1, data)]:
            section = block[slice(*_frame_section(block))] if blocks else b""
            found = [(number.decode(), label.decode()) for number, label in _FRAME.findall(section)]
            if found and len(found) == section.count(b"- - "):
                said: dict[object, object] = {
                    path: None for path in _mapping(load_yaml(block[: block.find(b"\n")], shown, line), shown)
                }
            else:
                said = _mapping(load_yaml(block, shown, line), shown)
            for path, facts in said.items():
                key, place = video_key(str(path)), f"{shown}, {path!r}"
                if key in keys and key not in seen:
                    seen.add(key)
                    yield place, key, found if facts is None else _frame_pairs(facts, place, defects)


def _frame_pairs(facts: object, place: str, defects: Defects) -> list[tuple[str, str]]:
    """Numbers and labels of `frame_annotation: [[path, label], ...]`."""
    frames = (facts.get(FRAMES) if isinstance(facts, dict) else None) or []
    pairs = []
    for frame in frames if isinstance(frames, list) else [frames]:
        number = re.fullmatch(r".*frame-(\d+)\.jpg", str(frame[0])) if isinstance(frame, list) and frame else None
        if number is None or len(frame) != 2:
            defects.add("unusable_row", f"{place}, {FRAMES}", "an entry is no [.../frame-N.jpg, label]; it is not used")
        else:
            pairs.append((number[1], str(frame[1])))
    return pairs


def _entries(data: bytes, file: str) -> Iterator[tuple[object, object]]:
    """Videos of an annotation, block by block and without their frames where the layout allows it."""
    for line, block in _blocks(data) or [(1, data)]:
        start, end = _frame_section(block)
        if b"!" in block[start:end]:  # a tag, which has to be seen
            start = end
        blank = b"\n" * block.count(b"\n", start, end)
        try:
            said = load_yaml(block[:start] + blank + block[end:], file, line)
        except CorpusError:
            if b"*" not in block or block is data:
                raise
            yield from _mapping(load_yaml(data, file), file).items()  # an alias that refers to another block
            return
        yield from _mapping(said, file).items()


def _mapping(said: object, file: str) -> dict[object, object]:
    if not isinstance(said, dict):
        raise CorpusError(f"{file}: expected a mapping of videos, found {type(said).__name__}")
    return said


def _blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Cut a YAML mapping at its top-level keys, each with its line; [] where it is not laid out in blocks."""
    starts = [0, *(match.end() for match in _TOP_LEVEL.finditer(data)), len(data)]
    blocks, line = [], 1
    for start, end in itertools.pairwise(starts):
        block = data[start:end]
        blocks.append((line, block))
        line += block.count(b"\n")
    in_blocks = all(block[: block.find(b"\n")].rstrip().endswith(b":") for _, block in blocks)
    return blocks if in_blocks else []


def _frame_section(block: bytes) -> tuple[int, int]:
    """Where the lines of `frame_annotation` begin and end; (0, 0) where there are none."""
    indentation = re.match(rb"[^\n]*\n( +)", block)
    if indentation is None:
        return 0, 0
    start = block.find(b"\n%s%s:" % (indentation[1], FRAMES.encode()))
    if start < 0:
        return 0, 0
    lines = re.compile(rb"[^\n]*\n(?:%s[- ][^\n]*(?:\n|$)|[ \r]*\n)*" % indentation[1])
    match = lines.match(block, start + 1)
    return (start + 1, match.end()) if match else (0, 0)

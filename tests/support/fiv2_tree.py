"""A small look-alike of First Impressions V2 with every quirk of the published tree; ids and words are invented."""

from __future__ import annotations

from pathlib import Path

from corpora.clips import Split
from corpora.demo.layouts import FirstImpressionsClip, fiv2_path, write_fiv2

TRAITS = ("extraversion", "neuroticism", "agreeableness", "conscientiousness", "interview", "openness")
_LINES: tuple[tuple[Split, int, str, float, str, int, int], ...] = (
    ("train", 1, "-aB3_dots.in.it.000", 0.125, "Hello, so this is my boat.", 2, 1),
    ("train", 1, "-aB3_dots.in.it.005", 0.25, "And that is where it sank.", 2, 1),
    ("train", 2, "_Qw7rT-yUi0.001", 0.375, "Café first, then — work.", 1, 2),
    ("train", 14, "xYz12345678.000", 0.0, "Nothing here costs a thing.", 3, 2),
    ("train", 75, "xYz12345678.004", 0.5, "A list; with semicolons, too.", 3, 2),
    ("dev", 1, "-aB3_dots.in.it.003", 0.375, "The oars are somewhere.", 2, 1),
    ("dev", 25, "kLm_opQrSt9.002", 0.25, "You will need a spoon.", 2, 2),
    ("test", 1, "xYz12345678.001", 0.125, "Right, that was it.", 3, 2),
    ("test", 3, "-__-aaaaaaa.000", 0.5, "", 1, 1),
)
CLIPS = [
    # scores are six steps of 1/16 from the one given, in the order of TRAITS
    FirstImpressionsClip(
        split, clip, {trait: score + step / 16 for step, trait in enumerate(TRAITS)}, text, ethnicity, gender, part
    )
    for split, part, clip, score, text, ethnicity, gender in _LINES
]


def build(folder: Path) -> None:
    """Write the tree below `folder`; all media are empty files."""
    write_fiv2(folder, CLIPS)
    for clip in CLIPS:
        path = folder / fiv2_path(clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.with_name(f"._{path.name}").touch()
    junk = folder / "__MACOSX" / "train-1"
    junk.mkdir(parents=True)
    (junk / f"{CLIPS[0].clip_id}.mp4").touch()
    (junk / "annotation_training.pkl").write_bytes(b"\x00\x05\x16\x07")

"""Look-alikes of BAH: a whole one in each release's layout, and one with everything that can be wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from corpora.bah.layout import BahVideo, media_path, write_bah

CUES = (
    {"audio": "a long pause", "body": None, "facial": "frowns", "inconsistencies": None, "language": "but then"},
    {"audio": None, "body": "shrugs", "facial": None, "inconsistencies": "smile, sad words", "language": None},
)
PLAIN = BahVideo(
    "90001", 1, "train", 0, "Well, I walk, and I rest.", "2024-03-01_10-00-00", num_frames=6, frame_rate=4.0,
    chunks=[("english", " Well, I walk,", 0.0, 1.0), ("english", " and I rest.", 1.0, 1.5)],
)  # fmt: skip
MARKED = BahVideo(
    "90001", 4, "train", 1, '"Maybe," he said, "or not."', "2024-03-01 10-05-00", "-DESKTOP-1A2B3C4",
    chunks=[("english", ' "Maybe,"', 0.0, 2.0), ("english", " he said,", 2.0, 3.5), ("en", ' "or not."', 0.0, None)],
    segments=[(1.0, 2.5), (4.0, 5.25)], cues=CUES, num_frames=24, frame_rate=4.0, annotator="CD", certainty=[1, 2],
)  # fmt: skip
FRENCH = BahVideo(
    "90002", 2, "dev", 1, "Peut-être demain, à midi. Okay.", "2024-03-02 11-00-00",
    chunks=[("french", " Peut-être demain, à midi.", 0.0, 2.0), ("english", " Okay.", 2.0, 2.5)],
    segments=[(0.0, 1.5)], cues=CUES[:1], num_frames=12, frame_rate=4.0,
)  # fmt: skip
TESTED = replace(MARKED, participant="90003", question=7, split="test", host="", recorded="2024-03-03_09-00-00")
QUIET = replace(PLAIN, participant="90003", question=5, split="test", recorded="2024-03-03 09-05-00")
PRIVATE = replace(PLAIN, participant="90004", question=3, split="test_private", recorded="2024-03-04_08-00-00")
OTHERS = tuple(
    replace(
        (PLAIN, MARKED)[question % 2],
        participant=participant,
        question=question,
        recorded=f"2024-04-0{question} 12-00-00",
    )
    for participant in ("90005", "90006")
    for question in range(1, 8)
)
VIDEOS = (PLAIN, MARKED, *OTHERS, FRENCH, TESTED, QUIET, PRIVATE)


def faces_path(video: BahVideo, release: Literal["2026", "2025"] = "2026") -> PurePosixPath:
    """Where the folder of the video's face pictures, `frame-0.jpg` and so on, lies below the corpus' folder."""
    return PurePosixPath("cropped-aligned-faces", media_path(video, release))


def metadata(consent: object = "Yes") -> dict[str, object]:
    """What the corpus says of a participant."""
    return {
        "Age": 44, "Age range": "35 - 44 years", "Birth country": "Canada", "Canada province": "Ontario (ON)",
        "Ethnicity": "Invented, or other", "Ethnicity simplified": "Other", "Gender": "Female", "Is student": "No",
        "Use in challenges": "Yes", "Use in publications": consent,
    }  # fmt: skip


PARTICIPANTS = {
    number: metadata("No" if number == "90002" else "Yes") for number in sorted({video.participant for video in VIDEOS})
}


def clean(root: Path, release: Literal["2026", "2025"] = "2026") -> Path:
    """Write `bah/data/` below `root` with nothing wrong in it, as it is unpacked, and return it."""
    folder = root / "bah" / "data"
    write_bah(folder, VIDEOS, PARTICIPANTS, release)
    for video in VIDEOS:
        touch(folder / media_path(video, release))
        touch(folder / faces_path(video, release) / "frame-0.jpg")
    touch(root / "bah" / "__MACOSX" / "data" / "split" / "._train.txt")
    touch(folder / "split" / "._test.txt")
    return folder


def build(root: Path) -> None:
    """Write the 2026 tree with everything in it that is noted."""
    folder = clean(root)
    first, second, third, fourth, fifth, *_ = OTHERS
    change(folder / "split/train.txt", f"{media_path(first)},1,{first.text}", f"{media_path(first)},1, ")
    change(folder / "split/train.txt", f"{media_path(second)},0,", f"{media_path(second)},maybe,")
    change(folder / "split/train.txt", f"{media_path(third)},1,{third.text}", f"{media_path(third)},1,Said otherwise.")
    change(folder / "split/train.txt", f"{media_path(fourth)},0,", f"{media_path(fourth)},1,")
    with (folder / "split/train.txt").open("a", encoding="utf-8") as lines:
        lines.write("Videos/90009/Visite_1/holiday.mp4,0,\n\n")
        lines.write("Videos/90009/Visite_1/90009_Question_1_2024-05-01_10-00-00_Video.mp4\n")
        lines.write(f"{media_path(fifth)},{fifth.label},{fifth.text}\n")
    touch(folder / "split/readme.txt")
    transcript = folder / "transcription" / media_path(PLAIN) / f"{media_path(PLAIN).stem}.yml"
    transcript.write_text("text: [", encoding="utf-8")
    (folder / media_path(FRENCH)).unlink()
    touch(folder / "Videos/90009/Visite_1/90009_Question_2_2024-05-01_10-00-00_Video.mp4")
    touch(folder / "Archive" / media_path(PLAIN).relative_to("Videos"))
    change(folder / "meta_data.yml", "Use in publications: 'No'", "Use in publications: ask again")
    change(folder / "meta_data.yml", "'90003':", "'90033':")


def change(file: Path, old: str, new: str) -> None:
    """Replace the one place where `old` stands in a file."""
    text = file.read_bytes().decode("utf-8")
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {file.name}"
    file.write_bytes(text.replace(old, new).encode("utf-8"))


def touch(file: Path) -> None:
    """An empty file, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()

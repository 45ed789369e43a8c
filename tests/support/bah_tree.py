"""Look-alikes of BAH: a whole one in each release's layout, and one with everything that can be wrong."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

import yaml

from corpora.demo.layouts import BahVideo, bah_path, write_bah
from corpora.reading.untrusted import read_yaml

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


def path_2025(video: BahVideo) -> PurePosixPath:
    """Where the video's file lies in the release of 2025."""
    return PurePosixPath(video.participant, "Visite 1", bah_path(video).name)


def faces_path(path: PurePosixPath) -> PurePosixPath:
    """Where the folder of face pictures, `frame-0.jpg` and so on, of the video at `path` lies."""
    return PurePosixPath("cropped-aligned-faces", path)


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
    write_bah(folder, VIDEOS, PARTICIPANTS)
    if release == "2025":
        _as_2025(folder)
    for video in VIDEOS:
        path = path_2025(video) if release == "2025" else bah_path(video)
        touch(folder / path)
        touch(folder / faces_path(path) / "frame-0.jpg")
    touch(root / "bah" / "__MACOSX" / "data" / "split" / "._train.txt")
    touch(folder / "split" / "._test.txt")
    return folder


def _as_2025(folder: Path) -> None:
    """Leave the lists and four facts of the annotation, with the folders of the release of 2025."""

    def renamed(text: str) -> str:
        return re.sub(r"Videos/([0-9]+)/Visite_1/", r"\1/Visite 1/", text)

    for file in (*(folder / "split").iterdir(), *(folder / "split-frames").iterdir()):
        file.write_text(renamed(file.read_text(encoding="utf-8")), encoding="utf-8")
    path = folder / "video_annotation_transcript.yaml"
    facts = ("fr_detailed_ah", "frame_annotation", "global_ah", "time_detailed_ah")
    said = {key: {name: video[name] for name in facts} for key, video in read_yaml(path, path.name).items()}
    content = yaml.dump(json.loads(renamed(json.dumps(said))), Dumper=yaml.CDumper, default_flow_style=False)
    (folder / "annotation.yml").write_text(content, encoding="utf-8")
    for file in (path, folder / "meta_data.yml", folder / "bah-video.csv"):
        file.unlink()
    shutil.rmtree(folder / "transcription")


def build(root: Path) -> None:
    """Write the 2026 tree with everything in it that is noted."""
    folder = clean(root)
    first, second, third, fourth, fifth, *_ = OTHERS
    change(folder / "split/train.txt", f"{bah_path(first)},1,{first.text}", f"{bah_path(first)},1, ")
    change(folder / "split/train.txt", f"{bah_path(second)},0,", f"{bah_path(second)},maybe,")
    change(folder / "split/train.txt", f"{bah_path(third)},1,{third.text}", f"{bah_path(third)},1,Said otherwise.")
    change(folder / "split/train.txt", f"{bah_path(fourth)},0,", f"{bah_path(fourth)},1,")
    with (folder / "split/train.txt").open("a", encoding="utf-8") as lines:
        lines.write("Videos/90009/Visite_1/holiday.mp4,0,\n\n")
        lines.write("Videos/90009/Visite_1/90009_Question_1_2024-05-01_10-00-00_Video.mp4\n")
        lines.write(f"{bah_path(fifth)},{fifth.label},{fifth.text}\n")
    touch(folder / "split/readme.txt")
    transcript = folder / "transcription" / bah_path(PLAIN) / f"{bah_path(PLAIN).stem}.yml"
    transcript.write_text("text: [", encoding="utf-8")
    (folder / bah_path(FRENCH)).unlink()
    touch(folder / "Videos/90009/Visite_1/90009_Question_2_2024-05-01_10-00-00_Video.mp4")
    touch(folder / "Archive" / bah_path(PLAIN).relative_to("Videos"))
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

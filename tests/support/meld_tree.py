"""A small look-alike of MELD with every quirk of the published tree; names and words are invented."""

from __future__ import annotations

from pathlib import Path

from corpora.clips import Split
from corpora.demo.layouts import MeldUtterance, meld_path, write_meld

_LINES: tuple[tuple[Split, int, int, str, str, str, str, float, float], ...] = (
    ("train", 0, 0, "Mara", "Is that, um, “soup”?", "surprise", "negative", 10.0, 12.5),
    ("train", 0, 1, "Otto", "It’s stew.", "neutral", "neutral", 12.6, 13.0),
    ("train", 0, 2, "Mara", "Lovely!", "joy", "positive", 13.25, 14.0),
    ("train", 12, 0, "Otto", "I could go on all day, and I will.", "anger", "negative", 3700.5, 3741.54),  # 41.04 s
    ("train", 125, 0, "Ivo", "Who took the ladder?", "neutral", "neutral", 60.0, 61.5),
    ("train", 125, 3, "Zoë", "It broke.", "sadness", "negative", 62.0, 63.0),  # its file is unreadable
    ("dev", 0, 0, "Zoë", "There’s a rat…", "fear", "negative", 20.0, 21.25),
    ("dev", 0, 1, "Ivo", "Ugh, in my hat.", "disgust", "negative", 21.5, 22.5),
    ("dev", 110, 6, "Mara", "Right.", "neutral", "neutral", 30.0, 30.5),
    ("dev", 110, 7, "All", "Cheers!", "joy", "positive", 31.0, 32.0),  # has no file
    ("test", 0, 0, "Otto", "Hm.", "neutral", "neutral", 5.0, 5.125),
    ("test", 0, 1, "Otto", "No, nothing.", "sadness", "negative", 6.0, 240.999),  # 235 s
    ("test", 38, 4, "Ivo", "Wait for it.", "surprise", "positive", 100.0, 404.9),  # 304.9 s
    ("test", 155, 3, "Mara", "Gone.", "sadness", "negative", 50.0, 50.0),
    ("test", 220, 0, "Zoë", "Yes and no.", "anger", "negative", 70.0, 71.0),
)  # fmt: skip
FINAL = ((38, 4), (155, 3), (220, 0), (230, 9))
"""Dialogue and utterance of the extra test clips; the last is annotated nowhere."""


def build(folder: Path) -> None:
    """Write the tree below `folder`; all media are empty files."""
    utterances = [
        MeldUtterance(split, dialogue, utterance, text, speaker, emotion, sentiment, start, end, season=2, episode=7)
        for split, dialogue, utterance, speaker, text, emotion, sentiment, start, end in _LINES
    ]
    write_meld(folder, utterances)
    media = [meld_path(said.split, said.dialogue, said.utterance) for said in utterances]
    media.remove(meld_path("dev", 110, 7))
    media += [meld_path("test", *clip).with_name("final_videos_testdia{}_utt{}.mp4".format(*clip)) for clip in FINAL]
    for path in media:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).touch()
        (folder / path).with_name(f"._{path.name}").touch()
    raw = folder / "MELD.Raw"
    (raw / "train").mkdir()
    (raw / "train_sent_emo.csv").rename(raw / "train" / "train_sent_emo.csv")
    older = (raw / "dev_sent_emo.csv").read_text(encoding="utf-8").replace("’", "\x92").replace("…", "\x85")
    (raw / "dev_sent_emo.csv").write_text(older, encoding="utf-8", newline="\r\n")
    (raw / "._test_sent_emo.csv").write_bytes(b"\x00\x05\x16\x07")
    (raw / "test_sent_emo_dya.csv").write_text("Sr No.\n", encoding="utf-8")
    (raw / "README.txt").touch()

"""The demo's corpus in time: labels at the seconds of the script, cues that are there, files that stay the same."""

from __future__ import annotations

import hashlib
import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.clips import ClipTable, CorpusError
from corpora.demo import build, frames
from corpora.demo.clip import plan
from corpora.demo.face import CUES, FPS
from corpora.demo.frames import FOLDER, VIDEOS_EACH, FrameVideo, build_demo_frames, plan_frames
from corpora.demo.script import person
from corpora.demo.spells import FILLERS, face_of, scene, sound_of
from corpora.demo.voice import SAMPLE_RATE
from corpora.reading.untrusted import read_yaml
from corpora.registry import CorporaConfig, generated_corpora, prepare, read_corpora
from mmpsr.tasks import BUILTIN_TASKS
from tests.corpora.demo.test_build import decode

SMALL = {"train": 1, "dev": 1, "test": 1}
SHORT = (5.0, 6.0)


def build_annotation(root: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Path:
    """Write everything but the media, which need seconds."""
    monkeypatch.setattr(frames, "run_all", lambda *_: None)
    build_demo_frames(root, **settings)
    return root / FOLDER


def read(root: Path, **settings: Any) -> ClipTable:
    source = {"adapter": "bah", "path": FOLDER, "timelines": True, **settings}
    config = CorporaConfig.model_validate({"root": str(root), "build": "demo-frames", "sources": {FOLDER: source}})
    return read_corpora(config, BUILTIN_TASKS)


def timed(video: FrameVideo, table: ClipTable, length: int | None = None) -> list[int]:
    timeline = table.timelines[FOLDER, video.media.stem]["ambivalence"]
    return timeline.labels(video.script()[1].num_frames if length is None else length, Fraction(FPS)).tolist()


# --- the script


def test_enough_people_and_about_half_of_their_videos_have_a_spell() -> None:
    videos = plan_frames()
    people = pd.DataFrame([(video.split, video.number) for video in videos], columns=["split", "number"])
    assert people.groupby("split")["number"].nunique().to_dict() == {"dev": 4, "test": 6, "train": 12}
    assert people.groupby("number").size().eq(VIDEOS_EACH).all()
    scripts = [video.script()[1] for video in videos]
    present = np.array([bool(script.spells) for script in scripts]).reshape(-1, VIDEOS_EACH)
    assert set(present.sum(axis=1)) == {2, 3}
    assert 0.40 <= present.mean() <= 0.50
    labels = np.concatenate([script.labels() for script in scripts])
    assert 0.10 <= labels.mean() <= 0.20
    for script in scripts:
        assert 8.0 <= script.seconds <= 10.0
        assert len(script.spells) <= 2
        for first, last in script.spells:
            assert 1.0 - 1.5 / FPS <= (last + 1 - first) / FPS <= 3.0 + 1.5 / FPS
            assert 0.5 * FPS <= first < last < script.num_frames - 0.3 * FPS
        assert script.labels().sum() == sum(last + 1 - first for first, last in script.spells)


def test_each_cue_comes_alone_outside_spells_too_and_never_near_one() -> None:
    scripts = [video.script()[1] for video in plan_frames()]
    kinds = [modality for script in scripts for modality, *_ in script.alone]
    assert {modality: kinds.count(modality) > 60 for modality in set(kinds)} == {
        "face": True, "voice": True, "words": True
    }  # fmt: skip
    for script in scripts:
        times = [(first / FPS, (last + 1) / FPS) for first, last in script.spells]
        times += [(start, end) for _, start, end in script.alone]
        times.sort()
        assert all(end + 0.3 < start for (_, end), (start, _) in itertools.pairwise(times))
    alone = [script for script in scripts if not script.spells]
    assert any(chunk.is_filler for script in alone for chunk in script.chunks), "a filler alone is no spell"
    assert max(script.cues["lip_press"].max() for script in alone) > 0.6
    assert min(script.loudness.min() for script in alone) < -4.0


def test_fillers_stand_at_the_seconds_of_the_spells() -> None:
    inside, outside, seconds_inside, seconds = 0, 0, 0.0, 0.0
    for script in (video.script()[1] for video in plan_frames()):
        for chunk in script.chunks:
            assert 0.0 <= chunk.start < chunk.end <= script.seconds + 1e-3
            if chunk.is_filler:
                at = int((chunk.start + chunk.end) / 2.0 * FPS)
                in_spell = any(first <= at <= last + 1 for first, last in script.spells)
                inside, outside = inside + in_spell, outside + (not in_spell)
        starts = [chunk.start for chunk in script.chunks]
        ends = [chunk.end for chunk in script.chunks]
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False)), "one after the other"
        assert script.text == " ".join(chunk.text for chunk in script.chunks)
        seconds_inside += script.labels().sum() / FPS
        seconds += script.seconds
    assert inside / seconds_inside > 5.0 * outside / (seconds - seconds_inside) > 0.0
    assert set(FILLERS) >= {"um", "well"}


@pytest.mark.slow
def test_face_and_voice_change_in_a_spell_by_what_the_script_says() -> None:
    """Lips, brows and gaze of the drawn face in spells and outside, and the sound's loudness in every frame."""
    shown: dict[str, list[float]] = {"lip_press": [], "brow": [], "gaze_x": []}
    decibels, written, air, breath = [], [], [], []
    for seed in range(3):
        who = person(np.random.default_rng(seed))
        script = scene(who, True, (5.0, 5.5), np.random.default_rng([seed, 1]))
        rng = np.random.default_rng([seed, 2])
        sound, envelope = sound_of(script, who, rng)
        assert len(sound) == len(envelope) == round(script.seconds * SAMPLE_RATE)
        assert np.abs(sound).max() <= 1.0
        at = (np.arange(script.num_frames) / FPS * SAMPLE_RATE).astype(int)
        cues, head = face_of(script, who, envelope[at], rng)
        assert cues.shape == (script.num_frames, len(CUES))
        assert head.shape == (script.num_frames, 3)
        inside = script.labels().astype(bool)
        curves = {name: np.abs(cues[:, CUES.index(name)]) for name in ("lip_press", "gaze_x")}
        curves["brow"] = cues[:, CUES.index("brow_raise")] + cues[:, CUES.index("brow_lower")]
        for name, curve in curves.items():
            shown[name].append(float(curve[inside].mean() - curve[~inside].mean()))
        for frame, first in enumerate(at):
            part, voice = sound[first : first + 400], envelope[first : first + 400]
            if voice.min() > 0.7:
                decibels.append(20.0 * np.log10(part.std()) - who.loudness)
                written.append(script.loudness[frame])
            elif voice.max() == 0.0:
                air.append(float(np.diff(part).std()))
                breath.append(script.breath[frame])
    means = {name: float(np.mean(values)) for name, values in shown.items()}
    assert means["lip_press"] > 0.3
    assert means["brow"] > 0.4
    assert means["gaze_x"] > 0.3
    assert min(written) < -5.0
    assert np.polyfit(written, decibels, 1)[0] == pytest.approx(1.0, abs=0.35), "a decibel of the script is one heard"
    assert np.corrcoef(breath, air)[0, 1] > 0.9, "pauses are breathed through"


def test_the_same_seed_gives_the_same_script_and_another_another() -> None:
    first, again, other = (FrameVideo("train", 3, 1, seed).script()[1] for seed in (0, 0, 1))
    assert first.text == again.text
    assert first.spells == again.spells
    np.testing.assert_array_equal(first.loudness, again.loudness)
    assert other.text != first.text


@pytest.mark.slow
def test_context_and_modalities_help() -> None:
    """A linear model of what is shown, voiced and said, on test participants: average precision in frames."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score

    def signals(video: FrameVideo) -> dict[str, np.ndarray]:
        script = video.script()[1]
        noise = np.random.default_rng([video.participant, video.position])
        time = np.arange(script.num_frames) / FPS
        said = [(time >= chunk.start) & (time < chunk.end) & chunk.is_filler for chunk in script.chunks]
        parts = {
            "face": np.stack([np.abs(curve) for curve in script.cues.values()], axis=1),
            "voice": np.stack([script.loudness / 8.0, script.tremor, script.breath], axis=1),
            "words": np.any(said, axis=0)[:, None].astype(float),
        }
        return {name: part + noise.normal(0.0, 0.15, part.shape) for name, part in parts.items()}

    def averaged(values: np.ndarray, width: int) -> np.ndarray:
        kernel = np.ones(2 * width + 1) / (2 * width + 1)
        return np.stack([np.convolve(column, kernel, "same") for column in values.T], axis=1)

    videos = {split: [video for video in plan_frames() if video.split == split] for split in ("train", "test")}
    labels = {split: np.concatenate([video.script()[1].labels() for video in own]) for split, own in videos.items()}
    signals_of = {split: [signals(video) for video in own] for split, own in videos.items()}
    figures = {}
    for modalities in (("face",), ("face", "voice", "words")):
        for width in (0, 9):
            inputs = {
                split: np.concatenate([
                    np.concatenate([np.hstack([own[name], averaged(own[name], width)]) for name in modalities], axis=1)
                    for own in every
                ])
                for split, every in signals_of.items()
            }  # fmt: skip
            model = LogisticRegression(max_iter=500, class_weight="balanced").fit(inputs["train"], labels["train"])
            chances = model.predict_proba(inputs["test"])[:, 1]
            figures[len(modalities), width > 0] = float(average_precision_score(labels["test"], chances))
    assert figures[1, False] < 0.7
    assert figures[1, False] + 0.05 < figures[1, True]
    assert max(figures[1, True], figures[3, False]) + 0.05 < figures[3, True]
    assert figures[3, True] > 0.85


# --- as BAH is laid out


def test_labels_of_frames_are_the_scripts_in_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_annotation(tmp_path, monkeypatch, participants=SMALL)
    videos = plan_frames(SMALL)
    table = read(tmp_path)
    assert set(table.defects["kind"]) <= {"missing_media"}  # nothing differs between lists, annotation and segments
    assert len(table.clips) == len(table.timelines) == 3 * VIDEOS_EACH
    present = table.clips.set_index("clip_id")["ambivalence.present"]
    for video in videos:
        script = video.script()[1]
        assert timed(video, table) == script.labels().tolist()
        assert timed(video, table, script.num_frames + 1)[-1] == -1
        assert present[video.media.stem] == float(bool(script.spells))
    for file in (folder / "split-frames").iterdir():
        file.unlink()
    again = read(tmp_path)
    assert [timed(video, again) for video in videos] == [timed(video, table) for video in videos]
    clips = table.clips.set_index("clip_id")
    video = next(video for video in videos if video.script()[1].spells)
    row, script = clips.loc[video.media.stem], video.script()[1]
    chunks = json.loads(row["raw.chunks"])
    assert [(chunk["text"], chunk["start"], chunk["end"]) for chunk in chunks] == [
        (f" {chunk.text}", chunk.start, chunk.end) for chunk in script.chunks
    ]
    assert row["text"] == script.text
    assert json.loads(row["raw.frame_segments"]) == [list(span) for span in script.spells]
    assert table.clips.groupby("group")["split"].nunique().max() == 1


def test_segments_in_seconds_hold_the_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_annotation(tmp_path, monkeypatch, participants=SMALL)
    segments = read(tmp_path, timelines=False, level="segment").clips
    for video in plan_frames(SMALL):
        own = segments[segments["clip_id"].str.startswith(f"{video.media.stem}/present")]
        spells = video.script()[1].spells
        # frame f stands at f / FPS: the first is in the span, the one after the last is not
        for (first, last), (start, end) in zip(spells, own[["start", "end"]].to_numpy(), strict=True):
            assert abs(start - first / FPS) < 1e-3
            assert last / FPS < end < (last + 1) / FPS


def test_a_build_that_is_there_is_left_and_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_annotation(tmp_path, monkeypatch, participants=SMALL)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    build_annotation(tmp_path, monkeypatch, participants=SMALL)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    config = CorporaConfig.model_validate({"root": str(tmp_path), "build": "demo-frames"})
    prepare(config)  # a complete corpus of any size is left as it is
    with pytest.raises(CorpusError, match=r"was built with .*'faces': False.*asked for is .*'faces': True"):
        prepare(config.model_copy(update={"build": "demo-frames-faces"}))
    pictured = build_annotation(tmp_path / "pictured", monkeypatch, participants=SMALL, faces=True).parent
    for name in ("demo-frames", "demo-frames-faces"):
        prepare(CorporaConfig.model_validate({"root": str(pictured), "build": name}))
    with pytest.raises(CorpusError, match=r"demo.json: the corpus there was built with .*'seed': 0"):
        build_annotation(tmp_path, monkeypatch, participants=SMALL, seed=1)
    (tmp_path / "other" / FOLDER).mkdir(parents=True)
    (tmp_path / "other" / FOLDER / "mine.txt").touch()
    with pytest.raises(CorpusError, match=r"holds something, but no demo.json: it is no demo"):
        build_annotation(tmp_path / "other", monkeypatch, participants=SMALL)
    with pytest.raises(CorpusError, match="videos of 2 to 3 s; the shortest has at least 5 s"):
        build_annotation(tmp_path / "short", monkeypatch, seconds=(2.0, 3.0))


def test_its_clips_are_known_as_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_annotation(tmp_path, monkeypatch, participants=SMALL)
    source = {"adapter": "bah", "path": FOLDER}
    config = CorporaConfig.model_validate({"root": str(tmp_path), "sources": {FOLDER: source}})
    assert generated_corpora(config) == (FOLDER,)


def test_the_annotation_of_the_other_demo_corpora_is_what_it_was(tmp_path: Path) -> None:
    """Of 15 clips of `bah`: files that were written before this corpus came."""
    build._write_bah(tmp_path / "bah", build._act(plan("bah", 15), shuffle_labels=False))
    digest = hashlib.sha256()
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        is_yaml = path.suffix in (".yaml", ".yml")  # whose keys a library may have had left unsorted
        content = json.dumps(read_yaml(path, path.name), sort_keys=True).encode() if is_yaml else path.read_bytes()
        digest.update(path.relative_to(tmp_path).as_posix().encode() + b"\0" + content)
    assert digest.hexdigest() == "d8a6ba277cb6740f0cebd7e02151adf174f3f78870bfaaf314c7d6b3919bbcc6"


# --- the media


@pytest.mark.slow
def test_the_media_show_and_sound_as_the_script_says_and_stay_the_same(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    roots = tmp_path / "one", tmp_path / "two"
    for root in roots:
        build_demo_frames(root, participants={"train": 1}, seconds=SHORT, faces=True, num_workers=1)
    files = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()} for root in roots
    ]
    assert files[0] == files[1]
    broken = pd.read_csv(roots[0] / FOLDER / "broken.csv").set_index("clip_id")["broken"].to_dict()
    for video in plan_frames({"train": 1}, seconds=SHORT):
        script = video.script()[1]
        pictures, sound = decode(roots[0] / FOLDER / video.media)
        assert sound is not None
        assert len(pictures) == script.num_frames
        assert abs(len(sound) / SAMPLE_RATE - script.seconds) < 0.2  # whole blocks of the codec
        assert broken.get(video.media.stem, "") == video.broken
        assert (np.abs(sound).max() < 1e-4) == (video.broken == "silent")
        faces = sorted((roots[0] / FOLDER / "cropped-aligned-faces" / video.media).iterdir())
        assert len(faces) == script.num_frames
    assert set(broken.values()) == {"no_face", "silent"}


@pytest.mark.slow
def test_pixels_of_brows_and_lips_differ_in_a_spell(tmp_path: Path) -> None:
    """Aligned faces of a video with a spell: its middle frames differ from those before by more than these do."""
    cv2 = pytest.importorskip("cv2")
    build_demo_frames(tmp_path, participants={"dev": 2}, seconds=SHORT, faces=True, num_workers=1)
    ratios = []
    for video in plan_frames({"dev": 2}, seconds=SHORT):
        script = video.script()[1]
        folder = tmp_path / FOLDER / "cropped-aligned-faces" / video.media
        for first, last in script.spells:
            rest, middle = range(max(first - 7, 0), first - 2), range((first + last) // 2 - 2, (first + last) // 2 + 3)
            pictures = {
                number: cv2.GaussianBlur(cv2.imread(str(folder / f"frame-{number}.jpg"), 0)[70:130], (9, 9), 0).astype(
                    float
                )
                for number in (*rest, *middle)
            }  # the band of brows and eyes
            at_rest = np.mean([pictures[number] for number in rest], axis=0)
            within = np.mean([np.abs(pictures[number] - at_rest).mean() for number in rest])
            ratios.append(np.mean([np.abs(pictures[number] - at_rest).mean() for number in middle]) / within)
    assert len(ratios) >= 4
    assert np.median(ratios) > 1.5

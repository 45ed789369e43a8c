"""The demo corpora: real files, measurable cues, labels that follow from them, and what is broken on purpose."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from corpora import demo_text
from corpora.clips import CorpusError
from corpora.demo import MARKER, build_demo
from corpora.demo_clip import BROKEN_KINDS, CORPORA, ClipPlan, plan, write_clip
from corpora.demo_face import CUES, FPS, SIZE, FaceScript, Look, cue_curves, render, render_wall
from corpora.demo_voice import SAMPLE_RATE, VoiceScript, speak

TABLES = ("mosei", "fiv2", "bah")
EMOTIONS = ["Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise"]
TRAITS = ["openness", "conscientiousness", "extraversion", "agreeableness", "non-neuroticism"]


def decode(path: Path) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32] | None]:
    """Frames, and samples where there is an audio stream."""
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return frames, None
        assert container.streams.audio[0].rate == SAMPLE_RATE
        assert container.streams.audio[0].channels == 1
        return frames, np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def meld_tables(root: Path) -> dict[str, pd.DataFrame]:
    names = {split: f"{split}_sent_emo.csv" for split in ("train", "dev", "test")}
    return {split: pd.read_csv(root / "meld" / "MELD.Raw" / name) for split, name in names.items()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four corpora with 15 clips each, a group per split."""
    root = tmp_path_factory.mktemp("corpora") / "demo"
    build_demo(root, clips_per_corpus=15, num_workers=1)
    return root


@pytest.fixture(scope="module")
def face_mesh() -> Iterator[object]:
    mediapipe = pytest.importorskip("mediapipe")
    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as mesh:
        yield mesh


def landmarks(mesh: object, frame: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Landmarks in pixels `[478, 2]`, or nothing where no face is found."""
    found = mesh.process(frame).multi_face_landmarks  # type: ignore[attr-defined]
    return None if not found else np.array([[point.x, point.y] for point in found[0].landmark]) * SIZE


# --- layout and labels


def test_tables_have_the_official_columns_and_their_media_exist(demo: Path) -> None:
    labels = {"mosei": EMOTIONS, "fiv2": TRAITS, "bah": ["label"]}
    for corpus in TABLES:
        table = pd.read_csv(demo / corpus / "labels.csv")
        group = "participant" if corpus == "bah" else "group"
        assert list(table) == ["video_name", "text", *labels[corpus], "media", group, "split"]
        assert len(table) == 15
        assert table["video_name"].is_unique
        assert all((demo / corpus / media).is_file() for media in table["media"])
        assert table.groupby(group)["split"].nunique().max() == 1
        assert set(table["split"]) == {"train", "dev", "test"}
    folders = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    for split, table in meld_tables(demo).items():
        assert list(table) == [
            "Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season",
            "Episode", "StartTime", "EndTime",
        ]  # fmt: skip
        for row in table.itertuples():
            assert (demo / f"meld/MELD.Raw/{folders[split]}/dia{row.Dialogue_ID}_utt{row.Utterance_ID}.mp4").is_file()
        assert table["StartTime"].str.fullmatch(r"\d:\d\d:\d\d,\d{3}").all()
        assert (table["EndTime"] > table["StartTime"]).all()


def test_labels_are_in_range_and_of_the_size_that_was_asked() -> None:
    """Labels of the default build, without its media: ranges, balance and MELD's seven classes."""
    drawn = {corpus: [clip.perform()[1] for clip in plan(corpus, 200)] for corpus in CORPORA}
    mosei = pd.DataFrame([performance.labels for performance in drawn["mosei"]])[EMOTIONS]
    np.testing.assert_allclose(mosei.sum(axis=1), 1.0, atol=5e-4)
    present = (mosei.drop(columns="Neutral") > 0).mean()
    assert present.between(0.2, 0.45).all(), present
    assert ((mosei.drop(columns="Neutral") > 0).sum(axis=1) > 1).mean() > 0.1
    assert ((mosei["Neutral"] == 1.0) == (mosei.drop(columns="Neutral").sum(axis=1) == 0)).all()
    fiv2 = pd.DataFrame([performance.labels for performance in drawn["fiv2"]])[TRAITS]
    assert fiv2.to_numpy().min() >= 0.0
    assert fiv2.to_numpy().max() <= 1.0
    assert fiv2.mean().between(0.45, 0.55).all()
    assert fiv2.std().between(0.1, 0.2).all()
    assert 0.42 < np.mean([performance.labels["label"] for performance in drawn["bah"]]) < 0.58
    meld = pd.Series([performance.labels["Emotion"] for performance in drawn["meld"]]).value_counts()
    assert meld.index[0] == "neutral"
    assert set(meld.index) == {"neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"}


@pytest.mark.parametrize("corpus", CORPORA)
def test_sentences_of_test_are_new(corpus: str) -> None:
    texts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for clip in plan(corpus, 200):
        texts[clip.split].append(clip.perform()[1].text)
    assert np.mean([text in texts["train"] for text in texts["test"]]) < 0.1
    assert len(set(texts["test"])) > 0.9 * len(texts["test"])


def test_every_sentence_can_be_filled() -> None:
    banks = [*demo_text.EMOTION_SENTENCES.values(), *demo_text.COMMITMENT.values()]
    banks += [bank for pair in demo_text.TRAIT_SENTENCES.values() for bank in pair]
    for template in (template for bank in banks for template in bank):
        filled = demo_text.sentence([template], np.random.default_rng(0))
        assert "{" not in filled
        assert filled[0].isupper()


def test_ambivalence_is_a_conflict_of_words_and_face() -> None:
    """Who nods at a refusal, or shakes the head at a promise, is ambivalent more often."""
    agree, conflict = [], []
    for clip in plan("bah", 400):
        performance = clip.perform()[1]
        stems = [template.split("{")[0] for template in demo_text.COMMITMENT[1] if not template.startswith("{")]
        promised = any(stem.lower() in performance.text.lower() for stem in stems)
        refused = any(
            template.split("{")[0].lower() in performance.text.lower()
            for template in demo_text.COMMITMENT[-1]
            if not template.startswith("{")
        )
        if promised == refused:
            continue
        matches = promised == (performance.face.nod > 0)
        (agree if matches else conflict).append(performance.labels["label"])
    assert min(len(agree), len(conflict)) > 80
    assert np.mean(conflict) - np.mean(agree) > 0.12


# --- the same again, once, after a kill


def test_same_seed_gives_the_same_labels_and_frames_whatever_the_number_of_clips(demo: Path, tmp_path: Path) -> None:
    build_demo(tmp_path / "again", clips_per_corpus={"mosei": 15}, num_workers=1)
    first, second = demo / "mosei", tmp_path / "again" / "mosei"
    assert (first / "labels.csv").read_bytes() == (second / "labels.csv").read_bytes()
    frames, sound = decode(first / "videos" / "video000_0.mp4")
    frames_again, sound_again = decode(second / "videos" / "video000_0.mp4")
    np.testing.assert_array_equal(frames[0], frames_again[0])
    np.testing.assert_array_equal(sound, sound_again)
    by_id = {clip.clip_id: clip for clip in plan("mosei", 200)}
    for clip in plan("mosei", 15):
        assert by_id[clip.clip_id].perform() == clip.perform()
    assert by_id["video000_0"].perform() != ClipPlan("mosei", "train", 0, 0, seed=1).perform()


def test_a_complete_demo_is_left_alone(demo: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*") if path.is_file()}
    build_demo(demo, clips_per_corpus=15)
    assert before == {path: path.stat().st_mtime_ns for path in demo.rglob("*") if path.is_file()}


def test_a_killed_build_is_completed(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "demo"
    written = []

    def dies(folder: Path, clip: ClipPlan) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(clip)
        write_clip(folder, clip)

    with monkeypatch.context() as patch:
        patch.setattr("corpora.demo.write_clip", dies)
        with pytest.raises(KeyboardInterrupt):
            build_demo(root, clips_per_corpus={"mosei": 15}, num_workers=1)
    assert json.loads((root / MARKER).read_text())["complete"] is False
    assert not (root / "mosei" / "labels.csv").exists()
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("*.mp4")}
    assert len(kept) == 4
    build_demo(root, clips_per_corpus={"mosei": 15}, num_workers=1)
    assert json.loads((root / MARKER).read_text())["complete"] is True
    assert len(list(root.rglob("*.mp4"))) == 15
    assert not list(root.rglob("*.part"))
    assert all(path.stat().st_mtime_ns == moment for path, moment in kept.items())
    assert (root / "mosei" / "labels.csv").read_bytes() == (demo / "mosei" / "labels.csv").read_bytes()


@pytest.mark.slow
def test_worker_processes_write_what_one_process_writes(demo: Path, tmp_path: Path) -> None:
    build_demo(tmp_path / "demo", clips_per_corpus={"mosei": 15}, num_workers=2)
    for path in (tmp_path / "demo" / "mosei").rglob("*.mp4"):
        assert path.read_bytes() == (demo / "mosei" / "videos" / path.name).read_bytes()
    assert len(list((tmp_path / "demo").rglob("*.mp4"))) == 15


def test_two_builds_at_once_write_every_clip_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def record(root: Path, clip: ClipPlan) -> None:
        time.sleep(0.01)
        written.append(clip)

    monkeypatch.setattr("corpora.demo.write_clip", record)
    with ThreadPoolExecutor(2) as pool:
        builds = [
            pool.submit(build_demo, tmp_path / "demo", clips_per_corpus={"bah": 15}, num_workers=1) for _ in range(2)
        ]
        for build in builds:
            build.result()
    assert written == plan("bah", 15)


def test_a_demo_with_other_settings_or_foreign_files_is_refused(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"was built with .*'seed': 0.*delete"):
        build_demo(demo, seed=3, clips_per_corpus=15)
    (tmp_path / "mosei").mkdir()
    with pytest.raises(CorpusError, match=r"holds 'mosei', but no demo\.json"):
        build_demo(tmp_path, clips_per_corpus=15)
    with pytest.raises(CorpusError, match="was to have 7 clips; ask for at least 15"):
        build_demo(tmp_path / "few", clips_per_corpus=7)


def test_shuffled_labels_are_the_same_labels_elsewhere(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpora.demo.write_clip", lambda root, clip: None)
    build_demo(tmp_path / "demo", clips_per_corpus=15, shuffle_labels=True, num_workers=1)
    for corpus, labels in (("fiv2", TRAITS), ("mosei", EMOTIONS)):
        found = pd.read_csv(tmp_path / "demo" / corpus / "labels.csv")
        expected = pd.read_csv(demo / corpus / "labels.csv")
        pd.testing.assert_frame_equal(found.drop(columns=labels), expected.drop(columns=labels))
        assert not found[labels].equals(expected[labels])
        for split in ("train", "dev", "test"):
            rows = [table.loc[table["split"] == split, labels] for table in (found, expected)]
            one, other = (part.sort_values(labels).to_numpy() for part in rows)
            np.testing.assert_array_equal(one, other)


# --- media


def test_clips_have_the_picture_and_sound_that_was_asked(demo: Path) -> None:
    for clip in (ClipPlan("fiv2", "train", 0, 1), ClipPlan("meld", "test", 0, 2)):
        frames, sound = decode(demo / clip.corpus / clip.media)
        seconds = clip.perform()[1].voice.seconds
        assert 2.0 <= seconds <= 2.5
        assert frames[0].shape == (SIZE, SIZE, 3)
        assert len(frames) / FPS == pytest.approx(seconds, abs=1.0 / FPS)
        assert sound is not None
        assert len(sound) / SAMPLE_RATE == pytest.approx(seconds, abs=0.15)  # AAC pads whole blocks of 64 ms
        assert np.abs(sound).max() > 0.02


def test_broken_clips_are_broken_as_listed(tmp_path: Path, demo: Path, face_mesh: object) -> None:
    import av

    for corpus in CORPORA:
        for split in ("train", "test"):
            kinds = [clip.broken for clip in plan(corpus, 90) if clip.split == split and clip.broken]
            assert sorted(kinds) == sorted(BROKEN_KINDS)
        assert not any(clip.broken for clip in plan(corpus, 90) if clip.split == "dev")
    broken = {clip.broken: clip for clip in plan("mosei", 90) if clip.split == "train" and clip.broken}
    (tmp_path / "mosei" / "videos").mkdir(parents=True)
    for kind in ("no_face", "truncated", "no_audio", "silent"):
        write_clip(tmp_path, broken[kind])
    path = {kind: tmp_path / "mosei" / clip.media for kind, clip in broken.items()}
    with pytest.raises(av.error.InvalidDataError):
        decode(path["truncated"])
    frames, sound = decode(path["no_audio"])
    assert sound is None
    assert landmarks(face_mesh, frames[5]) is not None
    silent = decode(path["silent"])[1]
    assert silent is not None
    assert np.abs(silent).max() < 1e-4
    frames, sound = decode(path["no_face"])
    assert all(landmarks(face_mesh, frame) is None for frame in frames[::6])
    assert sound is not None
    assert np.abs(sound).max() > 0.02
    listed = pd.read_csv(demo / "broken.csv")
    assert list(listed) == ["corpus", "clip_id", "split", "broken", "media"]
    assert set(listed["broken"]) == {"no_face", "truncated"}  # one group per split holds the first two kinds
    assert len(listed) == 4 * 2 * 2
    assert all((demo / media).is_file() for media in listed["media"])


def test_an_empty_transcript_is_empty_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpora.demo.write_clip", lambda root, clip: None)
    build_demo(tmp_path / "demo", num_workers=1)
    listed = pd.read_csv(tmp_path / "demo" / "broken.csv")
    for corpus in TABLES:
        table = pd.read_csv(tmp_path / "demo" / corpus / "labels.csv").set_index("video_name")
        empty = listed.loc[(listed["corpus"] == corpus) & (listed["broken"] == "no_text"), "clip_id"]
        assert sorted(table.index[table["text"].isna()]) == sorted(empty)
        assert len(empty) == 2
    assert meld_tables(tmp_path / "demo")["test"]["Utterance"].isna().sum() == 1


def test_faces_are_found_whoever_it_is(demo: Path, face_mesh: object) -> None:
    for corpus in TABLES:
        table = pd.read_csv(demo / corpus / "labels.csv")
        for media in table.loc[table["video_name"].str.endswith("_0"), "media"]:
            frames = decode(demo / corpus / media)[0]
            assert all(landmarks(face_mesh, frame) is not None for frame in frames[::9]), media
    assert landmarks(face_mesh, next(render_wall(1, Look(), np.random.default_rng(0)))) is None


def _distance(points: NDArray[np.float64], one: int, other: int) -> float:
    return float(np.linalg.norm(points[one] - points[other]))


def _eye_opening(points: NDArray[np.float64]) -> float:
    return (_distance(points, 159, 145) + _distance(points, 386, 374)) / _distance(points, 33, 263)


def _brow_height(points: NDArray[np.float64]) -> float:
    return float((points[[159, 386], 1] - points[[105, 334], 1]).mean()) / _distance(points, 10, 152)


def _iris_place(points: NDArray[np.float64]) -> float:
    corners = points[[33, 133, 362, 263], 0].mean()
    return float(points[[468, 473], 0].mean() - corners) / _distance(points, 33, 263)


def _nose_place(points: NDArray[np.float64]) -> float:
    return float(points[1, 0] - points[[234, 454], 0].mean()) / _distance(points, 234, 454)


@pytest.mark.parametrize(
    ("cue", "low", "measure", "sign"),
    [
        ("smile", -1.0, lambda p: _distance(p, 61, 291) / _distance(p, 234, 454), 1),
        ("smile", -1.0, lambda p: float(p[13, 1] - p[[61, 291], 1].mean()), 1),
        ("mouth_open", 0.0, lambda p: _distance(p, 13, 14), 1),
        ("lip_press", 0.0, lambda p: _distance(p, 0, 17), -1),
        ("brow_raise", 0.0, _brow_height, 1),
        ("brow_lower", 0.0, lambda p: float((p[168, 1] - p[[107, 336], 1]).mean()), -1),
        ("eye_close", 0.0, _eye_opening, -1),
        ("gaze_x", -1.0, _iris_place, 1),
        ("yaw", -1.0, _nose_place, 1),
        ("nose_wrinkle", 0.0, lambda p: _distance(p, 2, 0), -1),
    ],
)  # fmt: skip
def test_cues_show_in_the_landmarks(cue: str, low: float, measure: object, sign: int, face_mesh: object) -> None:
    amplitudes = np.linspace(low, 1.0, 7)
    cues = np.zeros((7, len(CUES)), np.float32)
    cues[:, CUES.index(cue)] = amplitudes
    frames = render(cues, np.zeros((7, 3), np.float32), Look(gamma=1.2, scale=0.95), np.random.default_rng(0))
    found = [landmarks(face_mesh, frame) for frame in frames]
    assert all(points is not None for points in found)
    measured = [measure(points) for points in found]  # type: ignore[operator]
    assert sign * np.corrcoef(amplitudes, measured)[0, 1] > 0.8


def test_the_script_decides_how_a_face_moves() -> None:
    quiet = np.zeros(36, np.float32)

    def curves(script: FaceScript, loudness: NDArray[np.float32] = quiet) -> dict[str, NDArray[np.float32]]:
        cues, head = cue_curves(script, Look(), loudness, np.random.default_rng(0))
        return {**{name: cues[:, i] for i, name in enumerate(CUES)}, "head": head[:, 0]}

    still = curves(FaceScript(blink_rate=0.0))
    assert curves(FaceScript(cues={"smile": 0.8}))["smile"][12:].mean() == pytest.approx(0.8, abs=0.15)
    assert curves(FaceScript(blink_rate=4.0))["eye_close"].max() > 0.9 > still["eye_close"].max()
    assert np.abs(curves(FaceScript(gaze_away=0.5))["gaze_x"]).sum() == pytest.approx(18.0, abs=1.0)  # half of 36
    assert curves(FaceScript(shake=1.0))["yaw"].std() > 0.5 > still["yaw"].std()
    assert curves(FaceScript(nod=1.0))["pitch"].std() > 0.5 > still["pitch"].std()
    assert curves(FaceScript(fidget=1.0))["head"].std() > 3 * still["head"].std()
    speaking = curves(FaceScript(speech=0.5), np.ones(36, np.float32))["mouth_open"]
    np.testing.assert_allclose(speaking, 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("quantity", "values", "column", "statistic"),
    [
        ("pitch", (110.0, 150.0, 200.0, 270.0), "F0semitoneFrom27.5Hz_sma3nz", "mean"),
        ("pitch_range", (0.4, 1.0, 2.0, 3.0), "F0semitoneFrom27.5Hz_sma3nz", "std"),
        ("loudness", (-32.0, -26.0, -20.0, -14.0), "Loudness_sma3", "mean"),
        ("pauses", (0.0, 0.15, 0.3, 0.5), "F0semitoneFrom27.5Hz_sma3nz", "count"),
        ("tremor", (0.0, 0.3, 0.7, 1.0), "jitterLocal_sma3nz", "mean"),
        ("breath", (0.02, 0.1, 0.2, 0.3), "HNRdBACF_sma3nz", "mean"),
        ("effort", (0.0, 0.3, 0.6, 1.0), "alphaRatio_sma3", "mean"),
    ],
)
def test_voice_shows_in_the_acoustic_features(
    quantity: str, values: tuple[float, ...], column: str, statistic: str
) -> None:
    opensmile = pytest.importorskip("opensmile")
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    sign = -1 if quantity in ("pauses", "breath") else 1
    measured = []
    for value in values:
        sound, _ = speak(VoiceScript(**{quantity: value}), np.random.default_rng(3))
        descriptors = smile.process_signal(sound, SAMPLE_RATE)[column]
        voiced = descriptors[descriptors != 0] if column.endswith("nz") else descriptors
        measured.append(float(getattr(voiced, statistic)()))
    assert (np.diff(measured) * sign > 0).all(), measured
    if quantity == "pitch":
        expected = 12.0 * np.log2(np.array(values) / 27.5)
        np.testing.assert_allclose(measured, expected, atol=1.0)  # a semitone


def test_rate_pauses_and_fillers_shape_the_envelope() -> None:
    def envelope(**script: float) -> NDArray[np.float32]:
        return speak(VoiceScript(**script), np.random.default_rng(0))[1]  # type: ignore[arg-type]

    assert (envelope(pauses=0.4) < 0.05).mean() - (envelope(pauses=0.05) < 0.05).mean() == pytest.approx(0.35, abs=0.08)

    def longest(**script: float) -> float:
        quiet = np.flatnonzero(np.r_[True, envelope(**script) < 0.55, True])
        return float(np.diff(quiet).max()) / SAMPLE_RATE

    assert longest(fillers=0) < 0.25
    assert longest(fillers=1) == pytest.approx(0.36, abs=0.05)  # of 0.42 s, without the soft ends

    def syllables(**script: float) -> int:
        loud = envelope(**script) > 0.3
        return int((np.diff(loud.astype(int)) == 1).sum())

    assert syllables(rate=7.0, pauses=0.1) > 1.5 * syllables(rate=3.5, pauses=0.1)

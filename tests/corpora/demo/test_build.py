"""The demo corpora: real files, measurable cues, labels that follow from them, and what is broken on purpose."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray

from corpora.clips import ClipTable, CorpusError
from corpora.demo import build
from corpora.demo import text as demo_text
from corpora.demo.build import DEFAULT_CLIPS, MARKER, build_demo
from corpora.demo.clip import BROKEN_KINDS, CORPORA, ClipPlan, plan, write_clip
from corpora.demo.face import CUES, FPS, SIZE, FaceScript, Look, cue_curves, render, render_wall
from corpora.demo.voice import SAMPLE_RATE, VoiceScript, speak
from corpora.registry import CorporaConfig, read_corpora
from mmpsr.tasks import BUILTIN_TASKS

CONFIGURATION = Path(__file__).parents[3] / "configs" / "demo.toml"
TUPLE = "!!python/tuple"
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


def read(root: Path, *corpora: str, **settings: Any) -> ClipTable:
    """The corpora (all where none is named) as the demo's own configuration reads them."""
    declared = tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))["corpora"]
    sources = {name: {**declared["sources"][name], **settings} for name in corpora or declared["sources"]}
    config = CorporaConfig.model_validate({**declared, "root": str(root), "sources": sources})
    return read_corpora(config, BUILTIN_TASKS)


def rows(root: Path, corpus: str, **settings: Any) -> pd.DataFrame:
    return read(root, corpus, **settings).clips.set_index("clip_id")


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


def annotation(folder: Path) -> dict[Path, bytes]:
    """Every file of a corpus but its media."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".mp4")
    return {path.relative_to(folder): path.read_bytes() for path in files}


def landmarks(mesh: object, frame: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Landmarks in pixels `[478, 2]`, or nothing where no face is found."""
    found = mesh.process(frame).multi_face_landmarks  # type: ignore[attr-defined]
    return None if not found else np.array([[point.x, point.y] for point in found[0].landmark]) * SIZE


# --- layout and labels


def test_the_adapters_read_every_clip_without_a_defect(demo: Path) -> None:
    table = read(demo)
    assert table.defects.to_dict("records") == []
    clips = table.clips.set_index(["corpus", "clip_id"])
    assert len(clips) == 4 * 15
    for clip in (clip for corpus in CORPORA for clip in plan(corpus, 15)):
        row, performance = clips.loc[(clip.corpus, clip.clip_id)], clip.perform()[1]
        assert row["media"] == str(demo / clip.corpus / clip.media)
        assert (demo / clip.corpus / clip.media).is_file()
        assert row[["split", "text", "language"]].tolist() == [clip.split, performance.text, "en"]
        assert row["group"] == (f"{clip.split}_dia{clip.group_id}" if clip.corpus == "meld" else clip.group_id)
    assert table.clips.groupby(["corpus", "group"])["split"].nunique().max() == 1
    kinds = table.clips.drop_duplicates("corpus").set_index("corpus")["group_kind"].to_dict()
    assert kinds == {"mosei": "video", "fiv2": "video", "bah": "participant", "meld": "dialogue"}


def test_labels_are_what_was_performed(demo: Path) -> None:
    clips = {corpus: rows(demo, corpus) for corpus in CORPORA}
    expected = {clip.clip_id: clip.perform()[1].labels for corpus in CORPORA for clip in plan(corpus, 15)}
    for clip, row in clips["mosei"].iterrows():
        shares = [expected[clip][name] for name in EMOTIONS]
        np.testing.assert_allclose(row[[f"emotion.{name}" for name in EMOTIONS]].tolist(), shares, atol=1e-6)
        assert [row[f"emotion.{name}"] > 0 for name in EMOTIONS] == [share > 0 for share in shares]
        unpleasant = max(expected[clip][name] for name in ("Sadness", "Anger", "Disgust", "Fear"))
        sentiment = 3.0 * (expected[clip]["Happiness"] - unpleasant)
        assert float(row["raw.sentiment"]) == pytest.approx(sentiment, abs=1e-3)
    for clip, row in clips["fiv2"].iterrows():
        traits = [expected[clip][name] for name in TRAITS]
        np.testing.assert_allclose(row[[f"personality.{name}" for name in TRAITS]].tolist(), traits, atol=1e-9)
        assert float(row["raw.neuroticism"]) == expected[clip]["non-neuroticism"]
        assert float(row["raw.interview"]) == pytest.approx(np.mean(traits), abs=1e-4)
    for clip, row in clips["bah"].iterrows():
        present = expected[clip]["label"]
        assert row[["ambivalence.absent", "ambivalence.present"]].tolist() == [1 - present, present]
    for clip, row in clips["meld"].iterrows():
        assert row[["raw.Emotion", "raw.Sentiment"]].tolist() == list(expected[clip].values())


def test_segments_and_frames_agree_with_the_label(demo: Path) -> None:
    videos = rows(demo, "bah")
    annotation = yaml.safe_load((demo / "bah" / "video_annotation_transcript.yaml").read_text().replace(TUPLE, ""))
    for clip in plan("bah", 15):
        said, seconds = annotation[str(clip.media)], clip.perform()[1].voice.seconds
        frames = [label for _, label in said["frame_annotation"]]
        present = videos.loc[clip.clip_id, "ambivalence.present"]
        assert len(frames) == round(seconds * FPS)
        assert len(said["time_detailed_ah"]) == len(said["all_cues"]) == present
        assert np.mean(frames) == (0.0 if not present else pytest.approx(0.5, abs=0.07))
        assert frames[0] == frames[-1] == 0
    segments = rows(demo, "bah", level="segment")
    assert segments["ambivalence.present"].sum() == videos["ambivalence.present"].sum() > 2


def test_corpora_have_the_quirks_of_their_layouts(demo: Path) -> None:
    bah = rows(demo, "bah")
    assert bah["raw.question"].tolist() == list("12345") * 3
    assert bah.index[3] == "90000_Question_4_2024-03-01 10-03-00_Video"
    assert bah.index[4].endswith("_Video-DESKTOP-0D3M0")
    assert bah["consent_challenges"].all()
    assert bah["consent_publications"].tolist() == [True] * 15  # participants 90000, 90600 and 90800
    assert ClipPlan("bah", "train", 3, 0).group_id == "90003"
    meld = rows(demo, "meld")
    first, second = (meld.loc[f"test_dia0_utt{number}"] for number in (0, 1))
    assert first["speaker"] == second["speaker"] == "Ada"
    assert second["context"] == f"Ada: {first['text']}"
    assert second[["raw.StartTime", "raw.Episode"]].tolist() == ["00:00:05,000", "3"]
    mosei = rows(demo, "mosei")
    assert mosei[["start", "end", "fallback_media"]].isna().all(axis=None)
    assert ClipPlan("fiv2", "train", 15, 4).media.as_posix() == "train-1/training80_01/speaker015.004.mp4"
    assert ClipPlan("fiv2", "train", 16, 0).media.as_posix() == "train-1/training80_02/speaker016.000.mp4"


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
    assert annotation(first) == annotation(second)
    media = ClipPlan("mosei", "train", 0, 0).media
    frames, sound = decode(first / media)
    frames_again, sound_again = decode(second / media)
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
        patch.setattr("corpora.demo.build.write_clip", dies)
        with pytest.raises(KeyboardInterrupt):
            build_demo(root, clips_per_corpus={"mosei": 15}, num_workers=1)
    assert json.loads((root / MARKER).read_text())["complete"] is False
    assert annotation(root / "mosei") == {}
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("*.mp4")}
    assert len(kept) == 4
    build_demo(root, clips_per_corpus={"mosei": 15}, num_workers=1)
    assert json.loads((root / MARKER).read_text())["complete"] is True
    assert len(list(root.rglob("*.mp4"))) == 15
    assert not list(root.rglob("*.part"))
    assert not list(root.rglob(".temporary-*"))
    assert all(path.stat().st_mtime_ns == moment for path, moment in kept.items())
    assert annotation(root / "mosei") == annotation(demo / "mosei")


@pytest.mark.slow
def test_worker_processes_write_what_one_process_writes(tmp_path: Path) -> None:
    for folder, num_workers in (("one", 1), ("demo", 2)):
        build_demo(tmp_path / folder, clips_per_corpus={"mosei": 15}, num_workers=num_workers)
    for path in (tmp_path / "demo" / "mosei").rglob("*.mp4"):
        assert path.read_bytes() == (tmp_path / "one" / path.relative_to(tmp_path / "demo")).read_bytes()
    assert len(list((tmp_path / "demo").rglob("*.mp4"))) == 15


def test_two_builds_at_once_write_every_clip_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def record(root: Path, clip: ClipPlan) -> None:
        time.sleep(0.01)
        written.append(clip)

    monkeypatch.setattr("corpora.demo.build.write_clip", record)
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
    monkeypatch.setattr("corpora.demo.build.write_clip", lambda root, clip: None)
    root = tmp_path / "demo"
    build_demo(root, clips_per_corpus=15, shuffle_labels=True, num_workers=1)
    facts = {
        "mosei": ["raw.sentiment"], "fiv2": ["raw.interview"], "bah": ["raw.label"],
        "meld": ["raw.Emotion", "raw.Sentiment"],
    }  # fmt: skip
    for corpus in CORPORA:
        found, expected = rows(root, corpus), rows(demo, corpus)
        known = found.filter(regex=r"^(emotion|personality|ambivalence)\.").dropna(axis="columns", how="all")
        labels = [*known.columns, *facts[corpus]]
        others = ["split", "group", "text", "speaker", "context"]
        pd.testing.assert_frame_equal(found[others], expected[others])
        assert not found[labels].equals(expected[labels])
        for split in ("train", "dev", "test"):
            one, other = (
                table.loc[table["split"] == split, labels].sort_values(labels).to_numpy() for table in (found, expected)
            )
            assert one.tolist() == other.tolist()
    assert read(root).defects.empty  # the files of a corpus agree
    segments, videos = rows(root, "bah", level="segment"), rows(root, "bah")
    present = segments.loc[segments["ambivalence.present"].eq(1.0), "group"].value_counts()
    by_participant = videos.groupby("group")["ambivalence.present"].sum()
    assert present.to_dict() == by_participant[by_participant > 0].to_dict()


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
    (tmp_path / "mosei" / ClipPlan("mosei", "train", 0, 0).media).parent.mkdir(parents=True)
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
    found = read(demo).clips.set_index(["corpus", "clip_id"])
    for row in listed.itertuples():
        assert found.loc[(row.corpus, row.clip_id), ["split", "media"]].tolist() == [row.split, str(demo / row.media)]


def test_an_empty_transcript_is_the_only_defect_of_the_full_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpora.demo.build.write_clip", lambda root, clip: None)
    build_demo(tmp_path / "demo", num_workers=1)
    listed = pd.read_csv(tmp_path / "demo" / "broken.csv")
    table = read(tmp_path / "demo")
    assert table.clips.groupby("corpus").size().to_dict() == DEFAULT_CLIPS
    assert set(table.defects["kind"]) == {"missing_text"}
    wordless = listed.loc[listed["broken"].eq("no_text"), ["corpus", "clip_id"]].to_numpy().tolist()
    assert sorted(table.defects[["corpus", "clip_id"]].to_numpy().tolist()) == sorted(wordless)
    assert len(wordless) == 4 * 2
    empty = table.clips[table.clips["text"].isna()]
    assert sorted(empty[["corpus", "clip_id"]].to_numpy().tolist()) == sorted(wordless)
    starts = table.clips.set_index("clip_id")["raw.StartTime"]
    assert starts["test_dia1_utt0"] == "00:00:21,000"  # five scenes of 4 s before it
    denied = table.clips.loc[table.clips["consent_publications"].eq(False).fillna(False), "group"].unique()
    assert denied.tolist()[:2] == ["90003", "90007"]


def test_faces_are_found_whoever_it_is(demo: Path, face_mesh: object) -> None:
    for clip in (clip for corpus in ("mosei", "fiv2", "bah") for clip in plan(corpus, 15) if clip.position == 0):
        frames = decode(demo / clip.corpus / clip.media)[0]
        assert all(landmarks(face_mesh, frame) is not None for frame in frames[::9]), clip
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


def test_how_far_it_is_is_told_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[int] = []
    monkeypatch.setattr(build, "SECONDS", -1.0)
    build.run_all(written.append, [5, 6, 7], "Writing the demo corpora", num_workers=1)
    assert written == [5, 6, 7]
    assert capsys.readouterr().err.splitlines() == [
        "Writing the demo corpora: 1 of 3 clips", "Writing the demo corpora: 2 of 3 clips",
    ]  # fmt: skip

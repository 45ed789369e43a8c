"""What encoders from a hub give in time, with tiny weights of the true architectures."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from encoders.config import FacesConfig, FeaturesConfig, VGGishConfig
from encoders.creation import CATALOGUE, create_encoder
from encoders.errors import EncodingError
from encoders.extraction.extract import extract
from encoders.extraction.in_time import encode_in_time
from encoders.extraction.read import read_timed
from encoders.extraction.workers import WarmEncoders
from encoders.media.clip import ClipMedia
from encoders.models import vggish
from encoders.timed import MEASURED, NONE, REPEATED, Grid, Timed
from mmpsr.config import ConfigError
from tests.support import tiny_checkpoints as tiny
from tests.support.face_scenes import WALL, scene
from tests.support.media_files import grey, tone, write_media
from tests.support.tiny_images import write_vit

VIT = "google/vit-base-patch16-224"
BERT = "google-bert/bert-base-uncased"


def loaded(name: str, modality: str, **given: Any) -> Any:
    encoder: Any = create_encoder(name, modality, FeaturesConfig(**given))
    encoder.load()
    return encoder


@pytest.fixture
def small_vggish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(vggish, "_CHANNELS", (2, None, 3, None, 4, None, 4, None))
    monkeypatch.setattr(vggish, "_DENSE", (8, 128))
    torch.manual_seed(0)
    torch.save(vggish.network().state_dict(), tmp_path / "vggish.pth")
    return tmp_path / "vggish.pth"


def test_vggish_begins_at_every_frame_and_ends_before_the_rectifier(small_vggish: Path) -> None:
    encoder = loaded("vggish", "audio", weights={"vggish": str(small_vggish)})
    clip = tiny.SoundClip(tiny.sound(20_000))  # 1.25 s: 30 frames at 24 per second
    grid = Grid(36, Fraction(24))
    prepared = encoder.prepare_timed(clip, grid, None)
    assert prepared.arrays["starts"][:7].tolist() == [0, 4, 8, 12, 17, 21, 25]
    (timed,) = encoder.embed_timed([prepared], [grid])
    assert timed.state.tolist() == [MEASURED] * 30 + [REPEATED] * 6
    samples = clip.audio(16_000)
    continued = np.concatenate([samples, np.full(16_000, samples[-1])])
    spectrogram = vggish.log_mel(continued, 16_000)
    model = vggish.network()
    model.load_state_dict(torch.load(small_vggish, weights_only=True))
    for frame, start in ((0, 0), (4, 17), (29, 121)):  # 2900 / 24 = 120.8
        window = torch.from_numpy(spectrogram[start : start + 96])[None, None]
        maps = model["features"](window).permute(0, 2, 3, 1).flatten(1)
        before = model["embeddings"][:-1](maps)[0].detach().numpy()
        np.testing.assert_allclose(timed.values[frame], before, atol=2e-3)
        assert (before < 0).any()
    # 36_000 samples have 223 spectrogram frames, so the last window begins at 127: frames 31 to 35 repeat it
    assert prepared.arrays["starts"][29:].tolist() == [121, 125, 127, 127, 127, 127, 127]
    assert (timed.values[31:] == timed.values[31]).all()


def test_settings_of_vggish_are_in_its_fingerprint_unless_they_are_the_usual(small_vggish: Path) -> None:
    weights = {"vggish": str(small_vggish)}
    usual = create_encoder("vggish", "audio", FeaturesConfig(weights=weights))
    assert not {"hop", "last_rectifier"} & set(usual.settings())
    changes = ({"hop": 0.48}, {"last_rectifier": False}, {"last_rectifier": True})
    others: list[Any] = [
        loaded("vggish", "audio", weights=weights, vggish=VGGishConfig(**change)) for change in changes
    ]
    assert [each.fingerprint() == usual.fingerprint() for each in others] == [False, False, True]
    assert usual.timed_settings() == others[1].timed_settings() != others[2].timed_settings()
    clip = tiny.SoundClip(tiny.sound(30_960))  # 192 spectrogram frames: windows of 96 from 0, 48 and 96
    (twice,), (negative,) = others[0].encode([clip]), others[1].encode([clip])
    assert twice.shape == (3, 128)
    np.testing.assert_allclose(twice[[0, 2]], np.maximum(negative, 0), atol=1e-6)
    with pytest.raises(ValueError, match="hundredths of a second"):
        VGGishConfig(hop=0.125)


@pytest.mark.parametrize(
    ("name", "write", "hop"),
    [
        ("facebook/wav2vec2-base-960h", lambda folder: tiny.write_wav2vec(folder, "wav2vec2", "group"), 0.02),
        ("openai/whisper-base", tiny.write_whisper, 0.02),
        ("MIT/ast-finetuned-audioset-10-10-0.4593", tiny.write_ast, 0.1),
    ],
)
def test_elements_of_sound_stand_at_their_moment(
    tmp_path: Path, name: str, write: Callable[[Path], Path], hop: float
) -> None:
    encoder = tiny.load_sound_model(name, write(tmp_path))
    clip, grid = tiny.SoundClip(tiny.sound(19_200)), Grid(35, Fraction(25))  # 1.2 s of sound, 1.4 s of pictures
    (elements,) = encoder.encode([clip])
    timed = encoder.encode_timed(clip, grid, None)
    hops = encoder.element_samples() / encoder.rate
    assert timed.values.shape == (35, encoder.width)
    # parts of equal length, each with its own elements
    counts = encoder.prepare(clip).arrays.get("counts", [len(elements)])
    counts = [min(count, len(elements) // len(counts)) for count in counts]  # or all there are
    begins = np.concatenate([index * 1.2 / len(counts) + hops * np.arange(n) for index, n in enumerate(counts)])
    assert len(begins) == len(elements)
    for frame in (0, 1, 7, 20, 29):
        element = np.flatnonzero(begins <= frame / 25 + 1e-6)[-1]
        np.testing.assert_allclose(timed.values[frame], elements[element], atol=5e-3)
    if name != "MIT/ast-finetuned-audioset-10-10-0.4593":  # the tiny one has another hop, and several windows
        assert hops == pytest.approx(hop)
    assert timed.state[:20].tolist() == [MEASURED] * 20
    assert timed.state[-1] == REPEATED


def test_a_clip_without_sound_has_nothing(tmp_path: Path) -> None:
    encoder = tiny.load_sound_model("openai/whisper-base", tiny.write_whisper(tmp_path))
    mute = ClipMedia(media=write_media(tmp_path / "mute.mkv", [grey(0)] * 5))
    heard, grid = tiny.SoundClip(tiny.sound(8000)), Grid(5, Fraction(25))
    prepared = [encoder.prepare_timed(clip, grid, None) for clip in (mute, heard)]
    nothing, timed = encoder.embed_timed(prepared, [grid, grid])
    assert nothing.state.tolist() == [NONE] * 5
    assert not nothing.values.any()
    assert timed.state.tolist() == [MEASURED] * 5
    assert "nothing at any frame: " in str(prepared[0].note)
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(b"no sound")
    with pytest.raises(EncodingError, match="cannot be opened"):
        encoder.prepare_timed(ClipMedia(media=damaged), grid, None)


def test_a_word_is_the_mean_of_its_tokens_in_the_last_four_layers(tmp_path: Path) -> None:
    encoder = loaded(BERT, "text", weights={BERT: str(tiny.write_text_model(tmp_path, "bert"))})
    words = [("maybe i", 0.1, 0.3), ("could stop", 0.5, 0.9)]
    clip, grid = ClipMedia(text="maybe i could stop", words=words), Grid(10, Fraction(10))
    timed = encoder.encode_timed(clip, grid, None)
    tokenizer, _ = encoder._tokenizer
    ids = torch.tensor([tokenizer("maybe i could stop")["input_ids"]])
    states = encoder._model(input_ids=ids, output_hidden_states=True).hidden_states[-4:]
    tokens = sum(states)[0, 1:-1].detach().numpy()
    for frame, (first, last) in {1: (0, 2), 2: (0, 2), 5: (2, 4), 8: (2, 4)}.items():
        np.testing.assert_allclose(timed.values[frame], tokens[first:last].mean(axis=0), atol=5e-3)
    assert np.flatnonzero(timed.state).tolist() == [1, 2, 5, 6, 7, 8]
    spread = encoder.encode_timed(clip, grid, None, spread_words=True)
    np.testing.assert_allclose(spread.values, np.repeat(tokens, [3, 3, 2, 2], axis=0), atol=5e-3)
    assert encoder.timed_form == "words"
    described: Any = create_encoder(BERT, "behavior", FeaturesConfig(weights={BERT: str(tmp_path)}))
    assert described.timed_form is None


def test_pictures_in_time_from_the_file_to_the_store(tmp_path: Path) -> None:
    weights = {VIT: str(write_vit(tmp_path / "vit"))}
    one, two = scene((20, 60, 240)), scene((20, 60, 240), (380, 60, 200))
    media = write_media(tmp_path / "a.mkv", [WALL, one, two, WALL, one], fps=10)
    row = {"corpus": "c", "clip_id": "a", "media": str(media), "text": None, "description": None}
    clips = pd.DataFrame([{**row, "start": None, "end": None}, {**row, "clip_id": "b", "start": 0.2, "end": 0.4}])
    features = FeaturesConfig(
        store=str(tmp_path / "store"), encoders={"video": VIT, "behavior": f"scene/{VIT}"}, weights=weights,
        timed=("video", "behavior"), device="cpu",
    )  # fmt: skip
    with WarmEncoders(features) as warm:
        summary = extract(clips, features, show_progress=False, warm=warm)
    assert summary.ledger.empty
    read = read_timed(clips, features)
    video, whole = read["video"], read["behavior"]
    assert video.lengths.tolist() == whole.lengths.tolist() == [5, 2]
    assert video.starts.tolist() == [0.0, 0.2]
    assert [video.state(clip).tolist() for clip in (0, 1)] == [
        [NONE, MEASURED, MEASURED, REPEATED, MEASURED], [MEASURED, REPEATED],
    ]  # fmt: skip
    assert whole.state(0).tolist() == [MEASURED] * 5
    np.testing.assert_array_equal(video.frames(0)[2:4], video.frames(1))
    np.testing.assert_array_equal(video.frames(0)[3], video.frames(0)[2])
    # pictures of one frame alone, as the encoder sees them for a vector of one frame
    encoder: Any = warm.encoders["video"]
    (alone,) = encoder.encode([ClipMedia(media=media, start=0.1, end=0.2)])
    np.testing.assert_allclose(video.frames(0)[1], alone[0], atol=2e-2)
    encoder = warm.encoders["behavior"]
    (frames,) = encoder.encode([ClipMedia(media=media)])
    np.testing.assert_allclose(whole.frames(0), frames, atol=5e-3)


@pytest.mark.slow
def test_worker_processes_give_the_same_in_chunks_that_fit(tmp_path: Path) -> None:
    weights = {VIT: str(write_vit(tmp_path / "vit"))}
    media = write_media(tmp_path / "a.mkv", [WALL, scene((20, 60, 240)), scene((60, 60, 240))], fps=10)
    rows = [
        {"corpus": "c", "clip_id": str(number), "media": str(media), "start": number / 10, "end": None,
         "text": None, "description": None}
        for number in range(3)
    ]  # fmt: skip
    clips = pd.DataFrame(rows)
    read = []
    for name in ("warm", "workers"):
        features = FeaturesConfig(
            store=str(tmp_path / name), encoders={"video": VIT}, weights=weights, timed=("video",), device="cpu",
            num_workers=1, chunk_size=16,
        )  # fmt: skip
        if name == "warm":
            with WarmEncoders(features) as warm:
                extract(clips, features, show_progress=False, warm=warm)
        else:
            extract(clips, features, show_progress=False)
        read.append(read_timed(clips, features)["video"])
        assert len(list((tmp_path / name).rglob("frames-*.npy"))) == 2  # two clips at a time
    for clip in range(3):
        np.testing.assert_array_equal(read[0].frames(clip), read[1].frames(clip))
        assert read[0].state(clip).tolist() == read[1].state(clip).tolist()


def shipped_clip(folder: Path) -> ClipMedia:
    """Eight frames: no face in the first two, a face repeated in the fifth, no picture of the seventh."""
    faces = folder / "faces"
    faces.mkdir()
    for number in (0, 1, 2, 3, 4, 5, 7, 10):
        size = (48, 64) if number < 2 else (32, 32)
        level = 20 * (3 if number == 4 else number)
        if number < 8:
            cv2.imwrite(str(faces / f"frame-{number}.png"), np.full((*size, 3), level, np.uint8))
    return ClipMedia(media=write_media(folder / "a.mp4", [grey(number) for number in range(8)], fps=24), faces=faces)


def in_time(encoder: Any, clip: ClipMedia, rate: float | None = None) -> Any:
    features = FeaturesConfig(timed_rate=rate)
    return encode_in_time({"video": encoder}, clip, features)["video"]


def test_shipped_faces_stand_at_their_number(tmp_path: Path) -> None:
    encoder = loaded(VIT, "video", weights={VIT: str(write_vit(tmp_path / "vit"))}, faces=FacesConfig(source="shipped"))
    clip = shipped_clip(tmp_path)
    prepared, note = in_time(encoder, clip)
    (timed,) = encoder.embed_timed([prepared], [prepared.grid])
    expected = [NONE, NONE, MEASURED, MEASURED, REPEATED, MEASURED, REPEATED, MEASURED]
    assert timed.state.tolist() == expected
    assert note == "a face in 4 of 8 frames, 2 repeated, 2 without any"
    levels = prepared.arrays["pixels"].mean(axis=(1, 2, 3)).round() / 20
    assert levels[np.searchsorted(prepared.arrays["frames"], prepared.arrays["shown"])][2:].tolist() == [
        2, 3, 3, 5, 5, 7,
    ]  # fmt: skip
    assert not timed.values[:2].any()
    part = ClipMedia(media=clip.media, faces=clip.faces, start=3 / 24, end=6 / 24)
    prepared, _ = in_time(encoder, part)
    assert prepared.arrays["state"].tolist() == [MEASURED, REPEATED, MEASURED]
    failure, _ = in_time(encoder, shipped_clip_again(clip), 12)
    assert "holds a picture for every frame of the video; leave out features.timed_rate" in failure.reason
    for number in range(8, 12):
        cv2.imwrite(str(tmp_path / "faces" / f"frame-{number}.png"), np.zeros((32, 32, 3), np.uint8))
    failure, _ = in_time(encoder, shipped_clip_again(clip))
    assert "pictures go up to frame-11, and the video's frames to 7" in failure.reason


def shipped_clip_again(clip: ClipMedia) -> ClipMedia:
    return ClipMedia(media=clip.media, faces=clip.faces)


def test_a_clip_without_any_face_has_nothing(tmp_path: Path) -> None:
    encoder = loaded(VIT, "video", weights={VIT: str(write_vit(tmp_path / "vit"))})
    clip = ClipMedia(media=write_media(tmp_path / "a.mkv", [WALL] * 3, tone(200, 0.1)))
    prepared, note = in_time(encoder, clip)
    (timed,) = encoder.embed_timed([prepared], [prepared.grid])
    assert timed.state.tolist() == [NONE] * 3
    assert timed.values.shape == (3, encoder.width)
    assert note == "a face in 0 of 3 frames, 0 repeated, 3 without any"


def test_a_clip_on_its_head_is_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[NDArray[np.uint8]] = []

    class Watcher:
        sampling = (12, True)

        def see(self, frame: NDArray[np.uint8]) -> None:
            seen.append(frame)

    class Looking:
        id, timed_form, width = "looking", "pictures", 1

        def watcher(self, clip: ClipMedia) -> Watcher:
            return Watcher()

        def encode_timed(self, clip: ClipMedia, grid: Grid, *_: object) -> Timed:
            return Timed.nothing(grid, 1)

    frame = np.zeros((32, 32, 3), np.uint8)
    frame[:8] = 200
    clip = ClipMedia(media=write_media(tmp_path / "a.mp4", [frame] * 3))
    monkeypatch.setattr("encoders.face.landmarks._upside_down", lambda frames: True)
    _, note = in_time(Looking(), clip)
    assert len(seen) == 6
    assert [bool(frame[:8].mean() > 100) for frame in seen] == [True] * 3 + [False] * 3
    assert note == "upside down: its frames are turned"


@pytest.mark.parametrize("name", ["laion/clap-htsat-fused", "MCG-NJU/videomae-base"])
def test_what_sees_a_clip_as_a_whole_gives_nothing_in_time(name: str) -> None:
    modality = CATALOGUE[name].modalities[0]
    assert create_encoder(name, modality).timed_form is None
    with pytest.raises(ConfigError, match="cannot say what it gives at which moment"):
        WarmEncoders(FeaturesConfig(encoders={modality: name}, timed=(modality,)))

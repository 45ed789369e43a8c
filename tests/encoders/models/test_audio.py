from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from encoders.errors import EncodingError, MissingModality
from encoders.media.clip import ClipMedia
from encoders.models.audio import split
from tests.support import tiny_checkpoints as tiny
from tests.support.tiny_checkpoints import encode_sounds as rows_of
from tests.support.tiny_checkpoints import load_sound_model, peak, seconds

BASE, MSP = "facebook/wav2vec2-base-960h", "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
HUBERT, EXHUBERT = "facebook/hubert-base-ls960", "amiriparian/ExHuBERT"
FAMILIES = {
    BASE: lambda folder: tiny.write_wav2vec(folder, "wav2vec2", "group"),
    MSP: lambda folder: tiny.write_wav2vec(folder, "wav2vec2", "layer"),
    HUBERT: lambda folder: tiny.write_wav2vec(folder, "hubert", "group"),
    EXHUBERT: lambda folder: tiny.write_wav2vec(folder, "hubert", "layer"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("weights")
    return {name: write(home / str(number)) for number, (name, write) in enumerate(FAMILIES.items())}


def loaded(folders: dict[str, Path], name: str, dtype: str = "float32") -> Any:
    return load_sound_model(name, folders[name], dtype)


@pytest.mark.parametrize("name", [BASE, MSP, HUBERT, EXHUBERT])
def test_wav2vec_equals_transformers_used_directly(folders: dict[str, Path], name: str) -> None:
    samples = seconds(name, 0.7)
    (rows,) = rows_of(loaded(folders, name), samples)
    kind = transformers.HubertModel if name in (HUBERT, EXHUBERT) else transformers.Wav2Vec2Model
    model: Any = kind.from_pretrained(folders[name]).eval()
    loud = peak(samples)
    scaled = (loud - loud.mean()) / np.sqrt(loud.var() + 1e-7)
    expected = model(torch.from_numpy(scaled)[None]).last_hidden_state[0].detach().numpy()
    assert rows.shape == (34, tiny.WIDTH)  # (11200 - 400) // 320 + 1
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_long_sound_for_wav2vec_is_cut_after_it_is_normalised(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = loaded(folders, MSP)
    samples = seconds(MSP, 2.5)
    (whole,) = rows_of(encoder, samples)
    monkeypatch.setattr(type(encoder), "longest", 1)
    (rows,) = rows_of(encoder, samples)
    assert len(whole) == 124  # (40000 - 400) // 320 + 1
    assert len(rows) == 3 * 41  # of 13333 or 13334 samples each: (13333 - 400) // 320 + 1
    scaled = (samples - samples.mean()) / samples.std()
    model: Any = transformers.Wav2Vec2Model.from_pretrained(folders[MSP]).eval()
    first = model(torch.from_numpy(scaled[:13_334])[None]).last_hidden_state[0].detach().numpy()
    np.testing.assert_allclose(rows[:41].mean(axis=0), first.mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_clip_does_not_depend_on_its_batch(folders: dict[str, Path], name: str) -> None:
    encoder = loaded(folders, name)
    lengths = (0.3, 2.3, 0.3, 0.9, 1.7)
    sounds = [seconds(name, length, seed) for seed, length in enumerate(lengths)]
    together = rows_of(encoder, *sounds)
    for rows, samples in zip(together, sounds, strict=True):
        (alone,) = rows_of(encoder, samples)
        np.testing.assert_allclose(rows, alone, atol=1e-4)
    assert np.abs(together[0] - together[2]).max() > 0.01


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.02), ("bfloat16", 0.2)])
def test_half_precision_is_near(folders: dict[str, Path], name: str, dtype: str, tolerance: float) -> None:
    samples = seconds(name, 0.5)
    (exact,) = rows_of(loaded(folders, name), samples)
    (rows,) = rows_of(loaded(folders, name, dtype), samples)
    assert rows.dtype == np.float32
    means, expected = rows.mean(axis=0), exact.mean(axis=0)  # what is stored
    assert 0 < np.abs(means - expected).max() < tolerance * np.abs(exact).max()


def test_sound_that_is_missing_or_too_short(folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = loaded(folders, MSP)
    absent, short, rows = encoder.encode(
        [ClipMedia(), tiny.SoundClip(tiny.sound(399)), tiny.SoundClip(tiny.sound(400))]
    )
    assert isinstance(absent, MissingModality)
    assert isinstance(short, EncodingError)
    assert str(short) == f"25 ms of audio, too short for {MSP} (at least 25 ms)"
    assert rows.shape == (1, tiny.WIDTH)
    assert np.isfinite(rows).all()


def test_split_is_even() -> None:
    parts = split(np.arange(10, dtype=np.float32), 4)
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert len(split(np.zeros(4, np.float32), 4)) == 1

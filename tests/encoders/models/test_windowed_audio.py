from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from encoders.models.windowed_audio import same_crops
from tests.support import tiny_checkpoints as tiny
from tests.support.tiny_checkpoints import encode_sounds as rows_of
from tests.support.tiny_checkpoints import load_sound_model, peak, seconds

AST, WHISPER, CLAP = "MIT/ast-finetuned-audioset-10-10-0.4593", "openai/whisper-base", "laion/clap-htsat-fused"
FAMILIES = {AST: tiny.write_ast, WHISPER: tiny.write_whisper, CLAP: tiny.write_clap}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("weights")
    return {name: write(home / str(number)) for number, (name, write) in enumerate(FAMILIES.items())}


def loaded(folders: dict[str, Path], name: str, dtype: str = "float32") -> Any:
    return load_sound_model(name, folders[name], dtype)


def test_ast_equals_transformers_used_directly(folders: dict[str, Path]) -> None:
    samples = seconds(AST, 0.5)
    (rows,) = rows_of(loaded(folders, AST), samples)
    features = transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32)(
        peak(samples), sampling_rate=16_000, return_tensors="pt"
    )
    hidden = transformers.ASTModel.from_pretrained(folders[AST]).eval()(**features).last_hidden_state[0].detach()
    # 2 rows of patches in frequency, (32 - 16) // 10 + 1, and 5 in time, (64 - 16) // 10 + 1; two tokens before them
    expected = ((hidden[2:7] + hidden[7:12]) / 2).numpy()
    # 0.5 s are 48 frames, (8000 - 400) // 160 + 1; patches begin at frames 0, 10, 20, 30, 40
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_ast_leaves_out_patches_of_padding(folders: dict[str, Path]) -> None:
    encoder = loaded(folders, AST)
    # 10 frames (1840 samples) are one patch, an 11th (2000 samples) begins the next; 400 samples are one frame
    assert [len(rows) for rows in rows_of(encoder, *(tiny.sound(size) for size in (400, 1999, 2000, 10_240)))] == [
        1, 1, 2, 5,
    ]  # fmt: skip


def test_whisper_equals_transformers_used_directly(folders: dict[str, Path]) -> None:
    samples = seconds(WHISPER, 0.5)
    (rows,) = rows_of(loaded(folders, WHISPER), samples)
    features = transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=2)(
        peak(samples), sampling_rate=16_000, return_tensors="pt"
    )
    model: Any = transformers.WhisperModel.from_pretrained(folders[WHISPER]).eval()
    expected = model.encoder(features.input_features).last_hidden_state[0].detach().numpy()
    assert rows.shape == (25, tiny.WIDTH)  # 0.5 s at 50 frames a second, of 100
    np.testing.assert_allclose(rows, expected[:25], atol=1e-4)
    lengths = [len(rows) for rows in rows_of(loaded(folders, WHISPER), tiny.sound(8000), tiny.sound(8001))]
    assert lengths == [25, 26]  # a begun frame counts


@pytest.mark.parametrize(("name", "window"), [(AST, 0.64), (WHISPER, 2.0)])
def test_long_sound_is_cut_into_equal_windows(folders: dict[str, Path], name: str, window: float) -> None:
    encoder = loaded(folders, name)
    samples = peak(seconds(name, 2.5 * window))
    (rows,) = rows_of(encoder, samples)
    apart = []
    for part in np.array_split(samples, 3):
        clip = tiny.SoundClip(part)
        clip.audio = lambda rate, part=part: part  # type: ignore[method-assign,misc]  # as loud as in the whole
        apart.append(np.asarray(encoder.encode([clip])[0]))
    np.testing.assert_allclose(rows, np.concatenate(apart), atol=1e-4)


def test_clap_equals_transformers_used_directly(folders: dict[str, Path]) -> None:
    samples = seconds(CLAP, 0.4)
    (rows,) = rows_of(loaded(folders, CLAP), samples)
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folders[CLAP])
    features = extractor(peak(samples), sampling_rate=48_000, return_tensors="pt")
    model: Any = transformers.ClapModel.from_pretrained(folders[CLAP]).eval()
    output = model.audio_model(features.input_features, is_longer=torch.tensor([[False]]))
    assert rows.shape == (32, tiny.WIDTH)
    np.testing.assert_allclose(rows.mean(axis=0), output.pooler_output[0].detach().numpy(), atol=1e-5)
    frequency_time = output.last_hidden_state[0].detach().numpy()
    np.testing.assert_allclose(rows[3], frequency_time[:, :, 3].mean(axis=1), atol=1e-5)


def test_clap_fuses_long_sound_from_the_same_stretches_each_time(folders: dict[str, Path]) -> None:
    encoder = loaded(folders, CLAP)
    samples = seconds(CLAP, 2.7)
    np.random.seed(5)  # noqa: NPY002
    (rows,) = rows_of(encoder, samples)
    after = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    assert np.random.random() == after  # noqa: NPY002  the global generator was left as it was
    (again,) = rows_of(encoder, samples)
    np.testing.assert_array_equal(rows, again)
    prepared = encoder.prepare(tiny.SoundClip(samples))
    model: Any = transformers.ClapModel.from_pretrained(folders[CLAP]).eval()
    windows = torch.from_numpy(prepared.arrays["windows"])
    fused, unfused = (
        model.audio_model(windows, is_longer=torch.tensor([[longer]])).pooler_output[0].detach().numpy()
        for longer in (True, False)
    )
    np.testing.assert_allclose(rows.mean(axis=0), fused, atol=1e-5)
    assert np.abs(fused - unfused).max() > 1e-3


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


def test_batches_of_windows_keep_the_order(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = loaded(folders, AST)
    sounds = [seconds(AST, length, seed) for seed, length in enumerate((2.0, 0.3, 1.5))]
    before = rows_of(encoder, *sounds)
    monkeypatch.setattr("encoders.models.windowed_audio.BATCH_WINDOWS", 2)
    for rows, expected in zip(rows_of(encoder, *sounds), before, strict=True):
        np.testing.assert_allclose(rows, expected, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.02), ("bfloat16", 0.2)])
def test_half_precision_is_near(folders: dict[str, Path], name: str, dtype: str, tolerance: float) -> None:
    samples = seconds(name, 0.5)
    (exact,) = rows_of(loaded(folders, name), samples)
    (rows,) = rows_of(loaded(folders, name, dtype), samples)
    assert rows.dtype == np.float32
    means, expected = rows.mean(axis=0), exact.mean(axis=0)  # what is stored
    assert 0 < np.abs(means - expected).max() < tolerance * np.abs(exact).max()


def test_same_crops_survive_an_error() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    with pytest.raises(ValueError, match="broken"), same_crops():
        raise ValueError("broken")
    assert np.random.random() == expected  # noqa: NPY002

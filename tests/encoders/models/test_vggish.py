from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from encoders.config import FeaturesConfig
from encoders.creation import CATALOGUE, create_encoder
from encoders.errors import EncodingError, ExtractionError
from encoders.models import vggish
from mmpsr.config import ConfigError
from tests.support import tiny_checkpoints as tiny
from tests.support.tiny_checkpoints import peak


@pytest.fixture
def small_vggish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(vggish, "_CHANNELS", (2, None, 3, None, 4, None, 4, None))
    monkeypatch.setattr(vggish, "_DENSE", (8, 128))
    torch.manual_seed(0)
    torch.save(vggish.network().state_dict(), tmp_path / "vggish.pth")
    return tmp_path / "vggish.pth"


def test_vggish_gives_an_embedding_for_each_full_window(small_vggish: Path) -> None:
    encoder: Any = create_encoder("vggish", "audio", FeaturesConfig(weights={"vggish": str(small_vggish)}))
    encoder.load()
    assert encoder.width == 128
    clips = [tiny.SoundClip(tiny.sound(size, seed)) for seed, size in enumerate((30_960, 30_959, 8000))]
    two, one, short = encoder.encode(clips)  # 192 frames are 191 * 160 + 400 samples
    assert (two.shape, one.shape, short.shape) == ((2, 128), (1, 128), (1, 128))
    assert [clip.notes for clip in clips[:2]] == [{}, {}]
    assert clips[2].notes == {"vggish": "500 ms of audio, continued with silence to 975 ms"}
    model = vggish.network()
    model.load_state_dict(torch.load(small_vggish, weights_only=True))
    images = torch.from_numpy(vggish.log_mel(peak(clips[0].samples), 16_000)).reshape(2, 1, 96, 64)
    maps = model["features"](images)
    assert maps.shape == (2, 4, 6, 4)
    flat = torch.stack(
        [maps[:, channel, row, column] for row in range(6) for column in range(4) for channel in range(4)]
    )
    expected = model["embeddings"](flat.T).detach().numpy()
    np.testing.assert_allclose(two, expected, atol=1e-5)
    assert (two >= 0).all()  # after the last rectifier


def test_vggish_is_the_published_network() -> None:
    with torch.device("meta"):
        state = vggish.network().state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items() if name.endswith("weight")}
    assert shapes == {
        "features.0.weight": (64, 1, 3, 3), "features.3.weight": (128, 64, 3, 3), "features.6.weight": (256, 128, 3, 3),
        "features.8.weight": (256, 256, 3, 3), "features.11.weight": (512, 256, 3, 3),
        "features.13.weight": (512, 512, 3, 3), "embeddings.0.weight": (4096, 12_288),
        "embeddings.2.weight": (4096, 4096), "embeddings.4.weight": (128, 4096),
    }  # fmt: skip


def test_vggish_spectrogram_by_its_definition() -> None:
    samples = peak(tiny.sound(16_000))
    frames = np.stack([samples[start : start + 400] for start in range(0, 16_000 - 399, 160)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitudes = np.abs(np.fft.rfft(frames * window, 512))

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    bins = mel(np.arange(257) * 16_000 / 512)
    edges = np.linspace(*mel(np.array([125.0, 7500.0])), 66)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    np.testing.assert_allclose(vggish.log_mel(samples, 16_000), np.log(magnitudes @ weights + 0.01), atol=1e-4)
    with pytest.raises(EncodingError, match="VGGish hears 16000 samples per second, not 8000"):
        vggish.log_mel(samples, 8000)


def test_vggish_weights_are_one_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'features\.weights\."vggish": .* is not a file; the weights of \'vggish\''):
        create_encoder("vggish", "audio", FeaturesConfig(weights={"vggish": str(tmp_path)}))


def test_vggish_offline_names_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from encoders.creation import can_run

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert torch.hub.get_dir() == str(tmp_path / "hub")
    entry = CATALOGUE["vggish"]
    assert can_run(entry) == "its weights (about 288 MB) are not in the local cache, and HF_HUB_OFFLINE is set"
    encoder = create_encoder("vggish", "audio")
    with pytest.raises(
        ExtractionError, match=rf"download {entry.address} where there .* \{{ \"vggish\" = \"path\" \}}"
    ):
        encoder.load()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "vggish-10086976.pth").touch()
    assert can_run(entry) is None

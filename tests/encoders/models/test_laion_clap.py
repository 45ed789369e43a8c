from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.creation import create_encoder
from encoders.errors import ExtractionError
from encoders.media.clip import ClipMedia
from tests.support import tiny_checkpoints as tiny

ROOT = Path(__file__).parents[3]
needs_library = pytest.mark.skipif(importlib.util.find_spec("laion_clap") is None, reason="laion-clap is not installed")

PROGRAM = """
import json, os, sys
from pathlib import Path
import numpy as np, torch
sys.path[:0] = [{root!r}]
from tests.support import tiny_checkpoints as tiny
from encoders.creation import CATALOGUE, create_encoder
from encoders.config import FeaturesConfig
from encoders.errors import ExtractionError
from encoders.models.laion_clap import create_clap, import_laion_clap
from encoders.media.clip import ClipMedia
from encoders.models.windowed_audio import same_crops

path = list(sys.path)
entry, checkpoint, found = CATALOGUE["laion-clap/630k-audioset-fusion"], {checkpoint!r}, {{}}
try:  # with an empty cache
    create_clap("laion-clap/x", Path("nowhere.pt"))
except ExtractionError as error:
    found["missing"] = str(error)
os.rename({filled!r}, os.environ["HF_HUB_CACHE"])
library = import_laion_clap(entry.id)
found["path is as before"] = sys.path == path

torch.manual_seed(0)
made = library.CLAP_Module(enable_fusion=True, device="cpu").eval()
state = {{f"module.{{key}}": value for key, value in made.model.state_dict().items()}}
state["module.text_branch.embeddings.position_ids"] = torch.arange(4)
torch.save({{"epoch": 3, "loss": np.float64(0.5), "state_dict": state}}, checkpoint)

features = FeaturesConfig(weights={{entry.home: checkpoint}})
audio = create_encoder(entry.id, "audio", features)
audio.load()
sounds = [tiny.sound(48_000 * 3, 1), tiny.sound(48_000 * 12, 2)]
together = audio.encode([tiny.SoundClip(sound) for sound in sounds])
alone = [audio.encode([tiny.SoundClip(sound)])[0] for sound in sounds]
found["audio shapes"] = [rows.shape for rows in together]
found["batch"] = max(float(np.abs(a - b).max()) for a, b in zip(together, alone))
found["spread"] = float(together[0].std(axis=0).max())

from laion_clap.training import data
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

def mel_of_numpy(samples, settings):
    size, hop = settings["window_size"], settings["hop_size"]
    filters = mel_filter_bank(size // 2 + 1, settings["mel_bins"], settings["fmin"], settings["fmax"],
                              settings["sample_rate"], norm=None, mel_scale="htk")
    mel = spectrogram(samples.numpy(), window_function(size, "hann"), size, hop, power=2.0, mel_filters=filters,
                      log_mel="dB")
    return torch.from_numpy(mel.T).float()

data.get_mel = mel_of_numpy  # the library's own needs torchaudio
short = sounds[0] / np.abs(sounds[0]).max()
quantised = torch.from_numpy((short * 32767).astype(np.int16).astype(np.float32) / np.float32(32767))
mel = library.hook.get_audio_features(
    {{}}, quantised, 480_000, data_truncating="fusion", data_filling="repeatpad", audio_cfg=made.model_cfg["audio_cfg"]
)
with torch.inference_mode():
    direct = made.model.audio_branch({{"mel_fusion": mel["mel_fusion"][None], "longer": torch.tensor([[False]])}})
long = (np.clip(sounds[1], -1, 1) * 32767).astype(np.int16)
with same_crops():
    fused = library.hook.get_audio_features(
        {{}}, torch.from_numpy(long.astype(np.float32) / np.float32(32767)), 480_000, data_truncating="fusion",
        data_filling="repeatpad", audio_cfg=made.model_cfg["audio_cfg"],
    )
ours = audio._spectrograms(long)
found["fused"] = [bool(fused["longer"]), bool(ours["longer"])]
found["fused against the library"] = float((ours["mel_fusion"] - fused["mel_fusion"]).abs().max())
found["audio against the library"] = float(np.abs(together[0].mean(axis=0) - direct["embedding"][0].numpy()).max())
embedded = made.get_audio_embedding_from_data([short])[0]
with torch.inference_mode():
    ours = made.model.audio_projection(torch.from_numpy(together[0].mean(axis=0))[None])
ours = torch.nn.functional.normalize(ours, dim=-1)[0].numpy()
found["projected against the library"] = float(np.abs(embedded - ours).max())

text = create_encoder(entry.id, "behavior", features)
text.load()
clips = [ClipMedia(description=words) for words in ("ab", "he frowns", "x" * 90)]
rows = text.encode(clips)
found["text shapes"] = [each.shape for each in rows]
found["text notes"] = [list(clip.notes.values()) for clip in clips]
tokens = made.tokenizer(["ab"])
with torch.inference_mode():
    states = made.model.text_branch(**tokens).last_hidden_state[0, 1:3].numpy()
found["text against the library"] = float(np.abs(rows[0] - states).max())

tiny.write_twin({twin!r}, made.model.audio_branch.state_dict())
hub = CATALOGUE["laion/clap-htsat-fused"]
twin = create_encoder(hub.id, "audio", FeaturesConfig(weights={{hub.home: {twin!r}}}))
twin.load()
(same,) = twin.encode([tiny.SoundClip(sounds[0])])
found["against transformers, rows"] = float(np.abs(same - together[0]).max() / np.abs(same).max())
found["against transformers, pooled"] = float(np.abs(same.mean(axis=0) - together[0].mean(axis=0)).max())

state["module.logit_scale_a"] = torch.zeros(7)
torch.save({{"state_dict": state}}, checkpoint)
try:
    create_encoder(entry.id, "text", features).load()
except ExtractionError as error:
    found["misfit"] = str(error)
print(json.dumps(found))
"""


def write_cache(cache: Path) -> None:
    """What laion-clap asks of the hub: three tokenizers of letters, and a RoBERTa of one layer, 768 wide."""
    import transformers
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    roberta = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters, "<mask>"])}
    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    for name in ("bert-base-uncased", "roberta-base", "facebook/bart-base"):
        repository = cache / f"models--{name.replace('/', '--')}"
        folder = repository / "snapshots" / ("1" * 40)
        folder.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("1" * 40)
        if name == "bert-base-uncased":
            (folder / "vocab.txt").write_text("\n".join(bert))
            config: Any = transformers.BertConfig()
        else:
            (folder / "vocab.json").write_text(json.dumps(roberta))
            (folder / "merges.txt").write_text("#version: 0.2\n")
            config = transformers.BartConfig()
        if name == "roberta-base":
            config = transformers.RobertaConfig(
                vocab_size=len(roberta), hidden_size=768, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=8, max_position_embeddings=100,
            )  # fmt: skip
            transformers.RobertaModel(config).save_pretrained(folder)
        config.save_pretrained(folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `PROGRAM` prints: in one process, since the library takes long to import."""
    folder = tmp_path_factory.mktemp("laion_clap")
    write_cache(folder / "filled")
    places = {"filled": "filled", "checkpoint": "clap.pt", "twin": "twin"}
    program = PROGRAM.format(root=str(ROOT), **{name: str(folder / place) for name, place in places.items()})
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results


@needs_library
@pytest.mark.slow
def test_it_constructs_and_encodes_from_a_local_cache(found: dict[str, Any]) -> None:
    assert found["path is as before"]
    assert found["audio shapes"] == [[32, 768], [32, 768]]
    assert found["batch"] < 1e-4
    assert found["spread"] > 1e-3
    assert found["fused"] == [True, True]
    assert found["fused against the library"] < 1e-2  # decibels
    assert found["audio against the library"] < 1e-5
    assert found["projected against the library"] < 1e-5
    assert found["text shapes"] == [[2, 768], [9, 768], [90, 768]]  # the last in two windows
    assert found["text notes"] == [[], [], []]
    assert found["text against the library"] < 1e-5
    assert found["against transformers, rows"] < 1e-3  # 16 bits, and another library's spectrogram
    assert found["against transformers, pooled"] < 1e-4
    assert "clap.pt does not fit laion-clap" in found["misfit"]
    assert "logit_scale_a" in found["misfit"]


@needs_library
@pytest.mark.slow
def test_without_the_text_weights_it_says_what_to_fetch(found: dict[str, Any]) -> None:
    missing = found["missing"]
    assert "encoder 'laion-clap/x': laion-clap reads the tokenizers of bert-base-uncased, roberta-base" in missing
    assert "they are not all in the local cache and HF_HUB_OFFLINE is set" in missing


def test_without_its_vocabulary_it_says_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    encoder: Any = create_encoder("laion-clap/630k-audioset-fusion", "text")
    with pytest.raises(ExtractionError, match=r"weights of roberta-base \(about 500 MB\) .* and HF_HUB_OFFLINE is set"):
        encoder.prepare(ClipMedia(text="maybe"))
    with pytest.raises(ExtractionError, match=r"lukewys/laion_clap \(about 2360 MB\) is not in the local cache"):
        encoder.load()


@pytest.mark.slow
def test_importing_the_module_does_not_import_the_library() -> None:
    program = "import sys, encoders.models.laion_clap; raise SystemExit('laion_clap' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_samples_are_rounded_to_16_bits() -> None:
    encoder: Any = create_encoder("laion-clap/630k-audioset-fusion", "audio")
    prepared = encoder.prepare(tiny.SoundClip(np.array([1.0, -0.5, 0.25, 0.0], dtype=np.float32)))
    assert prepared.arrays["waveform"].dtype == np.int16
    assert prepared.arrays["waveform"].tolist() == [32_767, -16_383, 8191, 0]
    assert encoder.settings()["weights"] == "lukewys/laion_clap main"

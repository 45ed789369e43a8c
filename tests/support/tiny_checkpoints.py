"""Tiny checkpoints of the true architectures, written with the true classes; nothing is downloaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from encoders.config import FeaturesConfig
from encoders.creation import CATALOGUE, create_encoder
from encoders.device import DeviceEncoder
from encoders.media.clip import ClipMedia

WIDTH = 16
WORDS = ("maybe", "i", "could", "stop", "but", "it", "is", "hard", "to", "say", "what", "would", "change", ".", ",")
_ROBERTA = {
    "vocab_size": 32, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
_WAV2VEC = {
    "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "vocab_size": 5,
}  # fmt: skip


def load_sound_model(name: str, folder: Path, dtype: str = "float32") -> Any:
    """An encoder of sound with the weights of a folder."""
    encoder = create_encoder(name, "audio", FeaturesConfig(weights={name: str(folder)}))
    assert isinstance(encoder, DeviceEncoder)
    encoder.dtype = dtype
    encoder.load()
    return encoder


def seconds(name: str, length: float, seed: int = 0) -> NDArray[np.float32]:
    """Sound of a length at the rate of an encoder."""
    return sound(int(length * (CATALOGUE[name].rate or 0)), seed)


def encode_sounds(encoder: Any, *sounds: NDArray[np.float32]) -> list[Any]:
    """What an encoder makes of sounds."""
    return encoder.encode([SoundClip(samples) for samples in sounds])


def peak(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples divided by their peak."""
    return samples / np.abs(samples).max()


class SoundClip(ClipMedia):
    """A clip whose sound is given, at whatever rate it is asked for."""

    def __init__(self, samples: NDArray[np.float32], **values: Any) -> None:
        super().__init__(**values)
        self.samples = samples

    def audio(self, rate: int) -> NDArray[np.float32]:
        return self.samples / np.abs(self.samples).max()


def sound(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    """A gliding tone in noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples) / 16_000
    tone = np.sin(2 * np.pi * (200 + 50 * seed) * time * (1 + 0.1 * time))
    return (0.3 * tone + 0.05 * rng.standard_normal(num_samples)).astype(np.float32)


def _randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that every part of a model shows in its output."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
    return model


def write_tokenizer(folder: Path, kind: str) -> None:
    """A tokenizer of whole words with the special tokens of `bert`, `roberta` or `clip`."""
    special = {
        "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "roberta": ["<s>", "<pad>", "</s>", "<unk>"],
        "clip": ["<|startoftext|>", "<|pad|>", "<|endoftext|>", "<unk>"],
    }[kind]  # fmt: skip
    first, last = (2, 3) if kind == "bert" else (0, 2)
    unknown = special[1] if kind == "bert" else special[3]
    vocabulary = {token: number for number, token in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special[first]} $A {special[last]}",
        special_tokens=[(special[first], first), (special[last], last)],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=unknown, pad_token=special[0 if kind == "bert" else 1],
        bos_token=special[first], eos_token=special[last],
    ).save_pretrained(folder)  # fmt: skip


def write_text_model(folder: Path, kind: str, num_positions: int = 40) -> Path:
    """BERT, or RoBERTa or XLM-RoBERTa with the head that their repositories come with."""
    if kind == "bert":
        config = transformers.BertConfig(**{**_ROBERTA, "pad_token_id": 0}, max_position_embeddings=num_positions)
        model: Any = transformers.BertForMaskedLM(config)
    elif kind == "roberta":
        model = transformers.RobertaForSequenceClassification(
            transformers.RobertaConfig(**_ROBERTA, max_position_embeddings=num_positions)
        )
    else:
        model = transformers.XLMRobertaForMaskedLM(
            transformers.XLMRobertaConfig(**_ROBERTA, max_position_embeddings=num_positions)
        )
    _randomise(model).save_pretrained(folder)  # type: ignore[operator]
    write_tokenizer(folder, "bert" if kind == "bert" else "roberta")
    return folder


def write_clip(folder: Path) -> Path:
    """CLIP with both towers, its tokenizer and its image processor."""
    text = {
        "vocab_size": 32, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 20, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 32,
        "patch_size": 8,
    }  # fmt: skip
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    _randomise(transformers.CLIPModel(config)).save_pretrained(folder)  # type: ignore[operator]
    write_tokenizer(folder, "clip")
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)  # fmt: skip
    return folder


def write_clap(folder: Path) -> Path:
    """CLAP with fusion, 48 kHz, windows of one second."""
    audio = {
        "spec_size": 128, "num_mel_bins": 64, "patch_embeds_hidden_size": 8, "hidden_size": WIDTH, "depths": [1, 1],
        "num_attention_heads": [2, 2], "window_size": 4, "enable_fusion": True, "projection_dim": 12,
    }  # fmt: skip
    text = {**_ROBERTA, "max_position_embeddings": 40, "projection_dim": 12}
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    _randomise(transformers.ClapModel(config)).save_pretrained(folder)  # type: ignore[operator]
    write_tokenizer(folder, "roberta")
    transformers.ClapFeatureExtractor(
        feature_size=64, sampling_rate=48_000, hop_length=480, max_length_s=1, frequency_min=50
    ).save_pretrained(folder)
    return folder


_CLAP_NAMES = {
    r"^bn0\.": "batch_norm.", r"\.norm1\.": ".layernorm_before.", r"\.norm2\.": ".layernorm_after.",
    r"\.attn\.relative": ".attention.self.relative", r"\.attn\.proj\.": ".attention.output.dense.",
    r"\.mlp\.fc1\.": ".intermediate.dense.", r"\.mlp\.fc2\.": ".output.dense.",
}  # fmt: skip


def write_twin(folder: str, audio_branch: dict[str, torch.Tensor]) -> None:
    """CLAP of transformers with the audio weights of a model of laion-clap, at true size; its text branch is tiny."""
    state = {}
    for name, value in audio_branch.items():
        for old, new in _CLAP_NAMES.items():
            name = re.sub(old, new, name)
        parts = (
            dict(zip(("query", "key", "value"), value.chunk(3), strict=True)) if ".attn.qkv." in name else {"": value}
        )
        for part, each in parts.items():
            state[f"audio_model.audio_encoder.{name.replace('.attn.qkv.', f'.attention.self.{part}.')}"] = each
    text = {**_ROBERTA, "max_position_embeddings": 40}
    model = transformers.ClapModel(transformers.ClapConfig(audio_config={"enable_fusion": True}, text_config=text))
    report = model.load_state_dict(state, strict=False)
    assert not [name for name in report.missing_keys if name.startswith("audio_model")]
    model.save_pretrained(folder)
    transformers.ClapFeatureExtractor(frequency_min=50).save_pretrained(folder)


def write_wav2vec(folder: Path, kind: str, norm: str) -> Path:
    """wav2vec 2.0 with a CTC head, or HuBERT with a classifier; `norm` is `group` or `layer`."""
    options = {**_WAV2VEC, "feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer", "conv_bias": True}
    model: Any
    if kind == "hubert":
        model = transformers.HubertForSequenceClassification(transformers.HubertConfig(**options))
    else:
        model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**options))
    _randomise(model).save_pretrained(folder)  # type: ignore[operator]
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer").save_pretrained(folder)
    return folder


def write_ast(folder: Path) -> Path:
    """AST with windows of 64 frames."""
    config = transformers.ASTConfig(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_length=64,
        num_mel_bins=32,
    )  # fmt: skip
    _randomise(transformers.ASTForAudioClassification(config)).save_pretrained(folder)  # type: ignore[operator]
    transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(folder)
    return folder


def write_whisper(folder: Path) -> Path:
    """Whisper with windows of two seconds."""
    config = transformers.WhisperConfig(
        d_model=WIDTH, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=24, decoder_ffn_dim=24, num_mel_bins=20, max_source_positions=100, max_target_positions=8,
        vocab_size=32, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=3,
    )  # fmt: skip
    _randomise(transformers.WhisperForConditionalGeneration(config)).save_pretrained(folder)  # type: ignore[operator]
    transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=2).save_pretrained(folder)
    return folder


JINA_CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel


class SumConfig(PretrainedConfig):
    model_type = "sum_of_letters"


class SumModel(PreTrainedModel):
    config_class = SumConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(config.hidden_size))
        self.post_init()

    def encode(self, texts, task):
        assert task == "text-matching"
        return [len(text) * self.scale.detach() for text in texts]
"""


def write_jina(folder: Path) -> Path:
    """A model whose class comes with it: letters times 2, three wide."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modeling_sum.py").write_text(JINA_CODE)
    where = {"AutoConfig": "modeling_sum.SumConfig", "AutoModel": "modeling_sum.SumModel"}
    config = {"model_type": "sum_of_letters", "hidden_size": 3, "auto_map": where, "architectures": ["SumModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"scale": torch.full((3,), 2.0)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder

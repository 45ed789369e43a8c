"""Tiny checkpoints of models that write texts: the true classes with random weights, and their processors' files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "de", "fr")
_CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}PICTURE{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _bytes() -> dict[str, int]:
    """A vocabulary of single bytes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {sign: number for number, sign in enumerate(bytes_to_unicode().values())}


def _with_special(tokenizer: Any, names: list[str]) -> dict[str, int]:
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    return {name: tokenizer.convert_tokens_to_ids(name) for name in names}


def tiny_whisper(folder: Path, is_multilingual: bool = True, with_heads: bool = True) -> Path:
    """A Whisper that hears windows of 2 s and writes at most 16 bytes about each."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    tokenizer = WhisperTokenizer(vocab=_bytes(), merges=[])
    languages = [f"<|{name}|>" for name in LANGUAGES]
    names = ["<|startoftranscript|>", *languages, "<|translate|>", "<|transcribe|>", "<|nospeech|>", "<|notimestamps|>"]
    special = _with_special(tokenizer, names)
    end, start = tokenizer.eos_token_id, special["<|startoftranscript|>"]
    WhisperProcessor(WhisperFeatureExtractor(feature_size=16, chunk_length=2), tokenizer).save_pretrained(folder)
    ends = {"eos_token_id": end, "pad_token_id": end, "bos_token_id": end, "decoder_start_token_id": start}
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=16, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        max_source_positions=100, max_target_positions=40, init_std=0.5, suppress_tokens=None,
        begin_suppress_tokens=None, **ends,
    )  # fmt: skip
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        max_length=20, is_multilingual=is_multilingual, no_timestamps_token_id=special["<|notimestamps|>"],
        suppress_tokens=list(special.values()), begin_suppress_tokens=[end], **ends,
    )  # fmt: skip
    if is_multilingual:
        model.generation_config.lang_to_id = {name: special[name] for name in languages}
        model.generation_config.task_to_id = {name: special[f"<|{name}|>"] for name in ("translate", "transcribe")}
    if with_heads:
        model.generation_config.alignment_heads = [[0, 1], [1, 0]]
    model.save_pretrained(folder)
    return folder


def tiny_qwen(folder: Path) -> Path:
    """A Qwen2.5-VL that sees pictures of 4 tokens at most; its own settings ask for sampling."""
    import torch
    from transformers import (
        GenerationConfig,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2Tokenizer,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = Qwen2Tokenizer(vocab=_bytes(), merges=[])
    special = _with_special(
        tokenizer,
        [*_CHAT, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"],
    )
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    size = {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        video_processor=Qwen2VLVideoProcessor(size=size),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>"),
    ).save_pretrained(folder)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 2048,
            "initializer_range": 0.5, "eos_token_id": special["<|im_end|>"], "pad_token_id": special["<|endoftext|>"],
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32,
            "fullatt_block_indexes": [1], "window_size": 56, "initializer_range": 0.5,
        },
        image_token_id=special["<|image_pad|>"], video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"], vision_end_token_id=special["<|vision_end|>"],
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=[special["<|im_end|>"], special["<|endoftext|>"]], pad_token_id=special["<|endoftext|>"],
        do_sample=True, temperature=0.5, top_k=3, repetition_penalty=1.05,
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def tiny_internvl(folder: Path) -> Path:
    """An InternVL as transformers has it, which sees pictures of 56 x 56 pixels as 4 tokens."""
    import torch
    from transformers import (
        GenerationConfig,
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
        Qwen2Tokenizer,
    )

    tokenizer = Qwen2Tokenizer(
        vocab=_bytes(),
        merges=[],
        extra_special_tokens={
            "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )  # fmt: skip
    special = _with_special(tokenizer, [*_CHAT, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"])
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    size = {"height": 56, "width": 56}
    InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=True),
        video_processor=InternVLVideoProcessor(size=size),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=_TEMPLATE.replace("PICTURE", "<IMG_CONTEXT>\n"),
    ).save_pretrained(folder)
    config = InternVLConfig(
        vision_config={
            "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": [56, 56], "patch_size": [14, 14], "initializer_range": 0.5,
        },
        text_config={
            "model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.5,
            "max_position_embeddings": 2048, "eos_token_id": special["<|im_end|>"],
            "pad_token_id": special["<|endoftext|>"],
        },
        image_token_id=special["<IMG_CONTEXT>"], image_seq_length=4, downsample_ratio=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = InternVLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=special["<|im_end|>"], pad_token_id=special["<|endoftext|>"]
    )
    model.save_pretrained(folder)
    return folder


def tiny_video_llava(folder: Path) -> Path:
    """A Video-LLaVA that sees frames of 28 x 28 pixels as 5 tokens each, and writes letters and bytes.

    Its processor lies in the files of the published repository: settings of pictures alone, a template beside them.
    """
    import torch
    from transformers import (
        CLIPVisionConfig,
        GenerationConfig,
        LlamaConfig,
        LlamaTokenizer,
        VideoLlavaConfig,
        VideoLlavaForConditionalGeneration,
    )

    letters = [chr(sign) for sign in range(33, 127)]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    tokenizer = LlamaTokenizer(vocab={name: number for number, name in enumerate(names)}, merges=[], pad_token="<unk>")
    special = _with_special(tokenizer, ["<image>", "<video>"])
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "processor_class": "VideoLlavaProcessor"}))
    pictures = {
        "image_processor_type": "VideoLlavaImageProcessor", "processor_class": "VideoLlavaProcessor",
        "crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 28}, "do_center_crop": True,
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    template = (
        "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
        "{% if part['type'] == 'video' %}<video>\n{% elif part['type'] == 'image' %}<image>\n"
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    config = VideoLlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28,
            patch_size=14, initializer_range=0.5, projection_dim=16,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=1024, initializer_range=0.5, eos_token_id=2,
            pad_token_id=0,
        ),
        image_token_index=special["<image>"], video_token_index=special["<video>"], image_seq_length=4,
        video_seq_length=40,
    )  # fmt: skip
    torch.manual_seed(0)
    model = VideoLlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0, bos_token_id=1)
    model.save_pretrained(folder)
    return folder

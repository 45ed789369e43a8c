"""Tiny checkpoints of image models of the true architectures; nothing is downloaded."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from encoders.models.emotion_faces import affectnet_resnet

TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def saved(folder: Path, model: Any, processor: Any) -> Path:
    """A tiny model on disk, its weights large enough that every part of it shows."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_vit(folder: Path) -> Path:
    config = transformers.ViTConfig(**TOWER, image_size=32, patch_size=8, num_labels=7)
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6])
    return saved(folder, transformers.ViTForImageClassification(config), processor)


def write_dinov2(folder: Path) -> Path:
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    processor = transformers.BitImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56})
    return saved(folder, transformers.Dinov2Model(config), processor)


def write_resnet(folder: Path) -> Path:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1])
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 56}, crop_pct=0.875)
    return saved(folder, transformers.ResNetForImageClassification(config), processor)


def write_videomae(folder: Path) -> Path:
    config = transformers.VideoMAEConfig(
        **TOWER, image_size=32, patch_size=16, num_frames=16, decoder_hidden_size=16, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    processor = transformers.VideoMAEImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )  # fmt: skip
    return saved(folder, transformers.VideoMAEForPreTraining(config), processor)


def write_twins(folder: Path) -> tuple[Path, Path]:
    """The same tiny CLIP as transformers and as open_clip save it."""
    size = {"num_hidden_layers": 2, "intermediate_size": 4 * 128, "hidden_size": 128, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**size, "image_size": 64, "patch_size": 16},
        text_config={**size, "vocab_size": 40, "max_position_embeddings": 10}, projection_dim=20,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.CLIPModel(config)
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * {4: 1.0, 2: 0.1, 1: 0.3, 0: 1.0}[parameter.dim()]
    model.save_pretrained(folder / "transformers")
    given = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, **given
    ).save_pretrained(folder / "transformers")

    (folder / "open_clip").mkdir()
    save_file(open_clip_names(model.state_dict()), folder / "open_clip" / "open_clip_model.safetensors")
    vision = {"image_size": 64, "layers": 2, "width": 128, "head_width": 64, "patch_size": 16}
    text = {"context_length": 10, "vocab_size": 40, "width": 128, "heads": 2, "layers": 2}
    written = {
        "model_cfg": {"embed_dim": 20, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": given["image_mean"], "std": given["image_std"]},
    }
    (folder / "open_clip" / "open_clip_config.json").write_text(json.dumps(written))
    return folder / "transformers", folder / "open_clip"


def open_clip_names(state: dict[str, Any]) -> dict[str, Any]:
    """Tensors of transformers' CLIP under the names and in the shapes of open_clip."""
    made = {
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "text_projection": state["text_projection.weight"].T,
        "logit_scale": state["logit_scale"],
    }
    norms = (("visual.ln_pre", "vision_model.pre_layrnorm"), ("visual.ln_post", "vision_model.post_layernorm"),
             ("ln_final", "text_model.final_layer_norm"))  # fmt: skip
    pairs = [(new, old) for new, old in norms]
    for new_tower, old_tower in (("visual.transformer", "vision_model"), ("transformer", "text_model")):
        for layer in range(2):
            new, old = f"{new_tower}.resblocks.{layer}", f"{old_tower}.encoder.layers.{layer}"
            pairs += [(f"{new}.ln_1", f"{old}.layer_norm1"), (f"{new}.ln_2", f"{old}.layer_norm2"),
                      (f"{new}.mlp.c_fc", f"{old}.mlp.fc1"), (f"{new}.mlp.c_proj", f"{old}.mlp.fc2"),
                      (f"{new}.attn.out_proj", f"{old}.self_attn.out_proj")]  # fmt: skip
            for kind in ("weight", "bias"):
                parts = [state[f"{old}.self_attn.{name}_proj.{kind}"] for name in "qkv"]
                made[f"{new}.attn.in_proj_{kind}"] = torch.cat(parts)
    for new, old in pairs:
        for kind in ("weight", "bias"):
            made[f"{new}.{kind}"] = state[f"{old}.{kind}"]
    return {name: tensor.contiguous() for name, tensor in made.items()}


@lru_cache(maxsize=1)
def affectnet_state() -> dict[str, Any]:
    """Random weights under the published names, a classifier of 7 included."""
    torch.manual_seed(0)
    model = affectnet_resnet()
    state = dict(model.state_dict())
    for name, tensor in state.items():
        if tensor.dim() == 1:  # of batch normalisation, and the last bias
            near = 1.0 if name.endswith(("weight", "running_var")) else 0.0
            state[name] = near + 0.2 * torch.rand(tensor.shape)
    return {**state, "fc2.weight": torch.zeros(7, 512), "fc2.bias": torch.zeros(7)}

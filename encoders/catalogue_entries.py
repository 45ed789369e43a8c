"""What the catalogue holds: an entry per encoder, in families that share code; those of one sense lie elsewhere."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from encoders.catalogue_entry import CatalogueEntry
from encoders.catalogue_images import IMAGES
from encoders.catalogue_sounds import SOUNDS
from encoders.catalogue_texts import TEXTS

__all__ = ["ENTRIES"]

_TOKENS = "mean and standard deviation over tokens"
_CLIP = "Radford et al. 2021, arXiv:2103.00020"
_CLAP = "Wu et al. 2023, arXiv:2211.06687"

_EMBEDDED = (
    CatalogueEntry(
        id="face-mesh", modalities=("video",), width=58, factory="encoders.face_mesh:FaceMesh",
        description="22 readable cues of face and head, and 18 aligned points, from 478 MediaPipe landmarks",
        citation="Kartynnik et al. 2019, arXiv:1907.06724; Grishchenko et al. 2020, arXiv:2006.10962",
        licence="Apache-2.0",
    ),
    CatalogueEntry(
        id="egemaps", modalities=("audio",), width=25, factory="encoders.egemaps:EGeMAPS", rate=16_000,
        description="openSMILE eGeMAPSv02 low-level descriptors every 10 ms",
        citation="Eyben et al. 2016, doi:10.1109/TAFFC.2015.2457417",
        licence="openSMILE: free for research and private use; commercial use needs a licence from audEERING",
    ),
    CatalogueEntry(
        id="minilm", modalities=("text", "behavior"), width=384, factory="encoders.minilm:MiniLM", pooling=_TOKENS,
        description="token embeddings of all-MiniLM-L6-v2 over the transcript or the described behaviour",
        citation="Reimers and Gurevych 2019, arXiv:1908.10084; Wang et al. 2020, arXiv:2002.10957",
        licence="Apache-2.0",
    ),
    CatalogueEntry(
        id="minilm-context", modalities=("text",), width=384, factory="encoders.minilm:MiniLMContext", pooling=_TOKENS,
        description="as minilm over the transcript, read after the previous utterances of its dialogue",
        citation="as minilm",
        licence="Apache-2.0",
    ),
    CatalogueEntry(
        id="cue-narrative", modalities=("behavior",), width=384, factory="encoders.cue_narrative:CueNarrative",
        description="measured cues of face, gaze, head and voice put into a checkable paragraph, embedded with minilm",
        citation="vocabulary: González-González et al. 2025, arXiv:2505.19328; embedding as minilm",
        licence="Apache-2.0", pooling=_TOKENS,
    ),
)  # fmt: skip

_both = partial(
    CatalogueEntry, family="CLIP and CLAP", pooling="mean and standard deviation over frames; of texts over tokens",
    licence="MIT",
)  # fmt: skip
_CONTRASTIVE = (
    _both(
        id="openai/clip-vit-base-patch32", modalities=("video", "text", "behavior"), width=512, citation=_CLIP,
        factory={
            "video": "encoders.image_models:ClipImage", "text": "encoders.text_models:ClipText",
            "behavior": "encoders.text_models:ClipText",
        },
        description="projected image embeddings of face crops, or the text tower's token embeddings (77 tokens)",
        revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268", download_mb=605, image_size=224,
    ),
    _both(
        id="open_clip/ViT-B-32/openai", modalities=("video",), width=512, citation=_CLIP,
        factory="encoders.open_clip_models:OpenClipImage", repository="timm/vit_base_patch32_clip_224.openai",
        weights_file="open_clip_model.safetensors", revision="main", download_mb=605, image_size=224,
        description="the same CLIP through open_clip", libraries=("open_clip",),
    ),
    _both(
        id="laion/clap-htsat-fused", modalities=("audio", "text", "behavior"), width=768, citation=_CLAP,
        factory={
            "audio": "encoders.windowed_sound:ClapAudio", "text": "encoders.text_models:ClapText",
            "behavior": "encoders.text_models:ClapText",
        },
        description="HTS-AT before its projection, 32 steps a clip, or the RoBERTa branch's token embeddings",
        revision="cca9e288ab447cee67d9ada1f85ddb46500f1401", download_mb=615, rate=48_000, licence="Apache-2.0",
    ),
    _both(
        id="laion-clap/630k-audioset-fusion", modalities=("audio", "text", "behavior"), width=768, citation=_CLAP,
        factory={
            "audio": "encoders.laion_clap_models:LaionClapAudio", "text": "encoders.laion_clap_models:LaionClapText",
            "behavior": "encoders.laion_clap_models:LaionClapText",
        },
        description="the same CLAP through laion-clap, from its authors' checkpoint", libraries=("laion_clap",),
        repository="lukewys/laion_clap", weights_file="630k-audioset-fusion-best.pt", revision="main",
        download_mb=2360, rate=48_000, licence="CC0-1.0",
    ),
)  # fmt: skip

_FULL_FRAMES = (
    "openai/clip-vit-base-patch32", "google/vit-base-patch16-224", "microsoft/resnet-50", "facebook/dinov2-large",
)  # fmt: skip
_SCENE = tuple(
    replace(
        entry, id=f"scene/{entry.id}", modalities=("behavior",), family="scene", repository=entry.home,
        factory=entry.factory_of("video"), description=f"{entry.description}; whole frames in place of face crops",
        pooling="mean and standard deviation over frames",
    )
    for entry in (*_CONTRASTIVE, *IMAGES)
    if entry.id in _FULL_FRAMES
)  # fmt: skip

ENTRIES = (*_EMBEDDED, *_CONTRASTIVE, *IMAGES, *_SCENE, *SOUNDS, *TEXTS)
"""All encoders; ids are unique, also among `WRITERS`."""

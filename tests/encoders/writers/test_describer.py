"""Descriptions by tiny vision-language models loaded from disk: batches, whole sentences, code that may not run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from encoders.catalogue.checkpoint import Checkpoint
from encoders.config import (
    DESCRIPTION_PROMPTS,
    DescriberConfig,
    FeaturesConfig,
)
from encoders.errors import ExtractionError, Failure, MissingModality
from encoders.media.clip import ClipMedia
from encoders.store.text_store import Written
from encoders.writers.chat import LONGEST_SIDE, messages
from encoders.writers.describer import Describer, whole_sentences
from encoders.writers.fill import fill_texts
from mmpsr.config import ConfigError
from tests.support.media_files import write_media
from tests.support.tiny_writers import tiny_internvl, tiny_qwen

MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"
EAGLE = "nvidia/Eagle2-2B"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
Frames = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("qwen"))


def made(folder: Path, dtype: str = "float32", **changes: object) -> Describer:
    config = DescriberConfig.model_validate(
        {"prompt": "Describe the person.", "num_frames": 2, "max_new_tokens": 12, **changes}
    )
    describer = Describer(config, Checkpoint("features.describer", MODEL, weights=str(folder)), dtype=dtype)
    describer.load()
    return describer


@pytest.fixture(scope="module")
def qwen(qwen_folder: Path) -> Describer:
    return made(qwen_folder)


@pytest.fixture(scope="module")
def internvl(tmp_path_factory: pytest.TempPathFactory) -> Describer:
    return made(tiny_internvl(tmp_path_factory.mktemp("internvl")))


@pytest.fixture
def describer(request: pytest.FixtureRequest) -> Describer:
    found: Describer = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def pictures() -> list[Frames]:
    """Frames of clips of several shapes, the last with one frame less."""
    generator = np.random.default_rng(0)
    shapes = ((2, 40, 60), (2, 90, 30), (2, 40, 60), (1, 56, 56))
    return [list(generator.integers(0, 256, (num, *size, 3), dtype=np.uint8)) for num, *size in shapes]


FAMILIES = pytest.mark.parametrize("describer", ["qwen", "internvl"], indirect=True)


@FAMILIES
def test_a_description_does_not_depend_on_the_batch(describer: Describer, pictures: Sequence[Frames]) -> None:
    together = describer.write(pictures)
    assert together == [describer.write([frames])[0] for frames in pictures]
    assert together[::-1] == describer.write(pictures[::-1])
    assert len({each.text for each in together if isinstance(each, Written)}) == len(pictures)


@FAMILIES
def test_tokens_are_the_likeliest_one_by_one(describer: Describer, pictures: Sequence[Frames]) -> None:
    """Without a cache, without padding, without generation: read everything again for each token."""
    from PIL import Image

    processor, model = describer._processor, describer._model
    chat = processor.apply_chat_template(
        messages(2, "Describe the person."), tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>assistant\n")
    images = [Image.fromarray(frame) for frame in pictures[0]]
    inputs = processor(text=[chat], images=images, return_tensors="pt", **describer._options)
    penalty = model.generation_config.repetition_penalty or 1.0
    tokens: list[int] = []
    read = dict(inputs)
    with torch.inference_mode():
        for _ in range(describer.config.max_new_tokens):
            logits = model(**read).logits[0, -1]
            seen = read["input_ids"][0].unique()
            logits[seen] = torch.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
            tokens.append(int(logits.argmax()))
            more = torch.tensor([[tokens[-1]]])
            read["input_ids"] = torch.cat([read["input_ids"], more], dim=1)
            read["attention_mask"] = torch.ones_like(read["input_ids"])
            if "mm_token_type_ids" in read:
                read["mm_token_type_ids"] = torch.cat([read["mm_token_type_ids"], torch.zeros_like(more)], dim=1)
    assert describer.write([pictures[0]]) == [describer._result(tokens)]


@FAMILIES
def test_frames_and_prompt_matter(describer: Describer, pictures: Sequence[Frames]) -> None:
    (before,) = describer.write([pictures[0]])
    assert describer.write([pictures[0][::-1]]) != [before]
    other = Describer(DescriberConfig(prompt="Who is it then?", max_new_tokens=12), describer.checkpoint)
    other.load()
    assert other.write([pictures[0]]) != [before]


def test_a_frame_is_one_picture(
    internvl: Describer, pictures: Sequence[Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}
    generate = type(internvl._model).generate

    def spy(self: object, **inputs: object) -> object:
        given.update(inputs)
        return generate(self, **inputs)

    monkeypatch.setattr(type(internvl._model), "generate", spy)
    internvl.write(pictures[:2])
    assert given["pixel_values"].shape == (4, 3, 56, 56)  # type: ignore[attr-defined]
    assert given["attention_mask"][0].tolist().count(0) == 0  # type: ignore[index]


def test_half_precision_runs(qwen_folder: Path, pictures: Sequence[Frames]) -> None:
    half = made(qwen_folder, "bfloat16")
    assert next(half._model.parameters()).dtype == torch.bfloat16
    assert all(isinstance(each, Written) for each in half.write(pictures))


def test_answers_end_at_the_end_token_or_with_a_whole_sentence(qwen: Describer) -> None:
    encode, end = qwen._processor.tokenizer.encode, qwen._processor.tokenizer.eos_token_id
    cut = encode("She smiles.  Then\nshe looks down! And th")
    assert qwen._result(cut) == Written("She smiles. Then she looks down!")
    assert qwen._result([*cut, end, *encode(" More."), end]) == Written("She smiles. Then she looks down! And th")
    assert qwen._result(encode("Her gaze wanders and")) == Written("Her gaze wanders and")
    assert qwen._result([end]) == Failure("failed", "the model wrote nothing")


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("A. B", "A."),
        ("A 0.5 mm smile", "A 0.5 mm smile"),
        ('He says "no." Then', 'He says "no."'),
        ("Why?! Well", "Why?!"),
        ("她笑了。然后", "她笑了。"),
        ("Done.", "Done."),
        ("", ""),
    ],
)
def test_whole_sentences(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


def test_frames_are_spread_and_scaled(qwen: Describer, tmp_path: Path) -> None:
    from tests.support.media_files import grey

    shades = [np.repeat(grey(number, 600), 2, axis=1) for number in (0, 10, 20, 30)]
    frames = qwen.prepare(ClipMedia(media=write_media(tmp_path / "a.mkv", shades)))
    assert [frame.shape for frame in frames] == [(LONGEST_SIDE // 2, LONGEST_SIDE, 3)] * 2
    small = qwen.prepare(ClipMedia(media=write_media(tmp_path / "b.mkv", [grey(0), grey(9)])))
    assert [frame.shape for frame in small] == [(32, 32, 3)] * 2
    with pytest.raises(MissingModality, match="no media file"):
        qwen.prepare(ClipMedia())


def test_through_the_store(qwen_folder: Path, qwen: Describer, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    media = [
        write_media(tmp_path / f"{number}.mkv", list(generator.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)))
        for number in range(3)
    ]
    clips = pd.DataFrame({"corpus": "x", "clip_id": list("abcd"), "media": [*map(str, media), pd.NA]})
    asked = {"prompt": "Describe the person.", "num_frames": 2, "max_new_tokens": 12, "batch_size": 2}
    features = FeaturesConfig.model_validate(
        {"store": str(tmp_path / "store"), "describer": asked, "weights": {MODEL: str(qwen_folder)}}
    )
    filled, summary = fill_texts(clips, features, show_progress=False)
    expected = qwen.write([qwen.prepare(ClipMedia(media=path)) for path in media])
    assert filled["description"].tolist() == [*(each.text for each in expected if isinstance(each, Written)), pd.NA]
    assert "language" not in filled
    assert summary.ledger["reason"].tolist() == ["no media file"]
    again = fill_texts(clips, features, show_progress=False).summary.counts["x", "description"]
    assert (again.done, again.reused, again.absent) == (0, 3, 1)


def test_fingerprint_covers_all_that_decides(
    qwen_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fingerprint(weights: Path = qwen_folder, **changes: object) -> str:
        config = DescriberConfig.model_validate(changes)
        return Describer(config, Checkpoint("features.describer", MODEL, weights=str(weights))).spec.fingerprint

    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    different = [
        fingerprint(), fingerprint(prompt="short"), fingerprint(prompt="emotion"), fingerprint(prompt="Who is it?"),
        fingerprint(num_frames=9), fingerprint(max_new_tokens=74), fingerprint(other),
    ]  # fmt: skip
    assert len(set(different)) == len(different)
    assert fingerprint(batch_size=1) == fingerprint() == fingerprint(prompt=DESCRIPTION_PROMPTS["full"])
    monkeypatch.setattr("encoders.writers.describer.LONGEST_SIDE", 224)
    assert fingerprint() not in different


def _with_code(folder: Path, **values: object) -> Path:
    """A checkpoint that transformers does not know, as Eagle2 is: its classes are in files beside the weights."""
    code = {"AutoConfig": "configuration_x.XConfig", "AutoModel": "modeling_x.XModel"}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "eagle_2", "auto_map": code, **values}))
    (folder / "configuration_x.py").write_text("raise SystemExit('this code must not run')")
    return folder


def test_code_of_a_model_runs_only_when_allowed_and_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _with_code(tmp_path / "eagle")
    with pytest.raises(ConfigError) as error:
        Describer(DescriberConfig(model=EAGLE), Checkpoint("features.describer", EAGLE, None, str(folder))).load()
    assert f"features.describer: {EAGLE} runs code that comes with its weights" in str(error.value)
    assert f'features.trust_remote_code = ["{EAGLE}"]' in str(error.value)
    copy = Checkpoint("s", EAGLE, None, str(folder), is_trusted=True)  # cannot change unseen
    assert set(copy.code()) == {"AutoConfig", "AutoModel"}

    def from_hub(revision: str | None, is_trusted: bool = True) -> Checkpoint:
        checkpoint = Checkpoint("features.describer", EAGLE, revision, is_trusted=is_trusted)
        monkeypatch.setattr(Checkpoint, "open", lambda *_: json.loads((folder / "config.json").read_text()))
        return checkpoint

    with pytest.raises(ConfigError, match=r"pin the commit that you read with features\.describer\.revision"):
        from_hub(None, is_trusted=False).code()
    for revision, found in ((None, "none"), ("main", "main"), (COMMIT[:-1], COMMIT[:-1]), (COMMIT + "0", COMMIT + "0")):
        with pytest.raises(
            ConfigError, match=rf"only run at a pinned commit; .* 40 hexadecimal digits \(found {found}\)"
        ):
            from_hub(revision).code()
    assert from_hub(COMMIT).code()
    _with_code(folder, auto_map={"AutoModel": "someone/else--modeling_x.XModel"})
    with pytest.raises(ConfigError, match=r"takes someone/else--modeling_x\.XModel from another repository"):
        from_hub(COMMIT).code()


def test_code_is_not_asked_for_where_transformers_has_the_model(tmp_path: Path) -> None:
    folder = _with_code(tmp_path / "internvl", model_type="internvl")
    assert Checkpoint("s", "x/y", None, str(folder)).code() == {}


def test_allowed_code_is_loaded_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    calls = []

    class Stop(Exception):  # noqa: N818
        pass

    def record(source: str, **options: object) -> None:
        calls.append((source, options))
        raise Stop

    monkeypatch.setattr(Checkpoint, "code", lambda self: {"AutoModelForCausalLM": "modeling_x.XModel"})
    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", record)
    with pytest.raises(Stop):
        Describer(DescriberConfig(model=EAGLE), Checkpoint("s", EAGLE, COMMIT, None, True)).load()
    ((source, options),) = calls
    assert source == EAGLE
    assert options["trust_remote_code"] is True
    assert options["revision"] == options["code_revision"] == COMMIT


def test_a_checkpoint_without_a_chat_template(qwen_folder: Path, tmp_path: Path) -> None:
    for path in qwen_folder.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ExtractionError, match="has no processor with a chat template that takes pictures"):
        made(tmp_path)


def test_a_checkpoint_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    with pytest.raises(ExtractionError, match=rf'features.weights."{MODEL}" names .* which cannot be loaded'):
        made(tmp_path)


def test_weights_that_lack_a_tensor(qwen_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in qwen_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["visual.blocks.0.norm1.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExtractionError, match=r"lacks 1 tensors of Qwen2_5_VL.*, the first of them .*norm1"):
        made(tmp_path)


def test_prompts() -> None:
    for prompt in DESCRIPTION_PROMPTS.values():
        assert "75 tokens" in prompt
    for name, parts in {
        "full": ("expert", "personality", "ambivalence", "gaze", "posture", "cue"), "emotion": ("emotional",)
    }.items():  # fmt: skip
        assert all(part in DESCRIPTION_PROMPTS[name] for part in parts)
    assert "personality" not in DESCRIPTION_PROMPTS["emotion"]

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from encoders.config import FeaturesConfig
from encoders.creation import CATALOGUE, create_encoder
from encoders.device import DeviceEncoder
from encoders.errors import EncodingError, ExtractionError, MissingModality
from encoders.media.clip import ClipMedia
from encoders.models.text import BATCH_TOKENS, token_windows
from mmpsr.config import ConfigError
from tests.support import tiny_checkpoints as tiny

SENTENCE = "Maybe I could stop, but it is hard to say."
FAMILIES = {
    "google-bert/bert-base-uncased": lambda folder: tiny.write_text_model(folder, "bert"),
    "SamLowe/roberta-base-go_emotions": lambda folder: tiny.write_text_model(folder, "roberta"),
    "FacebookAI/xlm-roberta-large": lambda folder: tiny.write_text_model(folder, "xlm-roberta"),
    "openai/clip-vit-base-patch32": tiny.write_clip,
    "laion/clap-htsat-fused": tiny.write_clap,
}
LIMITS = {
    "google-bert/bert-base-uncased": 40, "SamLowe/roberta-base-go_emotions": 38, "FacebookAI/xlm-roberta-large": 38,
    "openai/clip-vit-base-patch32": 20, "laion/clap-htsat-fused": 38,
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("weights")
    return {name: write(home / str(number)) for number, (name, write) in enumerate(FAMILIES.items())}


def loaded(folders: dict[str, Path], name: str, modality: str = "text", dtype: str = "float32") -> DeviceEncoder:
    encoder = create_encoder(name, modality, FeaturesConfig(weights={name: str(folders[name])}))
    assert isinstance(encoder, DeviceEncoder)
    encoder.dtype = dtype
    encoder.load()
    return encoder


def rows_of(encoder: DeviceEncoder, *texts: str | None) -> list[Any]:
    return encoder.encode([ClipMedia(text=text) for text in texts])


def direct(name: str, folder: Path, text: str) -> NDArray[np.float32]:
    """The last hidden state by transformers' own tower classes, one text, without padding."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    if "clip" in name:
        model: Any = transformers.CLIPModel.from_pretrained(folder).eval()
        states = model.text_model(**tokens)[0]
    elif "clap" in name:
        states = transformers.ClapModel.from_pretrained(folder).eval().text_model(**tokens)[0]
    else:
        classes = {"bert": transformers.BertModel, "xlm": transformers.XLMRobertaModel}
        kind = next((made for part, made in classes.items() if f"/{part}" in name), transformers.RobertaModel)
        states = kind.from_pretrained(folder).eval()(**tokens)[0]
    result: NDArray[np.float32] = states[0, 1:-1].detach().numpy()  # without the two special tokens
    return result


@pytest.mark.parametrize("name", FAMILIES)
def test_equals_transformers_used_directly(folders: dict[str, Path], name: str) -> None:
    encoder = loaded(folders, name)
    assert encoder.width == tiny.WIDTH
    (rows,) = rows_of(encoder, SENTENCE)
    assert rows.dtype == np.float32
    assert rows.shape == (12, tiny.WIDTH)  # ten words, a comma, a full stop
    np.testing.assert_allclose(rows, direct(name, folders[name], SENTENCE), atol=1e-5)
    (other,) = rows_of(encoder, SENTENCE.replace("stop", "change"))
    assert np.abs(other - rows).max() > 0.01


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_does_not_depend_on_its_batch(folders: dict[str, Path], name: str) -> None:
    encoder = loaded(folders, name)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(tiny.WORDS[:13], size=size)) for size in rng.integers(1, 17, 30)]
    together = rows_of(encoder, *texts)
    assert [len(rows) for rows in together] == [len(text.split()) for text in texts]
    for index in (0, 7, 29):
        (alone,) = rows_of(encoder, texts[index])
        assert np.abs(together[index] - alone).max() < 1e-5
    assert BATCH_TOKENS > 30 * 19  # it was one batch


def test_batches_keep_the_order(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = loaded(folders, "google-bert/bert-base-uncased")
    texts = ["maybe " * 9, "stop", "hard hard", "it is " * 8]
    before = rows_of(encoder, *texts)
    monkeypatch.setattr("encoders.models.text.BATCH_TOKENS", 12)
    for rows, expected in zip(rows_of(encoder, *texts), before, strict=True):
        np.testing.assert_allclose(rows, expected, atol=1e-5)


WORDS = ("maybe", "i", "could", "stop", "it", "is", "hard")


@pytest.mark.parametrize("name", FAMILIES)
def test_long_texts_are_read_whole_in_windows(folders: dict[str, Path], name: str) -> None:
    encoder = loaded(folders, name)
    most = LIMITS[name] - 2
    words = np.random.default_rng(0).choice(WORDS, 3 * most + 1).tolist()
    long = ClipMedia(text=" ".join(words))
    (rows,) = encoder.encode([long])
    windows = token_windows(len(words), most)
    assert len(windows) > 3
    alone = rows_of(encoder, *(" ".join(words[window]) for window, _ in windows))
    expected = [
        part[taken.start - window.start : taken.stop - window.start]
        for part, (window, taken) in zip(alone, windows, strict=True)
    ]
    np.testing.assert_allclose(np.asarray(rows), np.concatenate(expected), atol=1e-5)
    fits, other = rows_of(encoder, " ".join(words[:most]), " ".join([*words[:-1], "no"]))
    assert len(fits) == most
    assert np.abs(other[-1] - np.asarray(rows)[-1]).max() > 1e-4, "the end of the text is not read"


@given(st.integers(1, 2000), st.integers(1, 300))
def test_windows_take_every_token_once(num_tokens: int, most: int) -> None:
    windows = token_windows(num_tokens, most)
    taken = [index for _, part in windows for index in range(num_tokens)[part]]
    assert taken == list(range(num_tokens))
    for window, part in windows:
        assert window.start <= part.start < part.stop <= window.stop <= num_tokens
        assert window.stop - window.start <= most
        assert part.start - window.start >= (most // 4) // 2 or part.start == 0  # no token next to a cut
        assert window.stop - part.stop >= (most // 4) // 2 or part.stop == num_tokens
    if num_tokens > most:
        assert len(windows) <= 2 + (num_tokens - most) // max(1, most - most // 4)


def test_a_tokenizer_may_read_less_at_once(folders: dict[str, Path], tmp_path: Path) -> None:
    name = "google-bert/bert-base-uncased"
    shutil.copytree(folders[name], tmp_path / "bert")
    settings = json.loads((tmp_path / "bert" / "tokenizer_config.json").read_text())
    (tmp_path / "bert" / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 6}))
    encoder = loaded({name: tmp_path / "bert"}, name)
    assert isinstance(encoder, DeviceEncoder)
    prepared = encoder.prepare(ClipMedia(text="maybe i could stop it"))
    assert prepared.arrays["input_ids"].shape == (2, 6)
    assert prepared.arrays["own"].sum() == 5


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.01), ("bfloat16", 0.1)])
def test_half_precision_is_near(folders: dict[str, Path], name: str, dtype: str, tolerance: float) -> None:
    (exact,) = rows_of(loaded(folders, name), SENTENCE)
    (rows,) = rows_of(loaded(folders, name, dtype=dtype), SENTENCE)
    assert rows.dtype == np.float32
    assert 0 < np.abs(rows - exact).max() < tolerance * np.abs(exact).max()


def test_each_modality_reads_its_text(folders: dict[str, Path]) -> None:
    name = "google-bert/bert-base-uncased"
    clip = ClipMedia(text="maybe", description="i could stop")
    transcript, description = (loaded(folders, name, modality).encode([clip])[0] for modality in ("text", "behavior"))
    assert (len(np.asarray(transcript)), len(np.asarray(description))) == (1, 3)


def test_missing_and_empty_texts(folders: dict[str, Path]) -> None:
    encoder = loaded(folders, "google-bert/bert-base-uncased")
    none, blank, rows = rows_of(encoder, None, "  ", "stop")
    assert isinstance(none, MissingModality)
    assert str(none) == "no transcript"
    assert isinstance(blank, MissingModality)
    assert str(blank) == "empty transcript"
    assert rows.shape == (1, tiny.WIDTH)


def test_a_model_that_reads_special_tokens_alone_is_a_failure(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder: Any = loaded(folders, "google-bert/bert-base-uncased")
    rows_of(encoder, "stop")  # opens the tokenizer
    monkeypatch.setattr(encoder, "_tokenizer", (encoder._tokenizer[0], 2))  # the special tokens alone
    (failure,) = rows_of(encoder, "stop it")
    assert isinstance(failure, EncodingError)
    assert "reads 2 tokens at once, all of them special ones" in str(failure)


def test_preparing_needs_no_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    name = "google-bert/bert-base-uncased"
    for path in folders[name].iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    encoder = create_encoder(name, "text", FeaturesConfig(weights={name: str(tmp_path)}))
    assert isinstance(encoder, DeviceEncoder)
    prepared = encoder.prepare(ClipMedia(text="maybe stop."))
    assert prepared.length == 5
    assert prepared.arrays["input_ids"].tolist() == [[2, 4, 7, 17, 3]]  # [CLS] maybe stop . [SEP]
    assert prepared.arrays["own"].tolist() == [[False, True, True, True, False]]


def test_a_folder_without_the_tokenizers_files_is_an_error(folders: dict[str, Path], tmp_path: Path) -> None:
    name = "google-bert/bert-base-uncased"
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((folders[name] / file).read_bytes())
    encoder = create_encoder(name, "text", FeaturesConfig(weights={name: str(tmp_path)}))
    assert isinstance(encoder, DeviceEncoder)
    with pytest.raises(ExtractionError, match=r"holds no vocabulary; the tokenizer's files \(tokenizer\.json; vocab"):
        encoder.prepare(ClipMedia(text="maybe"))


JINA = "jinaai/jina-embeddings-v3"


def test_code_of_a_repository_runs_only_where_it_is_allowed(tmp_path: Path) -> None:
    weights = {JINA: str(tiny.write_jina(tmp_path / "jina"))}
    refused = (
        r"features\.encoders\.text: 'jinaai/jina-embeddings-v3' runs code that comes with its weights; to allow that, "
        r'read the code and set features\.trust_remote_code = \["jinaai/jina-embeddings-v3"\]'
    )
    with pytest.raises(ConfigError, match=refused + "$"):
        create_encoder(JINA, "text", FeaturesConfig(weights=weights))
    with pytest.raises(ConfigError, match=refused + r" \(revision f1944d\w{34} is used\)$"):
        create_encoder(JINA, "text", FeaturesConfig())
    with pytest.raises(ConfigError, match="runs code"):
        create_encoder(JINA, "text", FeaturesConfig(weights=weights, trust_remote_code=("jinaai/jina-embeddings-v4",)))
    with pytest.raises(ConfigError, match="runs code"):
        create_encoder(JINA, "text")


def test_jina_gives_one_embedding_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    weights = {JINA: str(tiny.write_jina(tmp_path / "jina"))}
    encoder = create_encoder(JINA, "text", FeaturesConfig(weights=weights, trust_remote_code=(JINA,)))
    encoder.load()
    assert encoder.pooling == "none"
    short, none, long = encoder.encode([ClipMedia(text=text) for text in ("Née?", None, "Maybe")])
    np.testing.assert_array_equal(np.asarray(short), [[8, 8, 8]])  # four letters times 2
    assert isinstance(none, MissingModality)
    np.testing.assert_array_equal(np.asarray(long), [[10, 10, 10]])


def test_all_entries_with_code_are_pinned() -> None:
    entries = [entry for entry in CATALOGUE.values() if entry.remote_code]
    assert [entry.id for entry in entries] == [JINA, "jinaai/jina-embeddings-v4"]
    for entry in entries:
        assert len(str(entry.revision)) == 40
    encoder = create_encoder(JINA, "text", FeaturesConfig(trust_remote_code=(JINA,)))
    assert encoder.settings()["code_revision"] == "2b6bc3f30750b3a9648fe9b63448c09920efe9be"  # its code lies elsewhere

"""The configuration file published with SCD-MMPSR, read as it is.

Its corpora become table corpora, and settings with a counterpart here are carried over. Every other setting that would
have changed something is told with the reason, once; those that ask for what happens anyway are not.

References:
    Semi-Supervised Cross-Domain Learning Framework for Multitask Multimodal Psychological States Recognition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from corpora.clips import SPLITS
from mmpsr.config import ConfigError, find_config, flat, load_config, nearest, put, read_toml, resolve
from mmpsr.tasks import EMOTION, PERSONALITY
from training.config import InTimeConfig, RunConfig, is_in_time

__all__ = ["is_published", "load_any_config", "load_run_config", "translate"]

_COPIED: Mapping[str, tuple[str, ...]] = {
    "train.general.random_seed": ("training.seed",),
    "train.general.batch_size": ("training.batch_size",),
    "train.general.num_epochs": ("training.num_epochs",),
    "train.general.max_patience": ("training.patience",),
    "train.model.hidden_dim": ("model.hidden_width",),
    "train.model.out_features": ("model.head_width",),
    "train.model.num_transformer_heads": ("model.num_heads",),
    "train.model.dropout": ("model.dropout",),
    "train.losses.ssl_confidence_threshold_emo_ah": (
        "tasks.specs.emotion.threshold",
        "tasks.specs.ambivalence.threshold",
    ),
    "train.losses.ssl_confidence_threshold_pt": ("tasks.specs.personality.threshold",),
    "train.losses.alpha_sup": ("balancing.alpha_supervised",),
    "train.losses.alpha_ssl": ("balancing.alpha_pseudo",),
    "train.losses.w_lr_sup": ("balancing.rate_supervised",),
    "train.losses.w_lr_ssl": ("balancing.rate_pseudo",),
    "train.losses.lambda_ssl": ("balancing.pseudo_weight",),
    "train.losses.w_floor": ("balancing.weight_floor",),
    "train.optimizer.lr": ("training.lr",),
    "train.optimizer.weight_decay": ("training.weight_decay",),
}
"""Published setting -> ours with the same meaning and unit."""

_WORDS: Mapping[str, tuple[str, Mapping[object, object]]] = {
    "train.optimizer.optimizer": ("training.optimizer", {"adam": "adam", "adamw": "adamw"}),
    "train.scheduler.scheduler_type": ("training.scheduler", {"none": "none", "plateau": "plateau"}),
    "train.losses.emotion_loss_type": (
        "tasks.specs.emotion.loss",
        {"CE": "cross_entropy", "BCE": "binary_cross_entropy"},
    ),
    "train.losses.pers_loss_type": ("tasks.specs.personality.loss", {"mae": "mae", "mse": "mse"}),
    "ablation.use_graph": ("model.graph", {True: "ucgnn", False: "none"}),
    "ablation.use_attention": ("model.attention", {True: "mha", False: "none"}),
    "ablation.use_guidebank": ("model.guide_bank", {True: True, False: False}),
    "ablation.use_task_projectors": ("model.task_projectors", {True: True, False: False}),
}
"""Published setting -> ours, and our word by theirs."""

_SAME: Mapping[str, object] = {
    "train.general.early_stop_on": "dev",
    "train.general.search_type": "none",
    "train.general.subset_size": 0,
    "train.general.save_best_model": True,
    "train.model.per_activation": "sigmoid",
    "train.losses.weight_emotion": 1.0,
    "train.losses.weight_pers": 1.0,
    "train.losses.weight_ah": 1.0,
    "train.losses.flag_emo_weight": False,
    "dataloader.shuffle": True,
    "dataloader.prepare_only": False,
    "embeddings.average_features": "mean_std",
}
"""Published setting -> the value that asks for what is done here anyway."""

_ENCODERS = "the published encoders are not available; features.encoders names those that are used"
_REASONS: Mapping[str, str] = {
    "train.general.early_stop_on": "test never chooses; dev is used",
    "train.general.search_type": "one run is trained, with the values of this file",
    "train.general.subset_size": "all clips are used; a fraction of a corpus' split may be set",
    "train.general.device": "accelerate launch chooses the device",
    "train.general.save_feature_path": "features.store is the folder of the features",
    "train.general.checkpoint_dir": "output.directory is the folder of all runs",
    "train.general.selection_metric": "epochs are chosen by the mean of the dev metrics over tasks",
    "train.model.model_name": "there is one model, that of the paper",
    "train.losses.flag_emo_weight": "objective.class_weights weighs classes by the corpora that are read",
    "train.optimizer.optimizer": "not available; training.optimizer stays as it is",
    "train.scheduler.scheduler_type": "not available; training.scheduler stays as it is",
    "dataloader.num_workers": "features.num_workers counts the processes that encode",
    "dataloader.prepare_only": "encoders/run.py extracts features alone",
    "embeddings.video_extractor": _ENCODERS,
    "embeddings.audio_extractor": _ENCODERS,
    "embeddings.text_extractor": _ENCODERS,
    "embeddings.behavior_extractor": _ENCODERS,
}
"""Published setting -> why it is not carried over."""

_MODALITIES: Mapping[str, str] = {
    "video": "video", "face": "video", "audio": "audio", "text": "text", "behavior": "behavior",
}  # fmt: skip
_TASKS: Mapping[str, str] = {"emotion": "emotion", "personality": "personality", "ah": "ambivalence"}

_CORPORA: Mapping[str, tuple[str, dict[str, Any]]] = {
    "cmu_mosei": (
        "emotion",
        {
            "labels": {"emotion": list(EMOTION.classes)},
            "group": {"column": "video_name", "pattern": r"^(.+?)(?:_-?[0-9.]+_-?[0-9.]+)?$"},
            "group_kind": "video",
            "language": "en",
        },
    ),
    "fiv2": (
        "personality",
        {
            "labels": {"personality": list(PERSONALITY.classes)},
            "group": {"column": "video_name", "pattern": r"^(.+?)(?:[.][^.]*)?$"},
            "group_kind": "video",
            "language": "en",
        },
    ),
    "bah": (
        "ambivalence",
        {
            "labels": {"ambivalence": {"absent": "absence_full", "present": "presence_full"}},
            "group": {"column": "video_name", "pattern": r"^(.+?)(?:_Question_.*)?$"},
            "group_kind": "participant",
        },
    ),
}
"""Published corpus -> its task, and its columns as a table corpus; a clip of BAH without question is its own group."""

_PATHS = ("base_dir", "csv_path", "video_dir", "audio_dir")
_FRACTIONS = {split: f"{split}_fraction" for split in SPLITS}


def is_published(tree: Mapping[str, Any]) -> bool:
    """Tell whether a file has the published form: `[datasets.<name>]` at its top, which no file of ours has."""
    return isinstance(tree.get("datasets"), Mapping) and "corpora" not in tree


def load_run_config(path: str | Path, settings: Iterable[str] = ()) -> tuple[RunConfig, list[str]]:
    """Load a run's configuration, of our form or the published one.

    Args:
        path: TOML file.
        settings: `section.key=value` in our words, over the file.

    Returns:
        The configuration, and what to tell about settings that were not carried over.

    Raises:
        ConfigError: see `mmpsr.config.load_config`; also where the published form names no path or an unknown corpus.
    """
    path, settings = find_config(path), list(settings)
    tree = read_toml(path)
    if is_in_time(tree, settings):
        raise ConfigError(
            f"{path} is of a model in time (model.kind), which this command does not take; train, extract and doctor do"
        )
    if not is_published(tree):
        return load_config(RunConfig, path, settings), []
    sections, notes = translate(tree, Path(path))
    config = resolve(RunConfig, sections, settings, f"{path}, in our words")
    title = f"{path} has the published form; of its settings these are not carried over:"
    return config, [title, *(f"  {note}" for note in notes)] if notes else []


def load_any_config(path: str | Path, settings: Iterable[str] = ()) -> tuple[RunConfig | InTimeConfig, list[str]]:
    """Load a run's configuration as `load_run_config` does, or that of a model in time, by the kind of its model."""
    path, settings = find_config(path), list(settings)
    if is_in_time(read_toml(path), settings):
        return load_config(InTimeConfig, path, settings), []
    return load_run_config(path, settings)


def translate(tree: Mapping[str, Any], path: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Translate the published form into our sections, and a sentence per setting that is not carried over.

    Args:
        tree: the file's content.
        path: the file; paths in it are relative to its folder.

    Raises:
        ConfigError: a corpus is not known, or its paths are missing or no text.
    """
    sections: dict[str, dict[str, Any]] = {}
    notes = list(_settings(sections, flat({key: value for key, value in tree.items() if key != "datasets"}).items()))
    description = _get(tree, "dataloader.text_description_column", "text_llm")
    sources: dict[str, Any] = {}
    for name, entry in tree["datasets"].items():
        place = f"{path}: datasets.{name}"
        if name not in _CORPORA:
            raise ConfigError(f"{place}: no published corpus is named {name!r}; {nearest(name, _CORPORA)}")
        if not isinstance(entry, Mapping):
            raise ConfigError(f"{place} is a value, not a section")
        known = (*_PATHS, *_FRACTIONS.values())
        notes += [f"datasets.{name}.{key} = {value!r}" for key, value in entry.items() if key not in known]
        sources[name] = _source(place, name, entry, description, path.parent)
    sections["corpora"] = {"root": str(path.parent), "sources": sources}
    off = _names(path, tree, "ablation.disabled_modalities", _MODALITIES, ())
    off |= {name for name in _MODALITIES.values() if _get(tree, f"embeddings.{name}_extractor", "") == "off"}
    sections["data"] = {"modalities": [name for name in dict.fromkeys(_MODALITIES.values()) if name not in off]}
    wanted = _names(path, tree, "ablation.active_tasks", _TASKS, tuple(_TASKS))
    tasks = [_CORPORA[name][0] for name in sources]
    sections.setdefault("tasks", {})["active"] = [task for task in _TASKS.values() if task in tasks and task in wanted]
    return sections, notes


def _settings(sections: dict[str, dict[str, Any]], leaves: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Put settings with a counterpart into `sections`; a sentence for each of the others."""
    handled = ("dataloader.text_description_column", "ablation.disabled_modalities", "ablation.active_tasks")
    for key, value in leaves:
        ours, words = _WORDS.get(key, ("", {}))
        targets = _COPIED.get(key, ())
        if isinstance(value, (str, bool)) and value in words:
            targets, value = (ours,), words[value]
        for target in targets:
            put(sections, target.split("."), value, key)
        is_off = key.endswith("_extractor") and value == "off"
        is_same = key in _SAME and type(value) in (type(_SAME[key]), int) and value == _SAME[key]
        if not (targets or is_off or is_same or key in handled):
            yield f"{key} = {value!r}" + (f": {_REASONS[key]}" if key in _REASONS else "")


def _source(place: str, name: str, entry: Mapping[str, Any], description: object, folder: Path) -> dict[str, Any]:
    """Declare one published corpus as a table corpus."""
    for key in _PATHS:
        if key in entry and not isinstance(entry[key], str):
            raise ConfigError(f"{place}.{key}: expected text, found {entry[key]!r}")
        if key not in entry and key in ("base_dir", "csv_path"):
            raise ConfigError(f"{place}.{key} is missing")
    shares = {split: entry.get(key, 1.0) for split, key in _FRACTIONS.items()}
    table = entry["csv_path"].replace("{base_dir}", entry["base_dir"])
    files = {split: table.replace("{split}", split) for split in SPLITS if shares[split] != 0.0}
    there = {split: file for split, file in files.items() if (folder / file).is_file()}
    source: dict[str, Any] = {
        "adapter": "table", "files": there or files, "id": "video_name", "text": "text", "description": description,
        "shares": {split: share for split, share in shares.items() if split in files and share != 1.0},
        **_CORPORA[name][1],
    }  # fmt: skip
    base = entry["base_dir"].replace("{", "{{").replace("}", "}}")  # no template's field
    for column, key in (("media", "video_dir"), ("audio_media", "audio_dir")):
        if key in entry:
            source[column] = entry[key].replace("{base_dir}", base).rstrip("/") + "/{video_name}"
    return source


def _get(tree: Mapping[str, Any], key: str, default: Any) -> Any:
    for part in key.split("."):
        tree = tree.get(part, {}) if isinstance(tree, Mapping) else {}
    return default if isinstance(tree, Mapping) else tree


def _names(
    path: Path, tree: Mapping[str, Any], key: str, ours: Mapping[str, str], default: tuple[str, ...]
) -> set[str]:
    """Find our words for a setting that lists theirs."""
    names = _get(tree, key, default)
    for name in names if isinstance(names, (list, tuple)) else [names]:
        if not isinstance(name, str) or name not in ours:
            raise ConfigError(f"{path}: {key}: {name!r} is not known; {nearest(str(name), ours)}")
    return {ours[name] for name in ([names] if isinstance(names, str) else names)}

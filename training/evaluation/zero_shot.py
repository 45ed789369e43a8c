"""Figures of class texts on labelled clips; nothing is fitted to these, and no run is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from encoders.config import FeaturesConfig
from mmpsr.config import ConfigError
from mmpsr.prototypes.texts import SHIPPED, WORDINGS, Wording
from mmpsr.tasks import TaskSpec
from training.class_texts.zero_shot import read_zero_shot, with_text_encoder
from training.config import RunConfig
from training.data.joined import JoinedCorpora
from training.data.selection import require_metrics
from training.evaluation.cross_corpus import join_clips, predict_fresh, read_clips
from training.evaluation.evaluate import blank_findings
from training.evaluation.figures import evaluate_run, finite, metric_rows, split_parts
from training.published_config import load_run_config
from training.runs.trained import TrainedModel

__all__ = ["USUAL", "ZeroShotOptions", "evaluate_zero_shot"]

USUAL = "the usual ones together"
"""What the wordings that are compared by default are called."""
_PLACE = Path("class texts")


@dataclass(frozen=True)
class ZeroShotOptions:
    """What is evaluated.

    Attributes:
        config: TOML file of corpora, the text encoder and declarations of tasks.
        settings: `section.key=value` over it.
        task_texts: names of texts that ship, or files; where empty, the configuration's active tasks that have texts.
        encoder: text encoder; None for the configuration's.
        wordings: in place of the usual ones.
        each_wording: whether to evaluate each wording alone, too.
        corpora: only these; empty for all.
        split: by default test, and dev of corpora without labelled test clips.
        by: column of the clip table by whose values figures are told apart.
    """

    config: Path
    settings: Sequence[str] = ()
    task_texts: Sequence[str] = ()
    encoder: str | None = None
    wordings: Sequence[Wording] | None = None
    each_wording: bool = False
    corpora: Sequence[str] = ()
    split: str | None = None
    by: str | None = None


def evaluate_zero_shot(options: ZeroShotOptions) -> dict[str, Any]:
    """Evaluate tasks of class texts.

    Returns:
        What `training.evaluation.evaluate.evaluate` gives of a run, as far as there is any, and `zero_shot`: by task
        what its numbers rest on; `wordings`, where each is evaluated alone: rows with `wordings`, `compared` (by
        modality), the place, `metric`, `num_clips`, `value, low, high` and `chance`.

    Raises:
        ConfigError: the configuration or texts cannot be used.
        CorpusError: nor a corpus of it.
        RunError: there is no labelled clip.
    """
    console, accelerator = Console(stderr=True), Accelerator()
    config, notes = load_run_config(options.config, options.settings)
    for note in notes:
        console.print(note, highlight=False, markup=False)
    declared = config.tasks.resolve()
    sources = options.task_texts or _with_texts(declared)
    features = with_text_encoder(config.features, options.encoder, config.data.modalities)
    trained = _model(sources, config, features, declared, options.wordings)
    require_metrics(config.corpora, trained.tasks)
    clips = read_clips(trained, trained.config, options.corpora, options.split, console, declared)
    joined = join_clips(trained, features, clips, accelerator, console)
    run = predict_fresh(trained, _PLACE, joined, trained.config.corpora)
    findings = list(blank_findings(split_parts(run, options.split)))
    document = {
        "run": None, "config": str(options.config),
        "zero_shot": {task: trained.statement(task) for task in trained.tasks},
        "leakage": {"checked": False, "findings": findings, "effects": []},
        **evaluate_run(run, options.split, options.by), "whole": None, "aggregated": [], "subsets": [], "adapted": [],
        "correlations": [],
    }  # fmt: skip
    if options.each_wording:
        models = _each_wording(sources, config, features, declared)
        document["wordings"] = [
            row for name, model in models for row in _wording_rows(name, model, joined, options.split)
        ]
    return document


def _with_texts(declared: Mapping[str, TaskSpec]) -> list[str]:
    """List the active tasks that have texts, of their own or those that ship."""
    names = [name for name, spec in declared.items() if spec.texts is not None or name in SHIPPED]
    if not names:
        raise ConfigError(
            f"none of the active tasks {', '.join(declared)} has texts; name some with --task-texts, or declare "
            "tasks.specs.<task>.texts"
        )
    return names


def _model(
    sources: Sequence[str], config: RunConfig, features: FeaturesConfig, declared: Mapping[str, TaskSpec],
    wordings: Sequence[Wording] | None,
) -> TrainedModel:  # fmt: skip
    zero_shot = read_zero_shot(sources, features, declared=declared, wordings=wordings)
    return TrainedModel.of_texts(zero_shot, config, features)


def _each_wording(
    sources: Sequence[str], config: RunConfig, features: FeaturesConfig, declared: Mapping[str, TaskSpec]
) -> Iterator[tuple[str, TrainedModel]]:
    """Make a model of each wording that a task has, then of the usual ones together, task by task."""
    for source in sources:
        for kind in WORDINGS:
            try:
                yield kind, _model([source], config, features, declared, (kind,))
            except ConfigError:  # it has no such texts; that they can be read at all has been seen before
                continue
        yield USUAL, _model([source], config, features, declared, None)


def _wording_rows(name: str, model: TrainedModel, joined: JoinedCorpora, split: str | None) -> Iterator[dict[str, Any]]:
    assert model.zero_shot is not None
    kept = {modality: joined.features[modality] for modality in model.modalities}
    columns = [list(joined.features).index(modality) for modality in model.modalities]
    own = JoinedCorpora(joined.clips, kept, joined.presence[:, columns], joined.labels)
    run = predict_fresh(model, _PLACE, own, model.config.corpora)
    for part in split_parts(run, split):
        compared = model.zero_shot.wordings[part.task]
        compared = {name: kinds for name, kinds in compared.items() if part.clips[f"present.{name}"].any()}
        if not compared:
            continue
        for row in metric_rows(part):
            yield {
                "wordings": name, "compared": {key: list(kinds) for key, kinds in compared.items()}, **part.key,
                "metric": row.metric, "num_clips": row.num_clips, "num_groups": row.num_groups, **asdict(row.model),
                "chance": finite(part.chance(row.metric)),
            }  # fmt: skip

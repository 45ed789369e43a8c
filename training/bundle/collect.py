"""What a bundle says of a finished run, gathered from the run's directory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pandas as pd

from corpora.clips import SPLITS
from corpora.registry import CorporaConfig
from encoders.config import FeaturesConfig
from encoders.errors import ExtractionError
from encoders.extraction.read import encoder_specs
from encoders.spec import EncoderSpec
from mmpsr.config import ConfigError
from mmpsr.files import read_json_lines
from mmpsr.layers.standardizer import Standardizer
from mmpsr.models.base import FusionModel
from training.bundle.format import (
    FEATURES,
    FORMAT_VERSION,
    Bundle,
    BundledCorpus,
    BundledEncoder,
    BundledFigure,
    Interval,
    TrainingSummary,
)
from training.evaluation.figures import evaluate_run
from training.runs.directory import RunError, read_json
from training.runs.origin import Origin, run_origin
from training.runs.stored import RunPredictions
from training.runs.trained import TrainedModel
from training.scoring.rows import Estimate, MetricRow

__all__ = ["LICENCES", "collect_bundle", "installed_spec", "vector_widths"]

LICENCES: Mapping[str, str] = {
    "mosei": "CMU-MOSEI: research use on the terms of its makers; the videos belong to those who published them",
    "fiv2": "ChaLearn First Impressions V2: research use on the terms of its makers; the videos belong to those who "
    "published them",
    "bah": "BAH: end-user licence agreement, signed with its makers; each participant decides on use in challenges "
    "and in publications",
    "meld": "MELD: annotations GPL-3.0; scenes of a television series, which belong to its makers",
    "audformat": "an audformat database; `license` and `usage` of its db.yaml say what its makers ask",
    "table": "a table of the user's own, whose terms are known to who trained the model",
}
"""What the owners of a corpus ask, by adapter, in a line; their own pages decide."""
DEMO = (
    "made by a program for demonstration, from one public-domain portrait and a synthetic voice; no licence is needed"
)


def collect_bundle(run: Path, trained: TrainedModel) -> Bundle:
    """Collect everything of `bundle.json` but the sums.

    Args:
        run: run directory.
        trained: its model.

    Raises:
        RunError: it is not a finished run.
    """
    stored, config = RunPredictions.read(run), trained.config
    corpora = _corpora(config.corpora, stored.table, trained.origin or run_origin(run, config.corpora))
    tasks = config.tasks.model_copy(
        update={"specs": {task: spec.model_dump(mode="json") for task, spec in trained.tasks.items()}}
    )
    features = FeaturesConfig(**{name: getattr(trained.features, name) for name in FEATURES})
    return Bundle(
        format_version=FORMAT_VERSION,
        name=f"{run.resolve().parent.name}/{run.resolve().name}",
        modalities=trained.modalities,
        config=config.model_copy(update={"tasks": tasks, "features": features}),
        encoders={name: _encoder(name, trained) for name in trained.modalities},
        calibration=trained.calibration,
        training=_training(run, trained.model),
        corpora=corpora,
        is_demo=bool(corpora) and all(corpus.generated for corpus in corpora.values()),
        figures=_figures(stored, read_json(run, "results.json")),
        versions=read_json(run, "versions.json"),
        sha256={},
    )


def vector_widths(trained: TrainedModel) -> dict[str, int]:
    """Count the width of each modality's vectors, in the model's order."""
    standardizers = trained.model.standardizers
    return {name: len(cast(Standardizer, standardizers[name]).mean) for name in trained.modalities}


def installed_spec(features: FeaturesConfig, modality: str) -> EncoderSpec:
    """Describe the encoder of a modality that is installed here.

    Raises:
        ConfigError: there is no such encoder.
        ExtractionError: it cannot be used.
    """
    only = features.model_copy(update={"encoders": {modality: features.encoders[modality]}, "sequences": {}})
    return encoder_specs(only)[modality]


def _encoder(modality: str, trained: TrainedModel) -> BundledEncoder:
    """Note an encoder; version, pooling and settings if what is installed is still what made the vectors."""
    features, key = trained.features, trained.fingerprints[modality]
    name = features.encoders[modality]
    noted: dict[str, Any] = {"origin": "own" if ":" in name else "catalogue"}
    if name in features.precomputed or name == "vectors":
        noted["origin"] = "vectors"
    else:
        with suppress(ConfigError, ExtractionError):
            spec = installed_spec(features, modality)
            if spec.key == key:
                settings = json.loads(json.dumps(dict(spec.settings)))
                noted |= {"version": spec.version, "pooling": spec.pooling, "settings": settings}
    width, sequence_key = vector_widths(trained)[modality], trained.fingerprints.get(f"{modality} sequences")
    return BundledEncoder(key=key, vector_width=width, sequence_key=sequence_key, **noted)


def _training(run: Path, model: FusionModel) -> TrainingSummary | None:
    path = run / "metrics.jsonl"
    epochs = read_json_lines(path) if path.exists() else []
    judged = [epoch for epoch in epochs if math.isfinite(epoch["dev_figure"])]
    if not judged:
        return None
    best = max(judged, key=lambda epoch: epoch["dev_figure"])
    return TrainingSummary(
        num_epochs=len(epochs), best_epoch=best["epoch"], dev_figure=best["dev_figure"],
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )  # fmt: skip


def _corpora(corpora: CorporaConfig, table: pd.DataFrame, origin: Origin) -> dict[str, BundledCorpus]:
    origins = {corpus.name: corpus for corpus in origin.corpora}
    splits = {name: table.loc[table["corpus"].eq(name), "split"] for name in corpora.sources}
    return {
        name: BundledCorpus(
            adapter=source.adapter,
            licence=DEMO if origins[name].generated else LICENCES[source.adapter],
            zero_shot=source.zero_shot,
            num_clips={split: int(splits[name].eq(split).sum()) for split in SPLITS if split in set(splits[name])},
            num_trained=0 if source.zero_shot else origins[name].num_trained,
            generated=origins[name].generated,
        )
        for name, source in corpora.sources.items()
    }


def _figures(stored: RunPredictions, results: list[dict[str, Any]]) -> tuple[BundledFigure, ...]:
    """Evaluate figures with intervals and the linear baseline; chance is from the run's results."""
    place = ("corpus", "split", "task", "metric")
    chance = {tuple(row[name] for name in place): row["chance"] for row in results}
    try:
        figures = evaluate_run(stored, None, None)["figures"]
    except RunError:  # not one labelled clip
        return ()
    return tuple(_figure(row, chance.get(row.key)) for row in figures)


def _figure(row: MetricRow, chance: float | None) -> BundledFigure:
    names = ("corpus", "split", "task", "metric", "num_clips", "num_groups")
    return BundledFigure(
        **{name: getattr(row, name) for name in names},
        **asdict(row.model),
        linear=_interval(row.linear),
        over_linear=_interval(row.over_linear),
        chance=None if chance is None or math.isnan(chance) else chance,
    )


def _interval(found: Estimate | None) -> Interval | None:
    return None if found is None else Interval(value=found.value, low=found.low, high=found.high)

"""What `mmpsr adapt` is asked for, and its answer: corpora read, vectors joined, every method on every participant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from corpora.clips import ClipTable, CorpusError
from corpora.registry import prepare, read_corpora
from encoders.extraction.read import read_timed
from mmpsr.adaptation.build import create_method
from mmpsr.config import ConfigError, nearest, parse_setting, resolve
from mmpsr.files import write_json, write_whole
from mmpsr.tasks import TaskSpec
from training.adaptation.config import PersonalizationConfig
from training.adaptation.material import Material, chosen_modalities, of_clips, of_timed
from training.adaptation.personalize import Work, personalize
from training.adaptation.pictures import Backbone, image_encoder, material_of_pictures
from training.config import RunConfig
from training.data.joined import gather
from training.data.load import extract_features
from training.data.selection import active_features
from training.evaluation.cross_corpus import load_corpora, require_fingerprints
from training.runs.accelerator import create_accelerator
from training.runs.trained import TrainedModel

__all__ = ["AdaptationRequest", "answer"]

OF_THE_RUN = ("corpora", "features")
"""Sections of settings that change the run's configuration; all others are of `PersonalizationConfig`."""


@dataclass(frozen=True)
class AdaptationRequest:
    """What is asked for.

    Attributes:
        run: folder of a finished run, whose corpora and encoders are used.
        corpus: whose test participants are adapted to.
        by: `participant`, or the column that says whom a clip shows.
        methods: names.
        task: a task of two classes; None for the only one that the corpus has labels of.
        config: TOML file of other corpora; None for the run's own.
        settings: `section.key=value`.
        output: folder; None for `adaptation` in the run.
    """

    run: Path
    corpus: str
    by: str = "participant"
    methods: Sequence[str] = ("source",)
    task: str | None = None
    config: Path | None = None
    settings: Sequence[str] = ()
    output: Path | None = None


def answer(request: AdaptationRequest, console: Console) -> dict[str, Any]:
    """Adapt, and write `adaptation.json` and `adaptation.csv`.

    Args:
        request: see there.
        console: where progress and messages go.

    Returns:
        What `training.adaptation.personalize.personalize` gives, and before it `run`, `corpus`, `task`, `by`, `form`,
        `encoders` and `settings`.

    Raises:
        ConfigError: a setting, method, corpus, task or column is not known.
        RunError: the run cannot be read, or its features are others.
        CorpusError: a corpus cannot be read, or nobody in it can be adapted to.
    """
    of_run = [each for each in request.settings if parse_setting(each)[0][0] in OF_THE_RUN]
    settings = resolve(
        PersonalizationConfig, {}, [each for each in request.settings if each not in of_run], "mmpsr adapt"
    )
    for name in request.methods:
        create_method(name, settings)
    model = TrainedModel.read(request.run)
    config, messages = _configuration(model, request, of_run, settings.form == "features")
    for message in messages:
        console.print(message, highlight=False, markup=False)
    folder = (request.output or request.run / "adaptation") / request.corpus
    if settings.form == "network":
        material, task, backbone = _pictures(model, config, request, settings, folder, console)
        encoders = {_modality(settings): backbone.key}
    else:
        modalities = chosen_modalities(model.modalities, settings.protocol.modalities)
        material, task = _material(model, config, request, settings, modalities, console)
        backbone, encoders = None, {name: model.fingerprints[name] for name in modalities}
    with _progress(console) as progress:
        bar = progress.add_task("adapting", total=None)

        def advance(done: int, total: int, work: Work) -> None:
            progress.update(bar, completed=done, total=total, description=f"{work.method} {work.participant}")

        found = personalize(material, settings, request.methods, folder, advance, backbone)
        total = len(found["participants"])
        progress.update(bar, completed=total, total=total, description="adapted")
    document = {
        "run": str(request.run), "corpus": request.corpus, "task": task, "by": request.by, "form": settings.form,
        "encoders": encoders,
        "settings": settings.model_dump(mode="json"), **found,
    }  # fmt: skip
    place = Path(found["folder"])
    write_json(place / "adaptation.json", document)
    write_whole(place / "adaptation.csv", pd.DataFrame(found["participants"]).to_csv(index=False))
    return document


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


def _configuration(
    model: TrainedModel, request: AdaptationRequest, settings: Sequence[str], reads_vectors: bool
) -> tuple[RunConfig, list[str]]:
    """Load the corpora's configuration: the run's, or a file's, with settings over it."""
    if request.config is not None:
        config, messages = load_corpora(model, request.config, settings, reads_vectors)
    else:
        config, messages = resolve(RunConfig, model.config.model_dump(mode="json"), settings, str(request.run)), []
        if reads_vectors:
            require_fingerprints(model, active_features(config.features, model.modalities), str(request.run))
    if (name := request.corpus) not in config.corpora.sources:
        raise ConfigError(f"--corpus: no corpus is named {name!r}; {nearest(name, config.corpora.sources)}")
    return config, messages


def _material(
    model: TrainedModel,
    config: RunConfig,
    request: AdaptationRequest,
    settings: PersonalizationConfig,
    modalities: Sequence[str],
    console: Console,
) -> tuple[Material, str]:
    """Read the corpus and make the vectors that the store lacks; the material, and the task's name."""
    names, in_time = [request.corpus], settings.protocol.rows == "frames"
    if in_time and settings.protocol.mirrored is not None:
        raise ConfigError("protocol.mirrored is of clips, but protocol.rows is 'frames'; leave out one of the two")
    if (mirrored := settings.protocol.mirrored) is not None:
        if mirrored not in config.corpora.sources:
            raise ConfigError(
                f"protocol.mirrored: no corpus is named {mirrored!r}; {nearest(mirrored, config.corpora.sources)}"
            )
        names.append(mirrored)
    table, task = _clips(model, config, request, names, console)
    accelerator, features = create_accelerator(config, False), active_features(config.features, modalities)
    if in_time and (missing := [name for name in modalities if name not in features.timed]):
        raise ConfigError(
            f"protocol.rows = 'frames' needs features in time of {' and '.join(missing)}; add "
            f"""`--set 'features.timed={json.dumps(list(modalities))}'`"""
        )
    clips, *_ = extract_features(table.clips, features, accelerator, console)
    spec = model.tasks[task]
    if in_time:
        timed = read_timed(clips, features)
        of_time = {name: timed[name] for name in modalities}
        joined = ClipTable(clips, table.defects, table.timelines)
        material = of_timed(
            joined, of_time, request.corpus, task, spec, request.by, settings.protocol.frame_step,
            features.timed_rate is not None,
        )  # fmt: skip
        assert isinstance(material.features, Tensor)
        return replace(material, features=material.features.to(accelerator.device)), task
    gathered = gather(clips, features, model.tasks).to(accelerator.device)
    material = of_clips(gathered, request.corpus, task, spec, request.by, modalities, mirrored)
    return material, task


def _pictures(
    model: TrainedModel,
    config: RunConfig,
    request: AdaptationRequest,
    settings: PersonalizationConfig,
    folder: Path,
    console: Console,
) -> tuple[Material, str, Backbone]:
    """Read the corpus, and write the pictures that are not there yet; the material, the task's name and the encoder."""
    if settings.protocol.mirrored is not None:
        raise ConfigError(
            "protocol.mirrored is of stored vectors; form 'network' mirrors the pictures itself, leave it out"
        )
    modality, features = _modality(settings), config.features
    if (name := settings.network.encoder) is not None:
        features = features.model_copy(update={"encoders": {**features.encoders, modality: name}})
    elif modality not in features.encoders:
        raise ConfigError(
            f"form = 'network': the run has no encoder of {modality}; name one, as by "
            "`--set network.encoder=microsoft/resnet-50`"
        )
    features = active_features(features, (modality,))
    encoder = image_encoder(modality, features)
    table, task = _clips(model, config, request, [request.corpus], console)
    accelerator = create_accelerator(config, False)
    with _progress(console) as progress:
        bar = progress.add_task("pictures", total=None)
        material = material_of_pictures(
            table, request.corpus, encoder, features, settings, task, model.tasks[task], request.by, folder,
            accelerator.device, lambda done, total: progress.update(bar, completed=done, total=total),
        )  # fmt: skip
    return material, task, Backbone.of(encoder)


def _modality(settings: PersonalizationConfig) -> str:
    """Choose the one modality whose pictures are seen.

    Raises:
        ConfigError: several are asked for.
    """
    names = settings.protocol.modalities or ("video",)
    if len(names) > 1:
        raise ConfigError(f"form = 'network' adapts one encoder; protocol.modalities names {' and '.join(names)}")
    return names[0]


def _clips(
    model: TrainedModel, config: RunConfig, request: AdaptationRequest, names: Sequence[str], console: Console
) -> tuple[ClipTable, str]:
    """Read corpora; the clip table, and the task's name."""
    chosen = {name: config.corpora.sources[name] for name in names}
    wanted = config.corpora.model_copy(update={"sources": chosen})
    prepare(wanted)
    table = read_corpora(wanted, model.tasks)
    for corpus, count in table.defects["corpus"].value_counts().items():
        console.print(f"{corpus}: {count} rows have defects; `mmpsr doctor` lists them", highlight=False)
    return table, _task(model.tasks, table.clips[table.clips["corpus"].eq(request.corpus)], request)


def _task(tasks: dict[str, TaskSpec], clips: pd.DataFrame, request: AdaptationRequest) -> str:
    """Choose the task of two classes that the corpus has labels of."""
    if request.task is not None:
        if request.task not in tasks:
            raise ConfigError(f"--task: the run has no task {request.task!r}; {nearest(request.task, tasks)}")
        return request.task
    fitting = [name for name, spec in tasks.items() if spec.kind == "single_label" and spec.num_outputs == 2]
    labeled = [name for name in fitting if clips[f"{name}.{tasks[name].classes[0]}"].notna().any()]
    if len(labeled) != 1:
        found = f"has labels of {' and '.join(labeled)}; choose with --task" if labeled else "has no label of one"
        raise CorpusError(
            f"adaptation takes a single-label task of two classes ({', '.join(fitting) or 'the run has none'}), and "
            f"corpus {request.corpus!r} {found}"
        )
    return labeled[0]

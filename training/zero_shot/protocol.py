"""Asking a model about the clips of a configuration, from the corpora to the files of results.

```
<output.directory>/<output.name>/<fingerprint of the settings>/
    config.json          the configuration
    predictions.parquet  a row per clip or chunk: labels, and by prompt the answer, its class, or why there is none
    results.json         figures, counts, prompts
    defects.csv          what of the corpora could not be used
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from corpora.clips import ClipTable, CorpusError, label_columns
from corpora.registry import prepare, read_corpora
from encoders.creation import writer_checkpoint
from encoders.device import choose_device
from encoders.writers.answerer import Answerer, AnswerLikelihoods
from encoders.writers.ask import Answers, ask
from encoders.writers.chat import ChatWriter
from mmpsr.config import ConfigError, nearest
from mmpsr.files import sha256_of, write_whole
from mmpsr.tasks import BUILTIN_TASKS, TaskSpec
from training.zero_shot.calls import FIRST_FRAME, NO_FRAME, REASON, calls_of_chunks, calls_of_clips
from training.zero_shot.config import ZeroShotRunConfig
from training.zero_shot.figures import LIKELIHOOD, evaluate_answers, rows_by_split
from training.zero_shot.prompts import Prompt, prompts_to_ask

__all__ = ["AnswerTable", "run_zero_shot"]


@dataclass(frozen=True)
class AnswerTable:
    """Where the results lie, and what they are.

    Attributes:
        folder: of the files.
        table: `predictions.parquet`.
        document: `results.json`.
    """

    folder: Path
    table: pd.DataFrame
    document: dict[str, Any]


def run_zero_shot(
    config: ZeroShotRunConfig, name: str, console: Console | None = None, corpora: Sequence[str] = ()
) -> AnswerTable:
    """Ask, read and judge; what was asked before comes from the store, and a repeated command goes on.

    Args:
        config: everything.
        name: folder of the results where the configuration names none.
        console: where messages and progress go; nowhere where it is left out.
        corpora: only these; empty for all.

    Raises:
        ConfigError: task, prompt, corpus or model do not exist or do not fit.
        CorpusError: a corpus cannot be read, or no clip has a label.
        ExtractionError: the model cannot be loaded.
    """
    zero_shot, console_or_quiet = config.zero_shot, console or Console(quiet=True)
    tasks = _tasks(config)
    spec = tasks[zero_shot.task]
    prompts = prompts_to_ask(zero_shot.task, spec, zero_shot)
    device, dtype = choose_device(config.features)
    checkpoint = writer_checkpoint("zero_shot", zero_shot.model, zero_shot.revision, config.features)
    identity = checkpoint.identity  # reads a local copy before corpora are
    table = _clips(config, tasks, prompts, corpora, (device, dtype), console is not None)
    if zero_shot.window is None:
        calls = calls_of_clips(table, zero_shot.task, spec)
    else:
        calls = calls_of_chunks(table, zero_shot.task, spec, zero_shot.window)
    answered = _identities(calls, zero_shot.task, spec)
    able = calls[REASON].eq("").to_numpy()
    loaded: ChatWriter | None = None
    for prompt in prompts:
        common = (prompt.question, checkpoint, zero_shot.batch_size, zero_shot.num_frames, device, dtype)
        writers: list[Answerer | AnswerLikelihoods] = [Answerer(*common, max_new_tokens=zero_shot.max_new_tokens)]
        if zero_shot.likelihood:
            writers.append(AnswerLikelihoods(*common, answers=prompt.answers))
        for writer in writers:
            if loaded is not None:
                writer.borrow(loaded)
            console_or_quiet.print(f"{prompt.name}: {writer.kind}s of {int(able.sum()):,} questions", highlight=False)
            found = ask(calls[able], writer, config.features, show_progress=console is not None)
            loaded = writer if writer.is_loaded else loaded
            read = _answers if isinstance(writer, Answerer) else _likelihoods
            columns = read(found, prompt, spec)
            answered = answered.join(columns.set_index(np.flatnonzero(able)))
        answered[f"reason.{prompt.name}"] = answered[f"reason.{prompt.name}"].fillna(calls[REASON])
    figures = evaluate_answers(answered, zero_shot.task, spec, [prompt.name for prompt in prompts], config.corpora)
    document = {
        "model": zero_shot.model, "weights": identity, "task": zero_shot.task, "classes": list(spec.classes),
        "splits": list(zero_shot.splits), "window": zero_shot.window, "num_frames": zero_shot.num_frames,
        "prompts": [_described(prompt) for prompt in prompts],
        "counts": [row for prompt in prompts for row in _counts(answered, calls, prompt)], **figures,
    }  # fmt: skip
    folder = _folder(config, name, corpora, identity)
    _write(folder, config, answered, document, table)
    return AnswerTable(folder, answered, document)


def _tasks(config: ZeroShotRunConfig) -> dict[str, TaskSpec]:
    """Resolve the task that is asked about, and all others that corpora may have labels of."""
    task, known = config.zero_shot.task, {*BUILTIN_TASKS, *config.tasks.specs}
    if task not in known:
        raise ConfigError(f"zero_shot.task: no task is named {task!r}; {nearest(task, known)}")
    names = tuple(dict.fromkeys((task, *config.tasks.active, *config.tasks.specs)))
    return config.tasks.model_copy(update={"active": names}).resolve()


def _clips(
    config: ZeroShotRunConfig,
    tasks: Mapping[str, TaskSpec],
    prompts: Sequence[Prompt],
    corpora: Sequence[str],
    device: tuple[str, str],
    show_progress: bool,
) -> ClipTable:
    """Read the clips that are asked about, with transcripts where the configuration has them written."""
    for name in corpora:
        if name not in config.corpora.sources:
            raise ConfigError(f"--corpus: there is no corpus {name!r}; {nearest(name, config.corpora.sources)}")
    prepare(config.corpora)
    table = read_corpora(config.corpora, tasks).require_sound()
    wanted = table.clips["split"].isin(config.zero_shot.splits)
    if corpora:
        wanted &= table.clips["corpus"].isin(corpora)
    if not wanted.any():
        raise CorpusError(f"no corpus has clips of {' or '.join(config.zero_shot.splits)}")
    table.clips = table.clips[wanted].reset_index(drop=True)
    if config.features.transcriber is not None and any(prompt.question.reads_transcript for prompt in prompts):
        from encoders.writers.fill import fill_texts

        features = config.features.model_copy(update={"describer": None})
        filled = fill_texts(table.clips, features, device=device[0], dtype=device[1], show_progress=show_progress)
        table.clips = filled.clips
    return table


def _identities(calls: pd.DataFrame, task: str, spec: TaskSpec) -> pd.DataFrame:
    frames = [name for name in (FIRST_FRAME, NO_FRAME) if name in calls]
    return calls[["corpus", "split", "clip_id", "group", *frames, *label_columns(task, spec)]].reset_index(drop=True)


def _answers(found: Answers, prompt: Prompt, spec: TaskSpec) -> pd.DataFrame:
    readings = [None if text is None else prompt.reader.read(text) for text in found.texts]
    columns = {
        "answer": found.texts,
        "class": [None if reading is None else spec.classes[reading.label] for reading in readings],
        "read": [None if reading is None else reading.how for reading in readings],
        "reason": found.reasons,
    }
    return pd.DataFrame(
        {f"{name}.{prompt.name}": pd.Series(values, dtype="string") for name, values in columns.items()}
    )


def _likelihoods(found: Answers, prompt: Prompt, spec: TaskSpec) -> pd.DataFrame:
    """List log-likelihoods of the answers, and the probabilities that are their softmax."""
    rows = [[np.nan] * spec.num_outputs if text is None else json.loads(text) for text in found.texts]
    logs = np.asarray(rows, dtype=np.float64).reshape(-1, spec.num_outputs)
    shares = np.exp(logs - logs.max(axis=1, keepdims=True, initial=-np.inf))
    shares /= shares.sum(axis=1, keepdims=True)
    names = [f"{kind}.{prompt.name}.{label}" for kind in ("log_likelihood", LIKELIHOOD) for label in spec.classes]
    return pd.DataFrame(np.concatenate([logs, shares], axis=1), columns=names)


def _described(prompt: Prompt) -> dict[str, Any]:
    question = prompt.question
    return {
        "prompt": prompt.name, "text": question.text, "answers": list(prompt.answers),
        "without_transcript": question.without_transcript if question.reads_transcript else None,
    }  # fmt: skip


def _counts(answered: pd.DataFrame, calls: pd.DataFrame, prompt: Prompt) -> list[dict[str, Any]]:
    """Count, by corpus and split, questions and what became of them."""
    is_spoken = np.array([isinstance(text, str) and bool(text.strip()) for text in calls["text"]])
    rows = []
    for corpus, split, places in rows_by_split(answered):
        part = answered.iloc[places]
        silent = part.loc[~is_spoken[places], "clip_id"].nunique() if prompt.question.reads_transcript else 0
        read = part[f"read.{prompt.name}"]
        failed = read.isna()
        rows.append({
            "prompt": prompt.name, "corpus": corpus, "split": split,
            "num_clips": int(part["clip_id"].nunique()), "num_questions": len(part),
            "num_unread": int(read.eq("unread").sum()), "num_several": int(read.eq("several").sum()),
            "num_without_transcript": int(silent), "num_failed": int(failed.sum()),
            "num_failed_clips": int(part.loc[failed, "clip_id"].nunique()),
        })  # fmt: skip
    return rows


def _folder(config: ZeroShotRunConfig, name: str, corpora: Sequence[str], identity: str) -> Path:
    """Name the folder by what decides the results, so that a repeated command writes to the same one."""
    settings = config.model_dump(mode="json", include={"corpora", "tasks", "zero_shot"})
    del settings["zero_shot"]["batch_size"]
    transcriber = config.features.transcriber and config.features.transcriber.model_dump(mode="json")
    digits = sha256_of(json.dumps([settings, transcriber, identity, sorted(corpora)], sort_keys=True))[:12]
    return Path(config.output.directory) / (config.output.name or name) / digits


def _write(
    folder: Path, config: ZeroShotRunConfig, answered: pd.DataFrame, document: dict[str, Any], table: ClipTable
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.json", json.dumps(config.model_dump(mode="json"), indent=2) + "\n")
    write_whole(folder / "predictions.parquet", answered.to_parquet(index=False))
    write_whole(folder / "defects.csv", table.defects.to_csv(index=False))
    write_whole(folder / "results.json", json.dumps(document, indent=2, allow_nan=False) + "\n")

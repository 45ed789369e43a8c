"""Clips and features of a run: corpora read, texts written and vectors extracted, shared by all processes."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from accelerate import Accelerator
from rich.console import Console

from corpora.clips import ClipTable
from corpora.registry import prepare, read_corpora
from encoders.config import FeaturesConfig
from encoders.device import choose_device
from encoders.extraction.extract import extract
from mmpsr.tasks import TaskSpec
from training.config import RunConfig, require_choice_on_dev
from training.data.joined import require_metrics, used_clips

__all__ = ["extract_features", "load_clips"]


def load_clips(config: RunConfig, tasks: Mapping[str, TaskSpec], accelerator: Accelerator) -> ClipTable:
    """Build what the configuration asks to build, read every corpus, and leave out what no run uses.

    The train split of zero-shot corpora is not used: it is neither extracted nor evaluated.

    Raises:
        ConfigError: a corpus or task names a metric that does not exist, or epochs are to be chosen by test.
        CorpusError: see `corpora.registry.read_corpora`.
    """
    require_metrics(config.corpora, tasks)
    require_choice_on_dev(config.training.monitor)
    if accelerator.is_main_process:
        prepare(config.corpora)
    accelerator.wait_for_everyone()
    table = read_corpora(config.corpora, tasks)
    return ClipTable(used_clips(table.clips, config.corpora), table.defects)


def extract_features(
    clips: pd.DataFrame, features: FeaturesConfig, accelerator: Accelerator, console: Console
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the texts and extract the vectors that the store lacks, sharing the work with all other processes.

    Returns:
        The clips with their texts filled in, and the ledger of what could not be made of them.
    """
    ledgers = []
    if features.transcriber is not None or features.describer is not None:
        from encoders.writers.fill import fill_texts

        device, dtype = choose_device(features)
        filled = fill_texts(clips, features, device=device, dtype=dtype, show_progress=accelerator.is_main_process)
        clips = filled.clips
        ledgers.append(filled.summary.ledger)
        if accelerator.is_main_process:
            console.print(filled.summary)
    summary = extract(clips, features, show_progress=accelerator.is_main_process)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        console.print(summary)
    return clips, pd.concat([*ledgers, summary.ledger], ignore_index=True)

"""Data of a run: corpora read, texts written, vectors extracted by all processes together, and all of it joined.

config -> load_clips -> extract_features -> join -> RunData
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
from accelerate import Accelerator
from rich.console import Console

from corpora.clips import SPLITS, ClipTable, CorpusError
from corpora.registry import prepare, read_corpora
from encoders.config import FeaturesConfig
from encoders.device import choose_device
from encoders.extraction.extract import extract
from mmpsr.tasks import TaskSpec
from training.config import InTimeConfig, RunConfig, require_choice_on_dev
from training.data.few_labels import keep_labels
from training.data.joined import JoinedCorpora, join
from training.data.material import missing_material, without_modalities
from training.data.selection import active_features, require_metrics, used_clips

__all__ = ["RunData", "extract_features", "load_clips", "load_run_data"]


@dataclass(frozen=True)
class RunData:
    """What a run is trained and evaluated on.

    Attributes:
        joined: clips, vectors and labels on the accelerator's device.
        defects: rows that a corpus could not use.
        ledger: clips without a vector, and why.
        figures: what was measured of clips' media, see `encoders.store.progress.ExtractionSummary`.
    """

    joined: JoinedCorpora
    defects: pd.DataFrame
    ledger: pd.DataFrame
    figures: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of clips, vectors and labels, by `clips`, `features.<modality>` and `labels.<task>`."""
        joined = self.joined.to("cpu")
        identity = joined.clips[["corpus", "split", "clip_id", "group"]].to_csv(index=False).encode()
        digests = {"clips": hashlib.sha256(identity).hexdigest()}
        for index, (name, vectors) in enumerate(joined.features.items()):
            digest = hashlib.sha256(vectors.numpy().tobytes())
            digest.update(joined.presence[:, index].numpy().tobytes())
            if name in joined.sequences:
                digest.update(joined.sequences[name].values.numpy().tobytes())
            digests[f"features.{name}"] = digest.hexdigest()
        for task, labels in joined.labels.items():
            digests[f"labels.{task}"] = hashlib.sha256(labels.numpy().tobytes()).hexdigest()
        return digests


def load_run_data(
    config: RunConfig,
    accelerator: Accelerator,
    console: Console | None = None,
    splits: Collection[str] = SPLITS,
    corpora: Collection[str] | None = None,
    show_clips: Callable[[ClipTable], None] | None = None,
) -> RunData:
    """Read the corpora, extract what the store lacks, and join clips and vectors.

    Args:
        config: the run's configuration.
        accelerator: processes, and the device of what is returned.
        console: where messages go; nowhere but into extraction's progress where it is left out.
        splits: those that are read; clips of others are left out before anything is extracted.
        corpora: likewise, corpora; all where it is left out.
        show_clips: takes the clip table before extraction, which may last for hours.

    Raises:
        ConfigError: see `load_clips`; or a modality has no encoder.
        CorpusError: see `corpora.registry.read_corpora` and `training.data.joined.join`, whose errors about vectors
            name the ledger written to `output.directory`; or no training clip can have a modality, which is said
            before anything is extracted.
    """
    tasks, features = config.tasks.resolve(), active_features(config.features, config.data.modalities)
    table = load_clips(config, tasks, accelerator)
    sources = config.corpora.sources if corpora is None else corpora
    is_used = table.clips["split"].isin(list(splits)) & table.clips["corpus"].isin(list(sources))
    table = table.with_clips(table.clips[is_used].reset_index(drop=True))
    if show_clips is not None:
        show_clips(table)
    trained = table.clips["corpus"].isin(config.corpora.trained()) & table.clips["split"].eq("train")
    absent = dict(missing_material(table.clips[trained], config))
    if absent:
        reasons = "; ".join(absent.values())
        raise CorpusError(f"{reasons}; {without_modalities(config.data.modalities, absent)}")
    clips, ledger, figures = extract_features(table.clips, features, accelerator, console or Console(quiet=True))
    path = Path(config.output.directory) / "ledger.csv"  # there is no run yet
    try:
        joined = join(clips, features, tasks, config.corpora, config.model.reads_sequences, str(path))
    except CorpusError:
        if accelerator.is_main_process:
            path.parent.mkdir(parents=True, exist_ok=True)
            ledger.to_csv(path, index=False)
        raise
    return RunData(keep_labels(joined, config).to(accelerator.device), table.defects, ledger, figures)


def load_clips(config: RunConfig | InTimeConfig, tasks: Mapping[str, TaskSpec], accelerator: Accelerator) -> ClipTable:
    """Build what the configuration asks to build, read every corpus, and leave out what no run uses.

    The train split of zero-shot corpora is not used: it is neither extracted nor evaluated.

    Raises:
        ConfigError: a corpus or task names a metric that does not exist, or epochs are to be chosen by test.
        CorpusError: see `corpora.registry.read_corpora`.
    """
    require_metrics(config.corpora, tasks)
    if isinstance(config, RunConfig):
        require_choice_on_dev(config.training.monitor)
    if accelerator.is_main_process:
        prepare(config.corpora)
    accelerator.wait_for_everyone()
    table = read_corpora(config.corpora, tasks)
    return table.with_clips(used_clips(table.clips, config.corpora))


def extract_features(
    clips: pd.DataFrame, features: FeaturesConfig, accelerator: Accelerator, console: Console
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Write the texts and extract the vectors that the store lacks, sharing the work with all other processes.

    Returns:
        The clips with their texts filled in, the ledger of what could not be made of them, and what was measured.
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
    return clips, pd.concat([*ledgers, summary.ledger], ignore_index=True), pd.DataFrame(summary.figures)

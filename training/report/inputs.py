"""Sections of a run's report about what went in: configuration, versions, clips, labels, defects and failures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from corpora.clips import DEFECT_KINDS, SPLITS
from mmpsr.config import flat
from training.config import RunConfig
from training.report.charts import bars, legend, ridges
from training.report.page import Block, Cell, Chart, Charts, Section, Table, Text
from training.runs.directory import RunError

__all__ = ["command_line", "data_section", "defects_section", "read_csv", "settings_section"]


def command_line(arguments: Sequence[str]) -> str:
    """Write what was typed to start a run, from the arguments that its manifest holds."""
    program, *rest = arguments
    start = f"accelerate launch {program}" if program.endswith(".py") else Path(program).name
    return " ".join([start, *map(shlex.quote, rest)])


def settings_section(config: RunConfig, manifest: Mapping[str, Any], encoders: Mapping[str, str]) -> Section:
    """Show what was run: the command, settings that differ from their defaults, encoders and versions.

    Args:
        config: the run's.
        manifest: `manifest.json`, empty where there is none.
        encoders: `features.json`.
    """
    blocks: list[Block] = []
    if manifest.get("command"):
        blocks += [Text("To repeat it:"), Text(command_line(manifest["command"]), typed=True)]
    changed = flat(config.model_dump(mode="json", exclude_defaults=True, exclude={"output"}))
    rows = [[key, json.dumps(value, ensure_ascii=False)] for key, value in changed.items()]
    caption = "Everything else is at its default; config.json in the run's folder has all settings."
    blocks.append(
        Table(["setting", "value"], rows, caption, 2, folded=f"{len(rows)} settings that differ from defaults")
    )
    blocks.append(
        Table(
            ["modality", "encoder and fingerprint"], list(encoders.items()),
            "Vectors of another fingerprint are another model's or another preprocessing's.", 2,
        )
    )  # fmt: skip
    versions = list(manifest.get("versions", {}).items())
    if versions:
        blocks.append(Table(["package", "version"], versions, "", 2, folded="Versions"))
    return Section("settings", "What was run", blocks)


def data_section(config: RunConfig, data: Mapping[str, Any], is_complete: bool) -> Section:
    """Show clips by corpus and split, and distributions of labels.

    Args:
        config: the run's.
        data: see `training.scoring.counts`.
        is_complete: whether training clips are counted, too.
    """
    modalities = list(dict.fromkeys(name for row in data["clips"] for name in row["present"]))
    rows = []
    for row in data["clips"]:
        labels = [
            f"{found['num_clips']} {found['task']}"
            for found in data["labels"]
            if (found["corpus"], found["split"]) == (row["corpus"], row["split"])
        ]
        role = "trained on" if row["corpus"] in config.corpora.trained() else "zero-shot"
        present = [Cell(f"{100 * row['present'].get(name, 0) / row['num_clips']:.0f} %") for name in modalities]
        counts = [f"{row['num_clips']:,}", f"{row['num_groups']:,}"]
        rows.append([row["corpus"], row["split"], role, ", ".join(labels) or "none", *counts, *present])
    caption = (
        "Clips that the run read, and groups (participants, videos or dialogues) they come from. Below each modality: "
        "the share of clips that have it."
    )
    if not is_complete:
        caption += " Training clips are not counted: this run's folder has no data.json."
    head = ["corpus", "split", "role", "labelled clips", "clips", "groups", *modalities]
    return Section("data", "Data", [Table(head, rows, caption, 4), Charts(list(_distributions(data["labels"])))])


def _distributions(labels: Sequence[Mapping[str, Any]]) -> Iterator[Chart]:
    for number, (corpus, task) in enumerate(dict.fromkeys((row["corpus"], row["task"]) for row in labels)):
        rows = [row for row in labels if (row["corpus"], row["task"]) == (corpus, task)]
        splits = ", ".join(f"{row['num_clips']:,} {row['split']}" for row in sorted(rows, key=_by_split))
        title = f"{corpus}: labels of {task}"
        if "classes" in rows[0]:
            shares = {
                row["split"]: {name: 100 * count / row["num_clips"] for name, count in row["classes"].items()}
                for row in sorted(rows, key=_by_split)
            }
            caption = f"Share of labelled clips with each class ({splits}). Figures of rare classes are unsure."
            yield Chart(title, bars(shares, "% of labelled clips", f"labels{number}"), caption, legend(shares))
        else:
            traits = {
                name: [sum(column) for column in zip(*(row["histograms"][name] for row in rows), strict=True)]
                for name in rows[0]["histograms"]
            }
            shares_by_trait = {name: [n / max(sum(counts), 1) for n in counts] for name, counts in traits.items()}
            caption = f"How often values occur ({splits}, together). A narrow hill makes mACC easy: look at CCC."
            yield Chart(title, ridges(shares_by_trait, "label, 0 to 1", f"labels{number}"), caption)


def defects_section(defects: pd.DataFrame, ledger: pd.DataFrame) -> Section:
    """Counts of rows that corpora could not use as they are, and of vectors that could not be made.

    Args:
        defects: `defects.csv`.
        ledger: `ledger.csv`.
    """
    blocks: list[Block] = []
    if len(defects):
        kinds = defects["kind"].map(lambda kind: f"{kind} ({DEFECT_KINDS[kind]})" if kind in DEFECT_KINDS else kind)
        caption = "Rows that a corpus could not use as they are; defects.csv says of each why."
        blocks.append(_crossed(defects.assign(what=kinds), "kind and severity", caption))
    if len(ledger):
        what = ledger["modality"] + ", " + ledger["encoder"] + ": " + ledger["status"]
        caption = "Clips without a vector, failed or absent for want of the modality; ledger.csv says of each why."
        blocks.append(_crossed(ledger.assign(what=what), "modality, encoder and status", caption))
    if not blocks:
        blocks.append(Text("No row has a defect, and every vector was made."))
    return Section("defects", "Defects", blocks)


def _crossed(rows: pd.DataFrame, title: str, caption: str) -> Table:
    """Count by `what` and corpus."""
    counts = pd.crosstab(rows["what"], rows["corpus"])
    cells = [
        [str(what), *(str(n) if n else "-" for n in line)]
        for what, line in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    return Table([title, *map(str, counts.columns)], cells, caption)


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table of the run as text, without rows where the file is missing.

    Raises:
        RunError: it is no table.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(columns), dtype="string")
    try:
        return pd.read_csv(path, dtype="string", keep_default_na=False)
    except ValueError as error:
        raise RunError(f"{path} cannot be read ({error})") from None


def _by_split(row: Mapping[str, Any]) -> int:
    return SPLITS.index(row["split"])

"""The command `mmpsr zero-shot`: what a multimodal language model answers about clips, and what that is worth."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmpsr.extras import require_extra
from training.commands.common import (
    JsonOption,
    RetryFailedOption,
    SetOption,
    announce,
    error_console,
    guarded,
    out_console,
)
from training.drafting.completion import complete_configs

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["zero_shot"]

ZERO_SHOT = Path("zero_shot")
WIDTH = 140
INTERVAL_OF = "macro_f1"
"""The metric whose interval is printed; `results.json` has all of them."""


@guarded("stopped; answers so far are kept, and the same command continues")
def zero_shot(
    config: Annotated[
        Path, typer.Option("--config", help="TOML file of corpora, model and prompts.", autocompletion=complete_configs)
    ] = ZERO_SHOT,
    set_: SetOption = None,
    task: Annotated[str | None, typer.Option("--task", help="Single-label task, in place of the file's.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", help="Prompt, in place of the file's; repeatable.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Split, in place of the file's; repeatable.")
    ] = None,
    corpus: Annotated[list[str] | None, typer.Option("--corpus", help="Only this corpus; repeatable.")] = None,
    window: Annotated[
        int | None,
        typer.Option("--window", help="Frames that one answer holds for, where corpora have labels in time."),
    ] = None,
    likelihood: Annotated[
        bool, typer.Option("--likelihood", help="Also compare how likely the answer of each class is.")
    ] = False,
    retry_failed: RetryFailedOption = False,
    as_json: JsonOption = False,
) -> int:
    """Ask a multimodal language model about clips and print what its answers are worth; exit status 1 without any."""
    for extra in ("media", "hub"):
        require_extra(extra)
    announce(f"reading {config}")
    from mmpsr.config import load_config
    from training.zero_shot.config import ZeroShotRunConfig
    from training.zero_shot.protocol import run_zero_shot

    chosen = {"task": task, "ask": prompt, "splits": split, "window": window, "likelihood": likelihood or None}
    settings = [f"zero_shot.{key}={json.dumps(value)}" for key, value in chosen.items() if value is not None]
    settings += ["features.retry_failed=true"] if retry_failed else []
    with redirect_stdout(sys.stderr):  # whatever reading says, stdout is for the figures
        resolved = load_config(ZeroShotRunConfig, config, [*(set_ or ()), *settings])
        result = run_zero_shot(resolved, config.stem, error_console(), corpus or ())
    num_answered = sum(row["num_questions"] - row["num_failed"] for row in result.document["counts"])
    if as_json:
        typer.echo(json.dumps({"folder": str(result.folder), **result.document}, indent=2, allow_nan=False))
        return 0 if num_answered else 1
    console = out_console(WIDTH)
    for part in _tables(result.document):
        console.print(part, highlight=False)
    console.print(f"written to {result.folder}", highlight=False, markup=False)
    return 0 if num_answered else 1


def _tables(document: Mapping[str, Any]) -> Iterator[Table | str]:
    """Lay out figures, counts, and which prompt is marked."""
    from training.scoring.rows import Estimate
    from training.scoring.tables import between, metric_name, number, table_of

    def titles_of(name: str) -> tuple[str, ...]:
        return (metric_name(name), "") if name == INTERVAL_OF else (metric_name(name),)

    window, model = document["window"], document["model"]
    unit = "clips" if window is None else "frames"
    about = "one answer a clip" if window is None else f"one answer for {window} frames"
    yield f"{model}, {document['task']}: {about}; percent, higher is better"
    chosen = document["chosen"]
    metrics = list(dict.fromkeys(row["metric"] for row in document["figures"]))
    titles = [title for name in metrics for title in titles_of(name)]
    table = table_of(("corpus", "split", "answers of"), (unit, "groups", *titles))
    systems: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for row in document["figures"]:
        systems.setdefault((row["corpus"], row["split"], row["system"]), {})[row["metric"]] = row
    previous = ("", "")
    for (corpus, split, system), rows in systems.items():
        if previous not in (("", ""), (corpus, split)):
            table.add_section()
        is_marked = chosen is not None and system == chosen["prompt"]
        first, cells = next(iter(rows.values())), []
        for name in metrics:
            found = rows.get(name, {"value": None, "low": None, "high": None})
            cells.append(number(found["value"]))
            if name == INTERVAL_OF:
                cells.append(between(Estimate(found["value"], found["low"], found["high"])).replace("[", r"\["))
        table.add_row(
            *((corpus, split) if (corpus, split) != previous else ("", "")),
            f"{system} (best on dev)" if is_marked else system, str(first["num"]), str(first["num_groups"]), *cells,
        )  # fmt: skip
        previous = (corpus, split)
    yield table
    yield "Questions, and what became of them"
    names = ("clips", "questions", "unread", "several", "without_transcript", "failed", "failed_clips")
    table = table_of(("prompt", "corpus", "split"), [name.replace("_", " ") for name in names])
    for row in document["counts"]:
        table.add_row(row["prompt"], row["corpus"], row["split"], *(str(row[f"num_{name}"]) for name in names))
    yield table
    yield "unread: no class found, taken as the first; several: more than one, the first of the task's order is taken"
    if len(document["prompts"]) > 1:
        yield (
            "No prompt is chosen: dev was not asked, and test chooses nothing"
            if chosen is None
            else f"{chosen['prompt']} is best on dev ({metric_name(chosen['metric'])} {number(chosen['value'])})"
        )
    yield (
        "Square brackets: 95 % intervals (results.json has all), groups (participants, videos or dialogues) resampled "
        f"{document['num_resamples']} times; none where there are fewer than two groups."
    )

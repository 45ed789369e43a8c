"""What `mmpsr predict` leaves and says at its end, whatever the model is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from logging import Logger
from pathlib import Path
from typing import Any

import pandas as pd

from mmpsr.files import write_whole

__all__ = ["LOG", "PATIENCE", "Content", "content_of", "leave"]

LOG = "predict.log"
"""File beside finished rows with all that was said."""
PATIENCE = 8.0
"""Seconds between lines on how far it is, where there is no terminal."""
Content = str | Callable[[Path], object]


def content_of(document: Mapping[str, Any], format_: str | None, table: Callable[[], pd.DataFrame]) -> Content:
    """Make the content of the output: the document as JSON, or its table, each row with `about`, as CSV or Parquet.

    Args:
        document: the whole.
        format_: json, csv, parquet, or None for nothing.
        table: makes the rows.
    """
    if format_ is None:
        return ""
    if format_ == "json":
        return json.dumps(document, indent=2, allow_nan=False) + "\n"
    frame = table().assign(about=document["about"])
    return frame.to_csv(index=False) if format_ == "csv" else partial(frame.to_parquet, index=False)


def leave(
    remarks: Logger,
    lost: Iterable[str],
    notes: Iterable[str],
    counts: tuple[int, int],
    output: Path | None,
    content: Content,
    cards: Path | None,
    write_cards: Callable[[Path], Sequence[Path]],
) -> None:
    """Say what was lost and noted, and write the output and the cards.

    Args:
        remarks: where it is said.
        lost: a line for each input without a prediction.
        notes: sentences.
        counts: inputs with a prediction, and without.
        output: file to write.
        content: of it.
        cards: folder of the cards.
        write_cards: writes them into it.
    """
    for line in lost:
        remarks.warning(line)
    for note in notes:
        remarks.info(note)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, content)
        remarks.info(f"{output} ({output}.work, which lets it be made again at once and holds {LOG}, can go)")
    if cards is not None:
        remarks.info(f"{len(write_cards(cards))} card(s) in {cards}")
    remarks.info(f"{counts[0]} predicted, {counts[1]} without a prediction")

"""Novelty of a model's clips: fitted on the training clips of a run, compared with its dev clips, kept in one file.

Shape suffixes: N clips, D width of a modality's vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mmpsr.calibration.novelty import ClipNovelty, Novelty, NoveltyFit

if TYPE_CHECKING:
    from torch import Tensor

    from mmpsr.layers.standardizer import Standardizer
    from mmpsr.models.base import FusionModel
    from training.data.joined import JoinedCorpora

__all__ = ["NOVELTY", "clip_novelty", "fit_novelty", "novelty_bytes", "novelty_columns", "parse_novelty"]

NOVELTY = "novelty.safetensors"
"""File of a run and of a bundle."""


def fit_novelty(model: FusionModel, joined: JoinedCorpora, train: Tensor, dev: Tensor) -> Novelty:
    """Fit each modality to the training clips that have it, and measure the dev clips.

    Args:
        model: with its standardizers.
        joined: clips and vectors.
        train: rows of training clips, int64 `[n]`.
        dev: rows of dev clips of the same corpora.
    """
    fits = {}
    for modality in model.modalities:
        of_train, of_dev = (_standardized(model, joined, modality, rows) for rows in (train, dev))
        fit = NoveltyFit.of(of_train[0][of_train[1]], of_dev[0][of_dev[1]])
        if fit is not None:
            fits[modality] = fit
    return Novelty(fits)


def clip_novelty(
    novelty: Novelty, model: FusionModel, joined: JoinedCorpora, rows: Tensor
) -> list[dict[str, ClipNovelty]]:
    """Compare each clip's modalities with the dev clips; those that a clip lacks are left out.

    Args:
        novelty: of the model's run.
        model: with its standardizers.
        joined: clips and vectors.
        rows: int64 `[n]`.
    """
    clips: list[dict[str, ClipNovelty]] = [{} for _ in range(len(rows))]
    for modality, fit in novelty.fits.items():
        vectors_ND, present_N = _standardized(model, joined, modality, rows)
        places = np.flatnonzero(present_N)
        for place, found in zip(places, fit.judge(vectors_ND[places]), strict=True):
            clips[place][modality] = found
    return clips


def novelty_columns(clips: list[dict[str, ClipNovelty]], modalities: tuple[str, ...]) -> pd.DataFrame:
    """Lay out percentiles in columns `novelty.<modality>`, NaN where a clip lacks the modality."""
    columns = {
        f"novelty.{name}": [clip[name].percentile if name in clip else np.nan for clip in clips] for name in modalities
    }
    return pd.DataFrame(columns, index=range(len(clips)), dtype=np.float64)


def novelty_bytes(novelty: Novelty) -> bytes:
    """Give the content of the file `NOVELTY`."""
    return save(novelty.to_arrays())


def parse_novelty(content: bytes, model: FusionModel, source: Path) -> Novelty:
    """Read the content of the file `NOVELTY`.

    Args:
        content: of the file.
        model: whose vectors it is of.
        source: the file, for messages.

    Raises:
        ValueError: it is damaged, or of other vectors than the model's.
    """
    widths = {name: len(cast("Standardizer", model.standardizers[name]).mean) for name in model.modalities}
    try:
        return Novelty.from_arrays(load(content), widths)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{source}: {error}") from error


def _standardized(
    model: FusionModel, joined: JoinedCorpora, modality: str, rows: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Standardise vectors as the model does: float64 `[N, D]`, and which clips have the modality."""
    present_N = joined.presence[rows, list(joined.features).index(modality)]
    vectors_ND = cast("Standardizer", model.standardizers[modality])(joined.features[modality][rows], present_N)
    return vectors_ND.double().cpu().numpy(), present_N.cpu().numpy()

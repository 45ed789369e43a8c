"""The small corpora with sequences beside some of their vectors, and conflict-aware models small enough for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from encoders.sequences import Sequences
from mmpsr.batch import Batch
from mmpsr.models.config import ConflictAwareConfig
from mmpsr.models.conflict_aware import ConflictAware
from mmpsr.tasks import BUILTIN_TASKS
from tests.support import joined as small
from training.data.joined import JoinedCorpora
from training.data.ragged import Ragged

WIDTHS = {"video": 6, "audio": 5, "text": 4}
SEQUENCE_WIDTHS = {"video": 3, "text": 2}
MODEL = {"kind": "conflict_aware", "hidden_width": 6, "head_width": 5}


def ragged(lengths: list[int], width: int, seed: int = 0) -> Sequences:
    """Random sequences of the given lengths."""
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = generator.normal(size=(offsets[-1], width)).astype(np.float16)
    return Sequences(np.array(lengths) > 0, offsets, values)


def joined(modalities: tuple[str, ...] = ("text",)) -> JoinedCorpora:
    """`joined.joined` with sequences of 1 to 6 elements, 3 wide; one element repeats the start of the vector."""
    clips = small.joined()
    generator = np.random.default_rng(1)
    for name in modalities:
        column = list(clips.features).index(name)
        lengths = generator.integers(1, 7, size=len(clips.clips)) * clips.presence[:, column].numpy()
        found = ragged(lengths.tolist(), 3)
        found.values[found.offsets[:-1][found.present]] = clips.features[name][found.present, :3].numpy()
        clips.sequences[name] = Ragged.of(found)
    return clips


def create(sequences: bool = True, widths: dict[str, int] = WIDTHS, **options: Any) -> ConflictAware:
    """A model whose biases and statistics are not those of a start, in evaluation mode."""
    torch.manual_seed(0)
    config = ConflictAwareConfig(**{"hidden_width": 8, "head_width": 7, **options})
    model = ConflictAware(widths, BUILTIN_TASKS, config, SEQUENCE_WIDTHS if sequences else None)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    for standardizer in [*model.standardizers.values(), *model.sequence_standardizers.values()]:
        nn.init.normal_(standardizer.mean)
        nn.init.uniform_(standardizer.std, 0.5, 2.0)
    return model.eval()


def batch_of(masks: torch.Tensor, seed: int = 0, longest: int = 5) -> Batch:
    """Random clips with vectors of all modalities, and sequences of 1 to `longest` elements of some."""
    generator = torch.Generator().manual_seed(seed)
    num_clips = len(masks)
    sequences = {}
    for name, width in SEQUENCE_WIDTHS.items():
        lengths = torch.randint(1, longest + 1, (num_clips, 1), generator=generator)
        values = torch.randn(num_clips, longest, width, generator=generator)
        sequences[name] = values, torch.arange(longest) < lengths
    features = {name: torch.randn(num_clips, width, generator=generator) for name, width in WIDTHS.items()}
    return Batch(features, masks, sequences=sequences)

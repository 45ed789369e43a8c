"""Form `network`: pictures as rows of a corpus, and the encoder that is adapted on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from corpora.clips import ClipTable, CorpusError
from encoders.config import FeaturesConfig
from encoders.extraction.encode import make_encoder
from encoders.extraction.pictures import StoredPictures, store_pictures
from encoders.models.image import ImageEncoder
from mmpsr.adaptation.base import AdaptationConfig
from mmpsr.adaptation.pictures import PictureNetwork, Pictures
from mmpsr.config import ConfigError
from mmpsr.tasks import TaskSpec
from training.adaptation.config import PersonalizationConfig
from training.adaptation.material import Material, of_clips, of_timed
from training.data.joined import JoinedCorpora

__all__ = ["Backbone", "image_encoder", "material_of_pictures"]

PICTURE_FILES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


class _Encoder(nn.Module):
    """The network of an image encoder, with weights of its own."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.model = encoder.build_checked().float().requires_grad_(True)
        self._encoder = encoder

    def forward(self, pictures: Tensor) -> Tensor:
        embedded: Tensor = self._encoder.embed_with(self.model, pictures)
        return embedded


@dataclass(frozen=True)
class Backbone:
    """What is adapted with a classifier upon it.

    Attributes:
        make: makes it, pretrained: pictures as bytes `[B, C, S, S]` to `[B, width]`.
        width: of its output.
        key: changes with its weights and with how its pictures are made.
    """

    make: Callable[[], nn.Module]
    width: int
    key: str

    @classmethod
    def of(cls, encoder: ImageEncoder) -> Backbone:
        """Take the network of an encoder."""
        return cls(lambda: _Encoder(encoder), encoder.width, encoder.spec.key)

    def network(self, config: AdaptationConfig, device: torch.device) -> PictureNetwork:
        """Make the network that is adapted."""
        return PictureNetwork(self.make(), self.width, config.network, config.width).to(device)


def image_encoder(modality: str, features: FeaturesConfig) -> ImageEncoder:
    """Make the encoder of a modality, which must be one of pictures.

    Raises:
        ConfigError: it has no network that one picture goes into.
    """
    name = features.encoders[modality]
    encoder = make_encoder(name, modality, features)
    if not isinstance(encoder, ImageEncoder) or encoder.timed_form is None:
        reason = (
            "sees a clip as a whole" if isinstance(encoder, ImageEncoder) else "has no network that pictures go into"
        )
        raise ConfigError(
            f"form = 'network' adapts an image encoder, but {name!r} ({modality}) {reason}; name one such as "
            "`--set network.encoder=microsoft/resnet-50` (`mmpsr encoders` lists them), or leave form out to adapt "
            "upon stored vectors"
        )
    return encoder


def material_of_pictures(
    table: ClipTable,
    corpus: str,
    encoder: ImageEncoder,
    features: FeaturesConfig,
    settings: PersonalizationConfig,
    task: str,
    spec: TaskSpec,
    by: str,
    folder: Path,
    device: torch.device,
    advance: Callable[[int, int], None],
) -> Material:
    """Make rows of the pictures of a corpus: of clips that are pictures, or of the frames of clips.

    Args:
        table: clips of the corpus alone, with labels in time where rows are frames.
        corpus: its name.
        encoder: whose pictures.
        features: how frames and faces are read.
        settings: what a row is.
        task: labels.
        spec: the task.
        by: see `of_clips`.
        folder: where pictures are kept.
        device: where pictures go when they are asked for.
        advance: told how many clips are read, of how many.

    Raises:
        ConfigError: clips are no pictures although rows are clips.
        CorpusError: no picture can be read, or as of `of_clips` and `of_timed`.
    """
    protocol, clips = settings.protocol, table.clips
    in_time = protocol.rows == "frames"
    if not in_time:
        suffixes = clips["media"].dropna().map(lambda path: Path(path).suffix.lower())
        if len(others := suffixes[~suffixes.isin(PICTURE_FILES)]):
            raise ConfigError(
                f"form = 'network' adapts to single pictures, but clip {clips.at[others.index[0], 'clip_id']!r} of "
                f"corpus {corpus!r} is a {others.iloc[0]} file; take its frames (`--set protocol.rows=frames`, with "
                f"labels in time), or of BAH `--set corpora.sources.{corpus}.level=frame`"
            )
    stored = store_pictures(
        clips, encoder, features, folder, in_time, protocol.frame_step if in_time else 1, advance
    )  # fmt: skip
    if not len(stored.pixels):
        first = next(iter(stored.failures.values()), "it has no clip")
        raise CorpusError(f"none of the {len(clips):,} clips of corpus {corpus!r} gives a picture; the first: {first}")
    if in_time:
        timed = {encoder.modality: stored.numbers}
        found = of_timed(table, timed, corpus, task, spec, by, protocol.frame_step, features.timed_rate is not None)
    else:
        numbers = torch.tensor([each[0] if len(each) else -1 for each in stored.numbers.all()], dtype=torch.float64)
        joined = JoinedCorpora(clips, {encoder.modality: numbers.unsqueeze(1)}, (numbers >= 0).unsqueeze(1), {})
        found = of_clips(joined, corpus, task, spec, by, (encoder.modality,))
    assert isinstance(found.features, Tensor)
    pictures = Pictures(stored.pixels, found.features[:, 0].long(), device)
    return replace(
        found,
        features=pictures,
        mirrored=pictures.mirrored(),
        notes=(*found.notes, *_notes(stored, clips["clip_id"].tolist())),
    )


def _notes(stored: StoredPictures, names: Sequence[str]) -> Iterator[str]:
    for row, reason in list(stored.failures.items())[:1]:
        yield f"{len(stored.failures):,} of {len(names):,} clips give no picture, the first {names[row]}: {reason}"
    if stored.num_several:
        yield f"{stored.num_several:,} pictures are of frames with several faces, of which the surest is taken"

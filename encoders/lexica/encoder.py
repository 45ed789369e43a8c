"""Encoders `lexica` and `empath`: a transcript or a described behaviour scored by word lists, one vector a text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import Embeddings, Encoder, Pooling, read_each
from encoders.errors import EncodingError, ExtractionError, MissingModality
from encoders.lexica.categories import category_names, count_categories
from encoders.lexica.scores import FEATURES, Text, read_text, score
from encoders.media.clip import ClipMedia
from encoders.models.text import SOURCES, text_of
from mmpsr.extras import sentence_of
from mmpsr.files import sha256_of

__all__ = ["Empath", "Lexica"]


class WordLists(Encoder):
    """Base of what counts words: English, so that a transcript in another language, where told, is absent, not neutral.

    Args:
        modality: `text` reads `clip.text`, `behavior` reads `clip.description`.

    Raises:
        ExtractionError: the packages are not installed.
    """

    pooling: Pooling = "none"
    packages: ClassVar[tuple[str, ...]]
    """As they are imported, and as they are installed."""

    @staticmethod
    @abstractmethod
    def columns() -> tuple[str, ...]:
        """Name the scores."""

    @staticmethod
    @abstractmethod
    def values(text: Text) -> NDArray[np.float32]:
        """Score a text of at least one word."""

    def __init__(self, modality: str = "text") -> None:
        super().__init__(modality)
        if modality not in SOURCES:
            raise ValueError(f"{self.id} reads {' or '.join(SOURCES)}, not {modality!r}")
        for module in self.packages:
            if find_spec(module) is None:
                raise ExtractionError(f"encoder {self.id!r} ({modality}) needs a library: {sentence_of(module)}")
        self.feature_names = type(self).columns()

    @property
    def width(self) -> int:
        """Number of scores."""
        return len(self.feature_names)

    def settings(self) -> Mapping[str, object]:
        """List the lists' packages with their versions, the scores, and which of the clip's texts is read."""
        versions = {name: version(name) for name in self.packages}
        return {**versions, "features": list(self.feature_names), "source": SOURCES[self.modality][0]}

    def source(self, clip: Mapping[str, Any]) -> str:
        """Hash the text's source, and the language of a transcript that is not English."""
        source, language = super().source(clip), self._foreign(clip)
        return source if language is None else sha256_of(f"{source} {language}")[:12]

    def load(self) -> None:
        """Read the lists."""
        type(self).values(read_text("so"))

    def encode(self, clips: Sequence[ClipMedia]) -> list[Embeddings]:
        """Score clips, `[1, width]` each.

        A missing or blank text is `MissingModality`, as is a transcript that is not English; one without a word is an
        `EncodingError`.
        """
        return list(read_each(clips, self._score))

    def _score(self, clip: ClipMedia) -> NDArray[np.float32]:
        text, noun = text_of(clip, self.modality), SOURCES[self.modality][1]
        language = self._foreign(clip.row)
        if language is not None:
            raise MissingModality(f"the {noun} is in {language!r}, and the lexica are English")
        parts = read_text(text)
        if not parts.words:
            raise EncodingError(f"the {noun} has no words")
        return type(self).values(parts)[np.newaxis]

    def _foreign(self, clip: Mapping[str, Any]) -> str | None:
        """Return the language of a transcript where it is told and not English."""
        language = clip.get("language")
        if self.modality != "text" or not isinstance(language, str):
            return None
        spoken = language.strip().lower().replace("_", "-").partition("-")[0]
        return None if spoken in ("", "en", "eng", "english") else language.strip()


class Lexica(WordLists):
    """Scores of a clip's transcript (`text`) or described behaviour (`behavior`) by VADER and TextBlob's lexicon.

    References: see `encoders.lexica.scores.score`.
    """

    id: ClassVar[str] = "lexica"
    packages = ("vaderSentiment", "textblob")

    @staticmethod
    def columns() -> tuple[str, ...]:
        """Name the scores, `FEATURES`."""
        return FEATURES

    @staticmethod
    def values(text: Text) -> NDArray[np.float32]:
        """Score a text of at least one word, see `score`."""
        return score(text)


class Empath(WordLists):
    """Shares of a text's words that belong to each of Empath's categories: topics, emotions, what people do.

    References: see `encoders.lexica.categories.count_categories`.
    """

    id: ClassVar[str] = "empath"
    packages = ("empath",)

    @staticmethod
    def columns() -> tuple[str, ...]:
        """Name the categories."""
        return category_names()

    @staticmethod
    def values(text: Text) -> NDArray[np.float32]:
        """Score a text of at least one word, see `count_categories`."""
        return count_categories(text)

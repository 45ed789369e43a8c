"""Bundles: a finished run's model in a folder that predicts anywhere, and back; and whether it does.

```
<folder>/
    model.safetensors   weights, with the statistics that standardise features
    bundle.json         everything else that prediction needs, figures with intervals, sums (`training.bundle.format`)
    README.md           the model card (`training.bundle.model_card`)
    novelty.safetensors how far training and dev clips spread (`training.scoring.novelty`); not in bundles of before
```
Nothing in it can run code: weights are safetensors, everything else is text that is checked key by key.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from corpora.clips import CorpusError, label_columns
from corpora.registry import read_corpora
from encoders.catalogue.entry import EMBEDDED
from encoders.config import FeaturesConfig
from encoders.creation import CATALOGUE
from encoders.errors import ExtractionError, StoreError
from encoders.spec import EncoderSpec
from mmpsr.calibration.novelty import Novelty
from mmpsr.config import ConfigError, nearest, validate
from mmpsr.files import sha256_of, write_whole
from mmpsr.models.build import restore_model
from training.bundle.collect import collect_bundle, installed_spec
from training.bundle.files import (
    CARD,
    CONTENT,
    WEIGHTS,
    BundleError,
    new_folder,
    read_content,
    read_file,
    require_free,
    require_no_pickle,
    to_tensors,
    weights_bytes,
)
from training.bundle.format import Bundle, parse_bundle
from training.bundle.model_card import model_card
from training.config import is_in_time
from training.data.joined import JoinedCorpora, gather
from training.data.selection import used_clips
from training.runs.directory import RunError, read_json
from training.runs.trained import TrainedModel
from training.runs.verify import verify_run
from training.scoring.novelty import NOVELTY, novelty_bytes, parse_novelty

__all__ = [
    "BundledModel",
    "Repeated",
    "check_encoders",
    "compare_predictions",
    "copy_bundle",
    "hint_at_local_weights",
    "read_bundle",
    "repeat_predictions",
    "save_bundle",
    "usable_here",
    "with_local_weights",
    "write_bundle",
]


@dataclass(frozen=True)
class BundledModel(TrainedModel):
    """A model as it was read from a bundle; its `config` has no corpora and no places on a machine.

    Attributes:
        bundle: all that `bundle.json` holds.
        folder: where the bundle lies.
    """

    bundle: Bundle
    folder: Path


def write_bundle(run: Path, folder: Path, force: bool = False) -> None:
    """Make a bundle of a finished run.

    Args:
        run: run directory.
        folder: appears whole or not at all.
        force: whether a bundle that is there is replaced.

    Raises:
        BundleError: the run's files are not what they were when it finished, or the folder cannot be written.
        RunError: there is no finished run.
        ConfigError: its configuration is not one of this version.
    """
    require_free(folder, force)
    if (run / "config.json").is_file() and is_in_time(read_json(run, "config.json")):
        raise BundleError(
            f"{run} is a run of a model in time, which no bundle holds; `mmpsr predict` and `mmpsr app` take the run, "
            "and InTimePredictor.from_run(...).save_pretrained(...) makes a folder to hand on"
        )
    problems = verify_run(run)
    if problems:
        raise BundleError(
            f"{run} is not what it was when it finished, so its figures cannot go with its weights: {problems[0]}"
            + (f" ({len(problems) - 1} more; `mmpsr verify` lists all)" if len(problems) > 1 else "")
        )
    trained = TrainedModel.read(run)
    save_bundle(trained.model.state_dict(), collect_bundle(run, trained), folder, force, trained.novelty)


def save_bundle(
    weights: Mapping[str, Tensor], bundle: Bundle, folder: Path, force: bool = False, novelty: Novelty | None = None
) -> None:
    """Write a bundle's files.

    Args:
        weights: of the model, by name.
        bundle: whose sums are filled in here.
        folder: appears whole or not at all.
        force: whether a bundle that is there is replaced.
        novelty: of the run; without any fit it has no file.

    Raises:
        BundleError: a weight is not finite, or the folder cannot be written.
    """
    data = weights_bytes(weights)
    to_tensors(data, WEIGHTS)
    files = {WEIGHTS: data, CARD: model_card(bundle, novelty).encode()}
    if novelty is not None and novelty.fits:
        files[NOVELTY] = novelty_bytes(novelty)
    bundle = bundle.model_copy(update={"sha256": {name: sha256_of(value) for name, value in files.items()}})
    files[CONTENT] = (json.dumps(bundle.model_dump(mode="json"), indent=2, allow_nan=False) + "\n").encode()
    with new_folder(folder, force) as new:
        for name, value in files.items():
            write_whole(new / name, value)


def read_bundle(folder: Path, device: torch.device | str = "cpu", allow_custom_encoders: bool = False) -> BundledModel:
    """Load a bundle; encoders are not looked at, see `check_encoders`.

    Args:
        folder: the bundle.
        device: of the model.
        allow_custom_encoders: whether encoders may be classes of one's own, which run when they are imported.

    Raises:
        BundleError: a file is missing, was changed, is pickled or lies outside, the format is unknown, something in it
            asks to run code, or the weights are not those of the configuration.
    """
    folder = Path(folder)
    require_no_pickle(folder)
    bundle = parse_bundle(read_content(folder), str(folder / CONTENT), allow_custom_encoders)
    data: dict[str, bytes] = {name: read_file(folder, name) for name in bundle.sha256}
    for name, expected in bundle.sha256.items():
        if (digest := sha256_of(data[name])) != expected:
            raise BundleError(
                f"{folder / name} was changed: its SHA-256 is {digest[:12]}..., {CONTENT} says {expected[:12]}...; get "
                "the bundle anew, or put the new sum there if the change is yours"
            )
    tasks = bundle.config.tasks.resolve()
    weights = to_tensors(data[WEIGHTS], str(folder / WEIGHTS))
    try:
        model = restore_model(bundle.config.model, bundle.modalities, tasks, weights)
    except (ValueError, TypeError, RuntimeError) as error:  # configurations and tensors that no run has written
        raise BundleError(f"{folder / WEIGHTS}: {error}") from None
    novelty = Novelty()
    if NOVELTY in data:
        try:
            novelty = parse_novelty(data[NOVELTY], model, folder / NOVELTY)
        except ValueError as error:
            raise BundleError(str(error)) from None
    encoders = {name: bundle.encoders[name] for name in bundle.modalities}
    fingerprints = {name: encoder.key for name, encoder in encoders.items()}
    fingerprints |= {f"{name} sequences": e.sequence_key for name, e in encoders.items() if e.sequence_key is not None}
    return BundledModel(
        model.to(device), tasks, bundle.config.features, bundle.calibration, bundle.config, fingerprints, bundle,
        folder, origin=bundle.origin, novelty=novelty,
    )  # fmt: skip


def check_encoders(trained: TrainedModel) -> None:
    """Refuse a model whose vectors the encoders that are installed would make differently.

    Own weights and trust are not in a bundle; where its encoders need them, see `with_local_weights` first.

    Raises:
        BundleError: an encoder is missing, cannot be used, or has another fingerprint than the one that made the
            vectors that the model was trained on.
    """
    bundle = trained.bundle if isinstance(trained, BundledModel) else None
    for modality in trained.modalities:
        name, stored = trained.features.encoders[modality], trained.fingerprints[modality]
        noted = None if bundle is None else bundle.encoders[modality]
        if noted is not None and noted.origin == "vectors" and name not in trained.features.precomputed:
            raise BundleError(
                f"{modality}: the model was trained on vectors called {name!r} that were made elsewhere, so media "
                "cannot be turned into them here; give it such vectors"
            )
        try:
            spec = installed_spec(trained.features, modality)
        except (ConfigError, ExtractionError) as error:
            raise BundleError(f"{modality}: encoder {name!r} ({stored}) cannot be used here: {error}") from None
        if spec.key == stored:
            continue
        differing, versions = _differences(spec, bundle, modality), {} if bundle is None else bundle.versions
        raise BundleError(
            f"{modality}: the model was trained on vectors of {stored}, the encoder {name!r} installed here makes "
            f"those of {spec.key}{differing}; predictions would be wrong. Install mmpsr "
            f"{versions.get('mmpsr', 'as it was')} with the packages of the run, or train again with this one"
        )


def with_local_weights(
    trained: TrainedModel, weights: Mapping[str, str | Path], trust_remote_code: Collection[str]
) -> TrainedModel:
    """Tell a model of local copies of encoders' weights, and give leave to code that comes with some.

    No bundle says where weights lie on this machine, because it is told here.

    Fingerprints are those of the weights' content, so `check_encoders` refuses others.

    Args:
        trained: the model.
        weights: folder or file by encoder, or by the repository of its weights; the same for models that write texts.
        trust_remote_code: encoders whose own code may run.

    Raises:
        ConfigError: the model uses nothing of a name, or runs no code that would need leave.
    """
    features = trained.features
    homes = _homes(features)
    for option, names in (("weights", weights), ("trust_remote_code", trust_remote_code)):
        for name in names:
            if name not in homes:
                what = nearest(name, homes) if homes else "it uses none that are not part of an installed package"
                raise ConfigError(f"{option}: the model uses no pretrained weights named {name!r}; {what}")
    changes = {
        "weights": features.weights | {homes[name]: str(place) for name, place in weights.items()},
        "trust_remote_code": (*features.trust_remote_code, *(homes[name] for name in trust_remote_code)),
    }
    return replace(trained, features=validate(FeaturesConfig, features.model_dump() | changes, "local weights"))


def usable_here(
    trained: TrainedModel, weights: Mapping[str, str | Path], trust_remote_code: Collection[str]
) -> TrainedModel:
    """Tell a model what only this machine knows (see `with_local_weights`), and check its encoders.

    Raises:
        ConfigError: as `with_local_weights`.
        BundleError: as `check_encoders`; it says how local weights are named where that could help.
    """
    trained = with_local_weights(trained, weights, trust_remote_code)
    try:
        check_encoders(trained)
    except BundleError as error:
        raise BundleError(f"{error}{hint_at_local_weights(trained.features)}") from None
    return trained


def hint_at_local_weights(features: FeaturesConfig) -> str:
    """Write a sentence for who cannot use a model's encoders; nothing where all come with an installed package."""
    if not _homes(features):
        return ""
    return (
        ". A local copy of weights is named by `weights` (mmpsr predict --weights ENCODER=FOLDER), an encoder whose "
        "own code may run by `trust_remote_code` (--trust-remote-code ENCODER)"
    )


def _homes(features: FeaturesConfig) -> dict[str, str]:
    """Map every encoder, and the name itself, to what `features.weights` calls the weights in use."""
    homes: dict[str, str] = {}
    for encoder in features.encoders.values():
        entry = CATALOGUE.get(encoder)
        if entry is not None and entry.family != EMBEDDED:
            homes |= {entry.id: entry.home, entry.home: entry.home}
    writers = features.transcriber, features.describer
    return homes | {writer.model: writer.model for writer in writers if writer is not None}


def copy_bundle(source: Path, folder: Path, force: bool = False) -> None:
    """Copy a bundle's files and nothing else, after reading it as `read_bundle` does; encoders are not looked at.

    Args:
        source: a bundle.
        folder: appears whole or not at all; an empty folder may be there.
        force: whether a bundle that is there is replaced.

    Raises:
        BundleError: the source cannot be read, or the folder cannot be written.
    """
    bundled = read_bundle(source, allow_custom_encoders=True)
    if folder.exists() and folder.samefile(source):
        raise BundleError(f"{folder} is the bundle itself; name another folder")
    with new_folder(folder, force) as new:
        for name in (CONTENT, *bundled.bundle.sha256):
            shutil.copyfile(source / name, new / name)


@dataclass(frozen=True)
class Repeated:
    """What came of predicting stored clips again.

    Attributes:
        num_stored: clips that the run predicted.
        num_clips: those whose vectors are at hand, which were predicted again.
        difference: largest difference from a stored probability or score; NaN without clips.
        reason: why there are no vectors at all, or an empty text.
    """

    num_stored: int
    num_clips: int
    difference: float
    reason: str = ""


def repeat_predictions(trained: TrainedModel, run: Path) -> Repeated:
    """Predict a run's dev and test clips from the feature store that its configuration names.

    Args:
        trained: read from a bundle of the run.
        run: run directory; paths in its configuration are relative to the working directory.
    """
    own = TrainedModel.read(run)
    try:
        stored = pd.read_parquet(run / "predictions.parquet")
    except (OSError, ValueError) as error:
        raise RunError(f"{run / 'predictions.parquet'} cannot be read ({error}); finish the run first") from None
    if own.features.transcriber is not None or own.features.describer is not None:
        reason = "its texts were written by a model, which would have to run again"
        return Repeated(len(stored), 0, float("nan"), reason)
    try:
        clips = used_clips(read_corpora(own.config.corpora, own.tasks).clips, own.config.corpora)
        joined = gather(clips, own.features, own.tasks, own.config.model.reads_sequences)
    except (CorpusError, ConfigError, ExtractionError, StoreError, RunError, OSError) as error:
        return Repeated(len(stored), 0, float("nan"), str(error))
    return compare_predictions(trained, joined, stored)


def compare_predictions(trained: TrainedModel, joined: JoinedCorpora, stored: pd.DataFrame) -> Repeated:
    """Predict stored clips, as far as the very modalities that they had are there.

    Args:
        trained: the model.
        joined: clips with vectors, on the model's device.
        stored: rows of `predictions.parquet`.
    """
    keys = pd.MultiIndex.from_frame(stored[["corpus", "clip_id"]])
    place = pd.Series(np.arange(len(joined.clips)), pd.MultiIndex.from_frame(joined.clips[["corpus", "clip_id"]]))
    rows = place.reindex(keys).to_numpy()
    there = np.flatnonzero(~np.isnan(rows))
    presence = joined.presence.cpu().numpy()[rows[there].astype(np.int64)]
    had = stored[[f"present.{name}" for name in joined.features]].to_numpy(dtype=bool)[there]
    there = there[(presence == had).all(axis=1)]
    if not len(there):
        return Repeated(len(stored), 0, float("nan"), "no stored clip has the vectors that it had")
    predicted = trained.predict(joined, torch.from_numpy(rows[there].astype(np.int64)).to(joined.presence.device))
    difference = 0.0
    for task, spec in trained.tasks.items():
        columns = [f"predicted.{column}" for column in label_columns(task, spec)]
        expected = stored[columns].to_numpy(dtype=np.float64)[there]
        difference = max(difference, float(np.abs(predicted[task] - expected).max()))
    return Repeated(len(stored), len(there), difference)


def _differences(spec: EncoderSpec, bundle: Bundle | None, modality: str) -> str:
    """Say what differs between the stored and the installed encoder, where the bundle knows."""
    noted = None if bundle is None else bundle.encoders[modality]
    if noted is None or noted.version is None:
        return ""
    then = {"version": noted.version, "pooling": noted.pooling, **noted.settings}
    now = json.loads(json.dumps({"version": spec.version, "pooling": spec.pooling, **spec.settings}))
    changes = [
        f"{name} was {then.get(name)!r}, is {now.get(name)!r}"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]
    return f" ({'; '.join(changes)})" if changes else ""

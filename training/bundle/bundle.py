"""Bundles: a finished run's model in a folder that predicts anywhere, and back.

```
<folder>/
    model.safetensors   weights, with the statistics that standardise features
    bundle.json         everything else that prediction needs, figures with intervals, sums (`training.bundle.format`)
    README.md           the model card (`training.bundle.model_card`)
```
Nothing in it can run code: weights are safetensors, everything else is text that is checked key by key.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from encoders.errors import ExtractionError
from encoders.extraction.read import encoder_specs
from encoders.spec import EncoderSpec
from mmpsr.config import ConfigError
from mmpsr.files import sha256_of, write_whole
from mmpsr.models.build import restore_model
from training.bundle.collect import collect_bundle
from training.bundle.files import (
    CARD,
    CONTENT,
    FILES,
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
from training.runs.trained import TrainedModel
from training.runs.verify import verify_run

__all__ = ["BundledModel", "check_encoders", "copy_bundle", "read_bundle", "save_bundle", "write_bundle"]


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
    problems = verify_run(run)
    if problems:
        raise BundleError(
            f"{run} is not what it was when it finished, so its figures cannot go with its weights: {problems[0]}"
            + (f" ({len(problems) - 1} more; `mmpsr verify` lists all)" if len(problems) > 1 else "")
        )
    trained = TrainedModel.read(run)
    save_bundle(trained.model.state_dict(), collect_bundle(run, trained), folder, force)


def save_bundle(weights: Mapping[str, Tensor], bundle: Bundle, folder: Path, force: bool = False) -> None:
    """Write a bundle's three files.

    Args:
        weights: of the model, by name.
        bundle: whose sums are filled in here.
        folder: appears whole or not at all.
        force: whether a bundle that is there is replaced.

    Raises:
        BundleError: a weight is not finite, or the folder cannot be written.
    """
    data = weights_bytes(weights)
    to_tensors(data, WEIGHTS)
    card = model_card(bundle).encode()
    bundle = bundle.model_copy(update={"sha256": {WEIGHTS: sha256_of(data), CARD: sha256_of(card)}})
    content = json.dumps(bundle.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
    with new_folder(folder, force) as new:
        for name, value in ((WEIGHTS, data), (CONTENT, content.encode()), (CARD, card)):
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
    tree, _ = read_content(folder)
    bundle = parse_bundle(tree, str(folder / CONTENT), allow_custom_encoders)
    data = {name: read_file(folder, name) for name in (WEIGHTS, CARD)}
    for name, expected in bundle.sha256.items():
        if (found := sha256_of(data[name])) != expected:
            raise BundleError(
                f"{folder / name} was changed: its SHA-256 is {found[:12]}..., {CONTENT} says {expected[:12]}...; get "
                "the bundle anew, or put the new sum there if the change is yours"
            )
    tasks = bundle.config.tasks.resolve()
    weights = to_tensors(data[WEIGHTS], str(folder / WEIGHTS))
    try:
        model = restore_model(bundle.config.model, bundle.modalities, tasks, weights)
    except (ValueError, TypeError, RuntimeError) as error:  # configurations and tensors that no run has written
        raise BundleError(f"{folder / WEIGHTS}: {error}") from None
    fingerprints = {name: bundle.encoders[name].key for name in bundle.modalities}
    fingerprints |= {f"{name} sequences": key for name, key in _sequence_keys(bundle).items()}
    return BundledModel(
        model.to(device), tasks, bundle.config.features, bundle.calibration, bundle.config, fingerprints, bundle, folder
    )


def check_encoders(trained: TrainedModel) -> None:
    """Refuse a model whose vectors the encoders that are installed would make differently.

    Own weights and trust are not in a bundle; where its encoders need them, put them into `trained.features` first:
    `dataclasses.replace(trained, features=trained.features.model_copy(update={"weights": ...}))`.

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
        only = trained.features.model_copy(update={"encoders": {modality: name}, "sequences": {}})
        try:
            spec = encoder_specs(only)[modality]
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


def copy_bundle(source: Path, folder: Path, force: bool = False) -> None:
    """Copy a bundle's files and nothing else, after reading it as `read_bundle` does; encoders are not looked at.

    Args:
        source: a bundle.
        folder: appears whole or not at all; an empty folder may be there.
        force: whether a bundle that is there is replaced.

    Raises:
        BundleError: the source cannot be read, or the folder cannot be written.
    """
    read_bundle(source, allow_custom_encoders=True)
    if folder.exists() and folder.samefile(source):
        raise BundleError(f"{folder} is the bundle itself; name another folder")
    with new_folder(folder, force) as new:
        for name in FILES:
            shutil.copyfile(source / name, new / name)


def _sequence_keys(bundle: Bundle) -> dict[str, str]:
    keys = {name: bundle.encoders[name].sequence_key for name in bundle.modalities}
    return {name: key for name, key in keys.items() if key is not None}


def _differences(spec: EncoderSpec, bundle: Bundle | None, modality: str) -> str:
    """What differs between the stored and the installed encoder, where the bundle knows."""
    noted = None if bundle is None else bundle.encoders[modality]
    if noted is None or noted.version is None:
        return ""
    then = {"version": noted.version, "pooling": noted.pooling, **noted.settings}
    now = json.loads(json.dumps({"version": spec.version, "pooling": spec.pooling, **spec.settings}))
    found = [
        f"{name} was {then.get(name)!r}, is {now.get(name)!r}"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]
    return f" ({'; '.join(found)})" if found else ""

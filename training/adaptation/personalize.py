"""Every method on every test participant, each from the same source network; what is done is kept and not done again.

```
<run>/adaptation/<corpus>-<key>/
    source-<seed>.safetensors  subject-<key>-<seed>.safetensors      networks that participants begin from
    <method>-<key>/<seed>-<participant>.json                         figures of one
    adaptation.json  adaptation.csv                                  all that was asked for last
```

A key stands for the rows and for the settings that the result depends on.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from corpora.clips import CorpusError
from mmpsr.adaptation.base import LabeledTarget, Method, Source, Target
from mmpsr.adaptation.build import SECTIONS, create_method
from mmpsr.adaptation.loops import seeded
from mmpsr.adaptation.network import AdaptedNetwork, FeatureNetwork
from mmpsr.adaptation.source import fit_source
from mmpsr.files import sha256_of, write_json
from training.adaptation.config import PersonalizationConfig
from training.adaptation.figures import comparisons, figures_of, summaries
from training.adaptation.material import Material
from training.adaptation.pictures import Backbone
from training.adaptation.splitting import Parts, cut, seed_of
from training.fit.checkpoint import save_tensors

__all__ = ["Work", "adapt_person", "judge_person", "personalize"]

VERSION = 1
"""Part of every key; rises whenever the same rows and settings would give other figures."""


@dataclass(frozen=True)
class Work:
    """A method on a participant with a seed."""

    seed: int
    method: str
    participant: str


def personalize(
    material: Material,
    config: PersonalizationConfig,
    methods: Sequence[str],
    folder: Path,
    advance: Callable[[int, int, Work], None] = lambda done, total, work: None,
    backbone: Backbone | None = None,
) -> dict[str, Any]:
    """Adapt to each test participant by each method, and judge that.

    Args:
        material: rows of all splits; their features on the device to compute on.
        config: settings.
        methods: names, `source` among them for comparisons.
        folder: where results are kept.
        advance: told before each piece of work, with how many are done of how many.
        backbone: what is adapted on rows that are pictures; None where they are vectors.

    Returns:
        `participants`, a row per seed, method and participant; `methods`, see `training.adaptation.figures.summaries`;
        `comparisons`, see there; `skipped`, a `participant` and the `reason` each; and `notes`.

    Raises:
        CorpusError: train people, dev people or test people are missing, or everybody has to be left out.
        ConfigError: a method is not known.
    """
    for name in methods:
        create_method(name, config)
    people, skipped = _people(material, config)
    of_split = {split: np.flatnonzero(material.splits == split) for split in ("train", "dev", "test")}
    _require_source(material, of_split)
    if not people:
        raise CorpusError(
            f"none of the {len(skipped)} test participants can be adapted to; {skipped[0]['participant']}: "
            f"{skipped[0]['reason']}. `--set protocol.fewest_positives=1` asks for less, and --config names another "
            "level of the corpus, such as BAH's frames"
        )
    folder = folder / f"{_key(config, (), material, backbone)}"
    folder.mkdir(parents=True, exist_ok=True)
    works = [Work(seed, name, person) for seed in config.protocol.seeds for name in methods for person in people]
    rows, prepared = [], dict[tuple[str, int], AdaptedNetwork]()
    for done, work in enumerate(works):
        advance(done, len(works), work)
        path = folder / f"{work.method}-{_key(config, SECTIONS[work.method])}"
        file = path / f"{work.seed}-{quote(work.participant, safe=' ')}.json"
        if not file.exists():
            place = (work.method, work.seed)
            if place not in prepared:
                prepared = {place: _prepared(material, config, work, of_split, folder, backbone)}
            path.mkdir(exist_ok=True)
            person = material.take(people[work.participant])
            source = _source(material, of_split["train"])
            write_json(file, judge_person(person, config, work, prepared[place], source))
        rows.append(json.loads(file.read_text(encoding="utf-8")))
    table = pd.DataFrame(rows)
    return {
        "folder": str(folder), "participants": rows, "methods": list(summaries(table)),
        "comparisons": comparisons(table), "skipped": skipped, "notes": [*material.notes, *_notes(table, material)],
    }  # fmt: skip


def judge_person(
    person: Material, config: PersonalizationConfig, work: Work, network: AdaptedNetwork, source: Source
) -> dict[str, Any]:
    """Cut a participant's rows, adapt a copy of the network to the first part, and judge the last.

    Returns:
        The row: `seed, method, participant, split_by, note, num_train, num_val, num_test, num_positives, epoch`,
        `share_present`, and what `training.adaptation.figures.figures_of` gives.
    """
    parts = cut(person, config.protocol, seed_of(work.seed, work.participant))
    method = create_method(work.method, config)
    present, epoch = adapt_person(
        person, parts, method, network, source, config, seed_of(work.seed, work.method, work.participant)
    )
    labels = person.labels[parts.test]
    return {
        "seed": work.seed, "method": work.method, "participant": work.participant, "split_by": parts.split_by,
        "note": parts.note, "num_train": len(parts.train), "num_val": len(parts.val), "num_test": len(parts.test),
        "num_positives": int(labels.sum()), "epoch": epoch, "share_present": 100 * float(labels.mean()),
        **figures_of(labels, present),
    }  # fmt: skip


def adapt_person(
    person: Material,
    parts: Parts,
    method: Method,
    network: AdaptedNetwork,
    source: Source,
    config: PersonalizationConfig,
    seed: int,
) -> tuple[NDArray[np.float64], int]:
    """Adapt a copy of a network to a participant's first part, and predict the last.

    Only a method with `uses_labels` is given labels of the first part; only one with `uses_source` source rows.

    Args:
        person: rows of the participant.
        parts: which rows are for what.
        method: the method.
        network: what everybody begins from; it is not changed.
        source: rows of train people.
        config: settings.
        seed: of batches and noise.

    Returns:
        Probabilities of the second class for the rows of `parts.test`, and the epoch that gave them, 0 for none.
    """
    own = copy.deepcopy(network)
    train = person.take(parts.train)
    seen: Target = Target(train.features, train.mirrored, train.places())
    if method.uses_labels:
        labels = torch.from_numpy(train.labels).to(train.features.device)
        seen = LabeledTarget(seen.features, seen.mirrored, seen.places, labels=labels)
    keeper = _Best(own, person.take(parts.val)) if config.protocol.select == "labelled" else _Last()
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed):
        method.adapt(own, seen, source if method.uses_source else None, generator, keeper)
    keeper.restore(own)
    _, probabilities = own.outputs(person.take(parts.test).features)
    return probabilities[:, 1].double().cpu().numpy(), keeper.epoch


class _Last:
    """Keeps the last epoch."""

    epoch = 0

    def __call__(self, epoch: int) -> None:
        self.epoch = epoch

    def restore(self, network: AdaptedNetwork) -> None:
        """Leave the network as it is."""


class _Best(_Last):
    """Keeps the epoch with the highest average precision on labels of the validation part, the later of equals."""

    def __init__(self, network: AdaptedNetwork, val: Material) -> None:
        self.network, self.val = network, val
        self.best, self.state = float("-inf"), dict[str, Any]()

    def __call__(self, epoch: int) -> None:
        value = _average_precision(self.network, self.val)
        if value >= self.best:
            self.best, self.epoch = value, epoch
            self.state = copy.deepcopy(self.network.state_dict())
        elif not self.state:  # nothing can be told without a positive row
            self.epoch = epoch

    def restore(self, network: AdaptedNetwork) -> None:
        if self.state:
            network.load_state_dict(self.state)


def _average_precision(network: AdaptedNetwork, rows: Material) -> float:
    """Give BAH's average precision; NaN without a row of the second class."""
    if not rows.labels.any():
        return float("nan")
    _, probabilities = network.outputs(rows.features)
    value = figures_of(rows.labels, probabilities[:, 1].double().cpu().numpy())["bah_average_precision"]
    return float("nan") if value is None else value


def _people(
    material: Material, config: PersonalizationConfig
) -> tuple[dict[str, NDArray[np.int64]], list[dict[str, str]]]:
    """Number the rows of each test participant that can be adapted to, and say why others cannot."""
    people, skipped = {}, []
    tested = material.splits == "test"
    for name in np.unique(material.participants[tested]).tolist():
        rows = np.flatnonzero(tested & (material.participants == name))
        positives = int(material.labels[rows].sum())
        fewest = config.protocol.fewest_positives
        reason = ""
        if positives < fewest:
            reason = f"{positives} of {len(rows)} rows are of the second class, fewer than {fewest}"
        elif positives == len(rows):
            reason = f"all {len(rows)} rows are of the second class"
        else:
            person = material.take(rows)
            for seed in config.protocol.seeds:
                parts = cut(person, config.protocol, seed_of(seed, name))
                if len(parts.train) < 2 or not len(parts.test):
                    reason = (
                        f"{len(rows)} rows cannot be cut by {parts.split_by} into what is adapted to "
                        f"({len(parts.train)}) and what is judged ({len(parts.test)})"
                    )
        if reason:
            skipped.append({"participant": name, "reason": reason})
        else:
            people[name] = rows
    return people, skipped


def _require_source(material: Material, of_split: dict[str, NDArray[np.int64]]) -> None:
    found = {split: len(rows) for split, rows in of_split.items()}
    for split, purpose in {"train": "to fit the source network to", "test": "to adapt to"}.items():
        if not found[split]:
            raise CorpusError(f"no labelled clip of split {split!r} {purpose}; found {found}")
    if len(np.unique(material.labels[of_split["train"]])) < 2:
        raise CorpusError(f"all {found['train']:,} training rows are of one class; both are needed")


def _source(material: Material, rows: NDArray[np.int64]) -> Source:
    own, device = material.take(rows), material.features.device
    subjects = np.unique(own.participants, return_inverse=True)[1]
    return Source(
        own.features,
        torch.from_numpy(own.labels).to(device),
        torch.from_numpy(subjects.astype(np.int64)).to(device),
    )


def _prepared(
    material: Material,
    config: PersonalizationConfig,
    work: Work,
    of_split: dict[str, NDArray[np.int64]],
    folder: Path,
    backbone: Backbone | None,
) -> AdaptedNetwork:
    """Read or make the network that a method begins from with a seed."""
    source = _source(material, of_split["train"])
    dev = material.take(of_split["dev"])

    def create() -> AdaptedNetwork:
        if backbone is not None:
            return backbone.network(config, material.features.device)
        assert isinstance(source.features, torch.Tensor)  # a backbone is given with pictures
        return FeatureNetwork.fitted(source.features, config.width)

    network = _kept(
        folder / f"source-{work.seed}.safetensors",
        create(),
        lambda: fit_source(source, config, work.seed, lambda fitted: _average_precision(fitted, dev), create),
    )
    method = create_method(work.method, config)
    if type(method).prepare is Method.prepare:
        return network

    def prepare() -> AdaptedNetwork:
        own, seed = copy.deepcopy(network), seed_of(work.seed, work.method)
        with seeded(seed):
            method.prepare(own, source, torch.Generator().manual_seed(seed))
        return own

    name = f"{work.method}-{_key(config, SECTIONS[work.method])}-{work.seed}.safetensors"
    return _kept(folder / name, copy.deepcopy(network), prepare)


def _kept(file: Path, blank: AdaptedNetwork, make: Callable[[], AdaptedNetwork]) -> AdaptedNetwork:
    if not file.exists():
        save_tensors(dict(make().state_dict()), file)
    blank.load_state_dict(load_file(file))
    return blank.eval()


def _key(
    config: PersonalizationConfig,
    sections: Sequence[str],
    material: Material | None = None,
    backbone: Backbone | None = None,
) -> str:
    """Sum up settings, ten hexadecimal digits: some sections, or with rows what all methods read."""
    tree = config.model_dump(mode="json")
    read: dict[str, Any] = {name: tree[name] for name in (*sections, *(["statistics"] if sections else []))}
    if material is not None:
        protocol = {name: value for name, value in tree["protocol"].items() if name != "seeds"}
        read = {"version": VERSION, "width": tree["width"], "source": tree["source"], "protocol": protocol}
        read["rows"] = material.sha256()
    if backbone is not None:
        read |= {"network": tree["network"], "backbone": backbone.key}
    return sha256_of(json.dumps(read, sort_keys=True))[:10]


def _notes(table: pd.DataFrame, material: Material) -> Iterator[str]:
    of_all = table[table["method"].eq(table["method"].iloc[0])]
    moved = of_all.loc[of_all["note"].ne(""), "participant"].unique()
    if len(moved):
        some = ", ".join(moved[:3]) + (", ..." if len(moved) > 3 else "")
        yield f"{len(moved)} participant(s) have too few videos and are cut by segment ({some})"
    bare = of_all["num_positives"].eq(0)
    if bare.any():
        yield f"{int(bare.sum())} judged part(s) have no row of the second class, and no average precision"
    train, test = (set(material.participants[material.splits == split].tolist()) for split in ("train", "test"))
    if both := train & test:
        yield f"{len(both)} of {len(test)} test participants are in train, too: the source network knows them"
    if not (material.splits == "dev").any():
        yield "there is no dev split, so that the source network's last epoch is kept"

"""The folder that a model in time is handed on by: what of its run predicts, without a place on a machine.

config.json  best.safetensors  features.json  data.json  results.json  README.md

The commands that take a run take it, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpsr.config import validate
from mmpsr.files import write_json, write_whole
from training.bundle.files import CARD, BundleError, read_file, require_no_pickle
from training.bundle.format import FEATURES, SECTIONS, require_harmless
from training.config import InTimeConfig
from training.in_time.trained import InTimeModel
from training.runs.directory import read_json

__all__ = ["FILES", "read_folder", "write_folder"]

CONFIG, WEIGHTS = "config.json", "best.safetensors"
FILES = (CONFIG, WEIGHTS, "features.json", "data.json", "results.json", CARD)
"""Of a folder; figures and counts are there where the run has them."""
CORPUS = {"adapter": "table", "files": "not stored", "id": "clip_id", "split": "split"}
"""What stands for each corpus, of which only the name and its use go along."""


def write_folder(run: Path, folder: Path) -> None:
    """Write what predicts of a finished run.

    Args:
        run: its directory.
        folder: files of these names that are there are replaced.

    Raises:
        RunError: there is no finished run.
    """
    trained = InTimeModel.read(run)
    tree = trained.config.model_dump(mode="json")
    sources = {name: {**CORPUS, "zero_shot": each.zero_shot} for name, each in trained.config.corpora.sources.items()}
    config = {name: section for name, section in tree.items() if name in SECTIONS}
    config["features"] = {name: value for name, value in tree["features"].items() if name in FEATURES}
    config["corpora"] = {"sources": sources}
    validate(InTimeConfig, config, str(folder / CONFIG))
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS, (run / WEIGHTS).read_bytes())
    for name, keys in (("data.json", ("clips", "generated")), ("results.json", None)):
        if (run / name).exists():
            value = read_json(run, name)
            write_json(folder / name, value if keys is None else {key: value[key] for key in keys if key in value})
    write_json(folder / "features.json", read_json(run, "features.json"))
    write_whole(folder / CARD, _card(trained))
    write_json(folder / CONFIG, config)


def read_folder(folder: Path, allow_custom_encoders: bool = False) -> InTimeModel:
    """Read a folder of `write_folder`, perhaps of somebody else.

    Args:
        folder: the folder.
        allow_custom_encoders: whether encoders may be classes of one's own, which run when they are imported.

    Raises:
        BundleError: it has a pickle, a file that lies elsewhere, or a setting that asks to run code or names a file.
        RunError: a file is missing, or the weights are not those of the configuration.
        ConfigError: a setting is not known.
    """
    require_no_pickle(folder)
    for name in FILES:
        if name in (CONFIG, WEIGHTS) or (folder / name).exists():
            read_file(folder, name)
    tree: Mapping[str, Any] = read_json(folder, CONFIG)
    if not isinstance(tree, dict):
        raise BundleError(f"{folder / CONFIG} is no JSON object")
    own = {name: section for name, section in tree.items() if name != "corpora"}
    require_harmless({"config": own}, str(folder / CONFIG), allow_custom_encoders)
    return InTimeModel.read(folder)


def _card(trained: InTimeModel) -> str:
    classes = ", ".join(trained.spec.classes)
    return (
        "---\nlibrary_name: mmpsr\n---\n\n# A model in time\n\n"
        f"{trained.about(trained.origin.name)}\n\nIt predicts for every frame of a recording one of {classes} "
        f"(task {trained.task}), from {', '.join(trained.model.modalities)}.\n\n```python\n"
        "from training.in_time.recordings import InTimePredictor\n\n"
        'predictor = InTimePredictor.from_pretrained("this/folder or its id on the hub")\n```\n\n'
        "`mmpsr predict FOLDER recording.mp4` takes it as it takes a run.\n"
    )

"""The command `mmpsr encoders`: which models a configuration can name, and which of them can run here."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from training.commands.common import JsonOption, SetOption, error_console, guarded, out_console
from training.drafting.completion import complete_configs

if TYPE_CHECKING:
    from encoders.catalogue.entry import CatalogueEntry, Entry
    from encoders.config import FeaturesConfig

__all__ = ["encoders"]


@guarded()
def encoders(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="TOML file whose local weights and trusted code count.", autocompletion=complete_configs
        ),
    ] = None,
    set_: SetOption = None,
    modality: Annotated[str | None, typer.Option("--modality", help="Only those that describe it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the encoders and writers of texts that a configuration can name, and say which can run here."""
    from encoders.config import MODALITIES, FeaturesConfig
    from encoders.creation import CATALOGUE, WRITERS
    from mmpsr.config import ConfigError, nearest

    if modality is not None and modality not in MODALITIES:
        raise ConfigError(f"no modality is named {modality!r}; {nearest(modality, MODALITIES)}")
    if config is None and set_:
        raise ConfigError("--set needs --config: the settings change what a file says")
    features, notes = FeaturesConfig(), list[str]()
    if config is not None:
        from training.published_config import load_any_config  # what only a configuration needs

        with redirect_stdout(sys.stderr):
            run, notes = load_any_config(config, set_ or [])
        features = run.features
    for note in notes:
        error_console().print(note, highlight=False, markup=False)
    readers = {"transcript": ("text", "behavior")}  # modalities whose encoders read what a model writes
    vectors = [_encoder(e, features) for e in CATALOGUE.values() if modality is None or modality in e.modalities]
    texts = [
        {"id": e.id, "section": e.section, "reads": e.reads, "writes": e.writes, **_about(e, features)}
        for e in WRITERS.values()
        if modality is None or modality in readers.get(e.writes, ("behavior",))
    ]
    if as_json:
        typer.echo(json.dumps({"encoders": vectors, "writers": texts}, indent=2, allow_nan=False))
    else:
        out_console().print(_tables(vectors, texts), highlight=False)


def _encoder(entry: CatalogueEntry, features: FeaturesConfig) -> dict[str, Any]:
    return {
        "id": entry.id, "modalities": list(entry.modalities), "width": entry.width, "pooling": entry.pooling,
        "rate": entry.rate, "image_size": entry.image_size, **_about(entry, features),
    }  # fmt: skip


def _about(entry: Entry, features: FeaturesConfig) -> dict[str, Any]:
    """Collect what is said of every model; `weights` are `installed`, a `local copy`, `cached` or `to download`."""
    from encoders.catalogue.checkpoint import is_cached
    from encoders.catalogue.entry import EMBEDDED
    from encoders.creation import can_run

    reason, is_embedded = can_run(entry, features), entry.family == EMBEDDED
    fetched = "cached" if not is_embedded and is_cached(entry) else "to download"
    weights = "installed" if is_embedded else "local copy" if entry.home in features.weights else fetched
    return {
        "family": entry.family, "description": entry.description, "home": None if is_embedded else entry.home,
        "revision": entry.revision, "remote_code": entry.remote_code, "licence": entry.licence,
        "citation": entry.citation, "can_run": reason is None, "reason": reason, "weights": weights,
        "download_mb": entry.download_mb,
    }  # fmt: skip


def _tables(encoders: Sequence[dict[str, Any]], writers: Sequence[dict[str, Any]]) -> Group:
    """List encoders family by family as in the catalogue, models that write texts, and how many can run here."""
    vectors = _table("encoder, and whom to cite", "modalities", "width")
    vectors.columns[2].justify = "right"
    for entry in encoders:
        _add(vectors, entry, "\n".join(entry["modalities"]), f"{entry['width']:,}")
    parts = [vectors]
    if writers:
        texts = _table("writer of texts that encoders read, and whom to cite", "from", "to")
        for entry in writers:
            _add(texts, entry, entry["reads"], f"{entry['writes']}\n{entry['section']}")
        parts.append(texts)
    listed = [*encoders, *writers]
    able = sum(entry["can_run"] for entry in listed)
    ready = sum(entry["can_run"] and entry["weights"] != "to download" for entry in listed)
    summary = f"{able:,} of {len(listed):,} can run here, {ready:,} of them without a download"
    return Group(*parts, Text(summary, style="bold"))


def _table(*columns: str) -> Table:
    table = Table(*columns, "family, licence", "here", box=box.SIMPLE_HEAD, expand=True)
    table.columns[0].ratio, table.columns[3].ratio, table.columns[4].ratio = 4, 2, 2
    return table


def _add(table: Table, entry: dict[str, Any], *between: str) -> None:
    name = Text(entry["id"], overflow="fold").append(f"\n{entry['citation']}", style="dim")
    family = Text(entry["family"]).append(f"\n{entry['licence']}", style="dim")
    table.add_row(name, *between, family, _here(entry))


def _here(entry: dict[str, Any]) -> Text:
    if not entry["can_run"]:
        return Text(f"no: {entry['reason']}", style="yellow")
    sentences = {
        "installed": "yes, needs no download", "local copy": "yes, from a local copy",
        "cached": "yes, weights in the local cache", "to download": f"yes, downloads about {entry['download_mb']:,} MB",
    }  # fmt: skip
    return Text(sentences[entry["weights"]], style="dim" if entry["weights"] == "to download" else "green")

"""Which clips a run was trained on, chosen by and evaluated on, so that they are known again wherever they turn up.

`identities.parquet` in a run's folder has one row per clip: `corpus, split, clip_id, group, speaker`, `media, start,
end`, `text` (a hash of the transcript, never the transcript), `vector.<modality>` (a hash of the vector, missing where
the clip has none), and `use`: `trained`, `chosen_by` (dev of trained corpora, which decides the epoch and the
calibration) or `none`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pandas as pd

from corpora.checks.findings import text_keys
from corpora.registry import CorporaConfig
from mmpsr.config import base_of
from training.data.joined import JoinedCorpora
from training.runs.directory import RunDirectory, RunError

__all__ = ["FILE", "KINDS", "identities", "read_identities", "same_clips", "shared", "write_identities"]

FILE = "identities.parquet"
KINDS = {
    "group": "a group (participant, video or dialogue)",
    "speaker": "a speaker",
    "media": "a media file",
    "text": "a transcript of at least 8 words",
    "vectors": "equal vectors (of sound or picture, or of an equal transcript)",
}
"""What clips of different splits may share."""

_TELLING = r"[A-Z]|[0-9]{5}"  # names without, and those shorter than 8, recur by chance in other corpora
_SEEN = ("video", "audio")  # modalities whose vectors are hardly ever equal of two clips


def identities(clips: pd.DataFrame, joined: JoinedCorpora | None = None) -> pd.DataFrame:
    """Note by what clips are known again, a row per clip.

    Args:
        clips: clip table.
        joined: the same clips with their vectors; None where there are none yet.
    """
    table = clips[["corpus", "split", "clip_id", "group", "speaker"]].copy()
    table["media"] = (
        clips["media"].fillna(clips["audio_media"]).map(os.path.realpath, na_action="ignore").astype("string")
    )
    table["start"], table["end"] = clips["start"].fillna(clips["audio_start"]), clips["end"].fillna(clips["audio_end"])
    table["text"] = text_keys(clips).map(lambda text: _hash(text.encode()), na_action="ignore").astype("string")
    presence = {} if joined is None else dict(zip(joined.features, joined.presence.cpu().numpy().T, strict=True))
    for name, present in presence.items():
        values = joined.features[name].cpu().numpy()  # type: ignore[union-attr]  # there is no presence without
        hashes = [_hash(row.tobytes()) if there else None for row, there in zip(values, present, strict=True)]
        table[f"vector.{name}"] = pd.array(hashes, dtype="string")
    return table.reset_index(drop=True)


def write_identities(run: RunDirectory, joined: JoinedCorpora, corpora: CorporaConfig) -> None:
    """Note a run's clips and their use in `identities.parquet`."""
    table = identities(joined.clips, joined)
    trained = table["corpus"].isin(corpora.trained())
    uses = {"train": "trained", "dev": "chosen_by"}
    table["use"] = table["split"].map(uses).where(trained).fillna("none").astype("string")
    table.to_parquet(run.path / FILE, index=False)


def read_identities(path: Path) -> pd.DataFrame | None:
    """Read what `write_identities` wrote, or None of a run of a version that did not.

    Args:
        path: run directory.

    Raises:
        RunError: the file cannot be read.
    """
    if not (path / FILE).exists():
        return None
    try:
        return pd.read_parquet(path / FILE)
    except (OSError, ValueError) as error:
        raise RunError(f"{path / FILE} cannot be read ({error})") from None


def same_clips(clips: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Mark which clips are among the others, under whatever name: a bool for each.

    They are the same where corpus and id are, unless file or transcript differ; where the media file and the span are;
    or where all their vectors are, one of sound or picture among them, or the transcript is, too.

    Args:
        clips: rows of `identities`.
        others: likewise.
    """
    keys = ["corpus", "clip_id"]
    known = others.drop_duplicates(keys).set_index(keys)[["media", "text"]]
    index = pd.MultiIndex.from_frame(clips[keys])
    twins = known.reindex(index).set_index(clips.index)
    differ = _file_names(clips["media"]).ne(_file_names(twins["media"])) | clips["text"].ne(twins["text"])
    same = pd.Series(index.isin(known.index), index=clips.index) & ~differ.fillna(False).astype(bool)
    places = zip(_spans(clips), _spans(others), strict=True)
    for mine, theirs in (*places, (_vectors(clips), _vectors(others))):
        same |= _among(mine, theirs)
    return same


def shared(kind: str, clips: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Mark which clips share something with any of the others: a bool for each.

    Groups and speakers count within a corpus, between corpora only names that do not recur by chance.

    Args:
        kind: of `KINDS`.
        clips: rows of `identities`.
        others: likewise.
    """
    keys: list[tuple[pd.Series, ...]] = []
    for table in (clips, others):
        if kind in ("group", "speaker"):
            keys.append((table["corpus"] + "\n" + table[kind], _telling(table[kind])))
        elif kind == "media":
            keys.append((table["media"], _telling(_file_names(table["media"]))))
        else:
            keys.append((_vectors(table) if kind == "vectors" else table["text"],))
    same = pd.Series(False, index=clips.index)
    for mine, theirs in zip(*keys, strict=True):
        same |= _among(mine, theirs)
    return same


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _among(keys: pd.Series, others: pd.Series) -> pd.Series:
    return (keys.notna() & keys.isin(others.dropna())).astype(bool)


def _telling(names: pd.Series) -> pd.Series:
    """Keep names that do not recur by chance, the others missing."""
    names = names.astype("string")
    return names.where((names.str.len().ge(8) & names.str.contains(_TELLING)).fillna(False).astype(bool))


def _file_names(paths: pd.Series) -> pd.Series:
    return paths.astype("string").str.extract(r"([^/\\]*)$", expand=False)


def _spans(clips: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Name media with start and end, by path and by telling file name."""
    times = "\n" + clips["start"].astype("string").fillna("") + "\n" + clips["end"].astype("string").fillna("")
    return clips["media"].astype("string") + times, _telling(_file_names(clips["media"])) + times


def _vectors(clips: pd.DataFrame) -> pd.Series:
    """Join all vectors to one key, missing where chance may make them equal."""
    names = sorted(str(name) for name in clips if str(name).startswith("vector."))
    if not names:
        return pd.Series(pd.NA, index=clips.index, dtype="string")
    key = clips[names].astype("string").fillna("-").agg(" ".join, axis=1).astype("string")
    seen = clips[[name for name in names if base_of(name.removeprefix("vector.")) in _SEEN]].notna().any(axis=1)
    return key.where(seen, (key + clips["text"]).where(clips[names].notna().any(axis=1)))

"""What an encoder's folder holds, read once and followed: a few bytes of clips that are done, of others the reason.

A clip that is done is known by a hash of its id and source, of twelve bytes: a third of what the texts and their pair
take. That any two of ten million clips have one hash has a probability of (10^7)^2 / 2 / 2^96 = 6e-16.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from encoders.errors import StoreError
from encoders.store.parts import COMPACTED, compaction_into, list_parts, read_part

__all__ = ["DONE", "FIGURES", "KEY", "Entry", "Index"]

KEY = ("clip_id", "source")
FIGURES = "figures"
_WORDS = ("status", "reason", "time")
_MOST_ROUNDS = 20


class Entry(NamedTuple):
    """What the store knows of a clip: status `done`, `failed` or `absent`; reason and time where it is not done."""

    status: str
    reason: str = ""
    time: str = ""


DONE = Entry("done")


class Index:
    """What is settled in one encoder's folder, by `(clip_id, source)`; a vector outweighs failures, late ones early.

    Parts never change, so each is read once; later looks open only what is new.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._done: set[bytes] = set()
        self._figures: dict[bytes, str] = {}
        self._words: dict[str, str] = {}
        self.undone: dict[tuple[str, str], Entry] = {}

    def __len__(self) -> int:
        return len(self._done) + len(self.undone)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return self.get(key) is not None

    def __getitem__(self, key: tuple[str, str]) -> Entry:
        entry = self.get(key)
        if entry is None:
            raise KeyError(key)
        return entry

    def get(self, key: tuple[str, str]) -> Entry | None:
        """Look up a clip as made from a source; None where nothing is known."""
        return DONE if _digest(*key) in self._done else self.undone.get(key)

    def figures_of(self, key: tuple[str, str]) -> str | None:
        """Look up what was measured of a clip, JSON."""
        return self._figures.get(_digest(*key)) if self._figures else None

    def refresh(self, folder: Path, added: Iterable[str] | None = None) -> None:
        """Read what is new in the folder.

        Args:
            folder: of the encoder.
            added: names of all parts and ledgers that are new; where it is left out, the folder is listed.

        Raises:
            StoreError: a part cannot be read.
        """
        for _ in range(_MOST_ROUNDS):
            names = list_parts(folder, "part-", "ledger-") if added is None else sorted(added)
            has_moved = (folder / COMPACTED).exists()
            gone = ""
            for name in names:
                if name in self._seen:
                    continue
                compaction = compaction_into(folder, name) if has_moved else None
                if compaction is None or not self._seen.issuperset(compaction.parts):
                    try:
                        self._read(folder, name)
                    except FileNotFoundError:  # compaction took it; what it became is listed now
                        gone = name
                        continue
                self._seen.add(name)
            if not gone:
                return
            added = None
        raise StoreError(f"{folder / gone}: is listed, and is not there; remove the entry")

    def _read(self, folder: Path, name: str) -> None:
        is_part = name.startswith("part-")
        table = read_part(folder / name, [*KEY, *(() if is_part else _WORDS), FIGURES])
        ids, sources = (table[column].to_pylist() for column in KEY)
        digests = list(map(_digest, ids, sources))
        if is_part:
            self._done.update(digests)
            if self.undone:
                for key in zip(ids, sources, strict=True):
                    self.undone.pop(key, None)
        else:
            words = (table[word].to_pylist() for word in _WORDS)
            for digest, clip_id, source, status, reason, time in zip(digests, ids, sources, *words, strict=True):
                key = clip_id, source
                known = self.undone.get(key)
                if digest not in self._done and (known is None or known.time < time):
                    # many clips share a status, and often a reason
                    self.undone[key] = Entry(self._once(status), self._once(reason), self._once(time))
        if FIGURES in table.column_names:
            texts = zip(digests, table[FIGURES].to_pylist(), strict=True)
            self._figures.update((digest, text) for digest, text in texts if text is not None)

    def _once(self, text: str) -> str:
        return self._words.setdefault(text, text)


def _digest(clip_id: str, source: str) -> bytes:
    return hashlib.blake2b(f"{clip_id}\0{source}".encode(errors="surrogatepass"), digest_size=12).digest()

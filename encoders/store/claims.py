"""Who works on what: any number of processes share one store, and no clip is done twice.

Each process has one claim in `<store>/.claims/`: `<uuid>.json` lists what it works on, and `<uuid>.lock` is a file lock
that it holds as long as it lives. The operating system drops the lock with the process, so a claim whose lock can be
taken belongs to a dead process, and what it listed is free again. New work is claimed under one short exclusive lock:

1. read the claims of others (remove those of the dead),
2. then read what the store holds,
3. add what is neither held nor claimed to the own claim.

The order of 1 and 2 matters: a process writes its parts before it drops a claim, so what is missing from the claims
in step 1 because it was just finished is in the store in step 2.

Step 2 lists no folder, which would take longer the more parts there are: a process adds the name of each part that it
has written to `<uuid>.parts` before it drops the claim, and others read on there from where they last were. When a
process ends or is found dead, `ended` gets another content, and everybody lists the folders once more: between writing
a part and naming it a process may die.

File locks need a file system with `flock`; local disks, NFS version 4 and Lustre (mounted with `flock`) have it.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from encoders.store.parts import clean
from mmpsr.files import write_whole

__all__ = ["Claims", "Item", "announce"]

_EXCLUSIVE = "exclusive.lock"
_ENDED = "ended"
_PARTS = ".parts"


class Item(NamedTuple):
    """One vector to be made: a clip as it is now (`source`) by one encoder (its folder below the store's root)."""

    folder: str
    clip_id: str
    source: str


_ACTIVE: list[Claims] = []
"""Claims of this process that are open."""


def announce(part: Path) -> None:
    """Tell others of a part that this process has written, where it has a claim on the store."""
    for claims in _ACTIVE:
        claims.announce(part)


class Claims:
    """This process' claim on a store and its view of the others'; a context manager that drops the claim at the end.

    Args:
        root: folder of the feature store.

    Example:
        ```
        with Claims(root) as claims:
            with claims.exclusive:
                taken = claims.others()
                claims.add(item for item in wanted if item not in taken and not in_store(item))
            ...  # work, write
            claims.drop(items)
        ```
    """

    def __init__(self, root: str | Path) -> None:
        from filelock import FileLock

        self.folder = Path(root) / ".claims"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.exclusive = FileLock(self.folder / _EXCLUSIVE)
        self._path = self.folder / f"{uuid.uuid4().hex}.json"
        self._alive = FileLock(self._path.with_suffix(".lock"))
        self._held: set[Item] = set()
        self._root = os.path.realpath(root)
        self._parts = self._path.with_suffix(_PARTS)
        self._read: dict[str, int] = {}
        self._ended: bytes | None = None

    def __enter__(self) -> Claims:
        clean(self.folder)
        with self.exclusive:  # or another process could take the lock between its making and its holding
            self._alive.acquire()
            self._parts.touch()
        _ACTIVE.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _ACTIVE.remove(self)
        self._end(self._path)
        self._alive.release()
        self._path.with_suffix(".lock").unlink(missing_ok=True)

    @property
    def held(self) -> frozenset[Item]:
        """What this process works on."""
        return frozenset(self._held)

    def add(self, items: Iterable[Item]) -> None:
        """Claim items; call it while holding `exclusive`, after `others` and a look into the store."""
        self._held.update(items)
        self._save()

    def drop(self, items: Iterable[Item]) -> None:
        """Give items up, done or not; what was made must have been written before."""
        self._held.difference_update(items)
        self._save()

    def others(self) -> dict[Item, str]:
        """Tell what other living processes hold, and a name for each; call it while holding `exclusive`."""
        taken: dict[Item, str] = {}
        for lock in self.folder.glob("*.lock"):
            path = lock.with_suffix(".json")
            if path == self._path or lock.name == _EXCLUSIVE or self._bury(path):
                continue
            try:
                claim = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:  # its process begins or ends
                continue
            taken.update(dict.fromkeys((Item(*item) for item in claim["items"]), claim["process"]))
        return taken

    def announce(self, part: Path) -> None:
        """Tell others of a part of the store that this process has written; call it before dropping the claim."""
        path = os.path.realpath(part)
        if path.startswith(self._root + os.sep):
            with self._parts.open("a", encoding="utf-8") as file:  # closed each time, so that other machines see it
                file.write(f"{os.path.relpath(path, self._root)}\n")

    def news(self) -> dict[str, list[str]] | None:
        """Tell which parts were added since the last call; call it while holding `exclusive`, after `others`.

        Returns:
            Names of parts and ledgers by folder below the store's root; None where others may have been added, too.
        """
        added: dict[str, list[str]] = {}
        read: dict[str, int] = {}
        is_complete = self._ended is not None
        for lock in self.folder.glob("*.lock"):
            if lock.name == _EXCLUSIVE:
                continue
            try:
                with lock.with_suffix(_PARTS).open("rb") as file:
                    begin = file.seek(self._read.get(lock.stem, 0))
                    content = file.read()
            except FileNotFoundError:  # it has just ended, or it is of a version that names no parts
                is_complete = False
                continue
            whole = content[: content.rfind(b"\n") + 1]
            read[lock.stem] = begin + len(whole)
            for path in map(Path, whole.decode("utf-8").splitlines()):
                added.setdefault(path.parent.as_posix(), []).append(path.name)
        try:  # after the parts: who ends changes it before they go
            ended = (self.folder / _ENDED).read_bytes()
        except FileNotFoundError:
            ended = b""
        is_complete &= ended == self._ended
        self._read, self._ended = read, ended
        return added if is_complete else None

    def _end(self, path: Path) -> None:
        """Remove what stands for a process, after telling that one has ended."""
        write_whole(self.folder / _ENDED, uuid.uuid4().hex, durable=False)
        path.unlink(missing_ok=True)
        path.with_suffix(_PARTS).unlink(missing_ok=True)

    def _bury(self, path: Path) -> bool:
        """Remove the claim if its process is dead; say whether it was."""
        from filelock import FileLock, Timeout

        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._end(path)
        lock.release()
        path.with_suffix(".lock").unlink(missing_ok=True)
        return True

    def _save(self) -> None:
        claim = {"process": f"process {os.getpid()} on {socket.gethostname()}", "items": sorted(self._held)}
        write_whole(self._path, json.dumps(claim), durable=False)

"""The file: results by what their items are known by, held by one call at a time.

Results are on the disk before anybody sees them, and what came together is written together: one
transaction, one wait for the disk.  So a kill at any moment costs only what nobody had seen yet.
"""

from __future__ import annotations

import copyreg
import json
import os
import pickle
import sqlite3
import sys
import weakref
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from parmap._checkpoint.changes import Facts, differences, facts_of, name_of, unbound
from parmap._checkpoint.digest import digest
from parmap._checkpoint.file import File, forget_all, refuse
from parmap.errors import SerializationError
from parmap.options import warn_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PROTOCOL = 5

_stores: weakref.WeakSet[Store] = weakref.WeakSet()


class Store:
    """The results of one function in a file.  For one thread at a time.

    Raises:
        ParmapError: another call, in this process or another one, has the file open.
        ValueError: the file is something else, or damaged.
        OSError: the file cannot be opened, made, or written.
    """

    def __init__(self, path: str | Path, fn: Callable[..., Any], seed: int | None) -> None:
        path = self._path = Path(path)
        self._seed = seed
        self._told: set[str] = set()
        self._file = File(path)
        self._base = self._file.base
        try:
            self._enter(fn)
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                refuse(path, error)
            raise
        _stores.add(self)

    def _enter(self, fn: Callable[..., Any]) -> None:
        """Find this function's results, and say what has changed since they were stored."""
        inner, bound = unbound(fn)
        self._bound: bytes | None = self._digest_of(bound)
        name = name_of(inner)
        self._call = _number_of(self._base, name, "" if self._seed is None else str(self._seed))
        facts = facts_of(inner)
        self._facts = json.dumps(facts, sort_keys=True)
        self._version: int | None = (
            None  # of the function and what it uses; known once it is stored
        )
        last: Facts | None = None
        rows = self._base.execute(
            "SELECT id, facts FROM versions WHERE call = ? ORDER BY id", (self._call,)
        ).fetchall()
        for number, then in rows:
            if then == self._facts:
                self._version = number
            else:
                last = json.loads(then)
        self._is_empty = not rows  # then looking is not worth it
        if last is not None and (changed := differences(last, facts)):
            self._tell(
                f"{name} has changed since results were stored, which are used all the same:"
                f" {', '.join(changed)}; delete the file to compute everything anew"
            )

    # ------------------------------------------------------------------ items and their results

    def key_of(self, arguments: object, index: int) -> bytes | None:
        """What the item is known by; None if that cannot be said: then it is computed each time."""
        known = self._digest_of(arguments)
        if known is None or self._bound is None:
            return None
        try:
            (times,) = self._base.execute(
                "INSERT INTO seen VALUES (?, 0) ON CONFLICT DO UPDATE SET times = times + 1"
                " RETURNING times", (known,),
            ).fetchone()  # fmt: skip
        except sqlite3.Error as error:
            self._tell(f"equal items cannot be counted, nothing is stored: {error}")
            return None
        place = f":{times}" if self._seed is None else f":{times}:{index}"
        return self._bound + known + place.encode()

    def find(self, key: bytes | None) -> tuple[Any] | None:
        """The stored result, in a tuple; None if there is none, or it can no longer be unpickled."""
        if key is None or self._is_empty:
            return None
        try:
            row = self._base.execute(
                "SELECT value FROM results WHERE call = ? AND key = ?", (self._call, key)
            ).fetchone()
            return None if row is None else (pickle.loads(row[0]),)
        except Exception as error:  # whatever a class of the user's objects to
            self._tell(
                "a stored result cannot be read and is computed again:"
                f" {type(error).__name__}: {error}"
            )
            return None

    def keep(self, results: Iterable[tuple[bytes, object]]) -> None:
        """Write these results to the disk.  What cannot be written is told, once, and not lost."""
        refused: list[Exception] = []
        try:
            with _transaction(self._base) as base:
                version = self._version or self._new_version()
                rows = (
                    (self._call, key, version, data) for key, data in _pickled(results, refused)
                )
                stored = base.executemany(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)", rows
                )
                if stored.rowcount > 0:  # else a transaction is not worth its wait
                    base.execute("COMMIT")
                    self._version = version
        except sqlite3.Error as error:
            self._tell(
                f"results cannot be stored: {error}.  The call goes on without; make room on the"
                " disk, and what was not stored is computed again by the next run"
            )
        if refused:
            self._tell(
                "a result cannot be stored and will be computed again:"
                f" {type(refused[0]).__name__}: {refused[0]}"
            )

    def _new_version(self) -> int:
        made = self._base.execute(
            "INSERT INTO versions (call, facts) VALUES (?, ?) RETURNING id",
            (self._call, self._facts),
        )
        return int(made.fetchone()[0])

    def close(self) -> None:
        """Let the file go.  May be called twice."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()

    def _digest_of(self, arguments: object) -> bytes | None:
        try:
            return digest(arguments)
        except Exception as error:  # whatever a class of the user's objects to
            self._tell(
                "an item whose arguments cannot be pickled is computed each time:"
                f" {type(error).__name__}: {error}"
            )
            return None

    def _tell(self, text: str) -> None:
        """Warn, but not twice of the same."""
        kind = text.partition(":")[0]
        if kind not in self._told:
            self._told.add(kind)
            warn_caller(f"checkpoint {self._path}: {text}")

    def disown(self) -> None:
        """This is a forked child: the file is the parent's."""
        self._file.disown()
        self._base = self._file.base


@contextmanager
def _transaction(base: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """What is not committed within is not written."""
    base.execute("BEGIN IMMEDIATE")
    try:
        yield base
    finally:
        if base.in_transaction:
            base.execute("ROLLBACK")


def _pickled(
    results: Iterable[tuple[bytes, object]], refused: list[Exception]
) -> Iterator[tuple[bytes, bytes]]:
    """One after the other: all of them at a time would be all of them twice.

    By name only: of a class that travels by value, a later run would get another class.
    """
    for key, value in results:
        try:
            data = _dumps(value)
        except Exception as error:  # whatever a class of the user's objects to
            refused.append(error)
        else:
            yield key, data


def _dumps(value: object) -> bytes:
    """As plain `pickle` does it, which writes no key of a Manager; but no connections.

    Those `pickle` knows by their number, which is another file's in the next run.
    """
    module = sys.modules.get("multiprocessing.connection")
    kinds = [getattr(module, name, None) for name in ("Connection", "PipeConnection")]
    refused: dict[type, Any] = dict.fromkeys(filter(None, kinds), _refuse_connection)
    table: dict[type, Any] = {**copyreg.dispatch_table, **refused}
    file = BytesIO()
    pickler = pickle.Pickler(file, _PROTOCOL)
    pickler.dispatch_table = table
    pickler.dump(value)
    return file.getvalue()


def _refuse_connection(connection: object) -> NoReturn:
    raise SerializationError(
        f"a {type(connection).__name__} of multiprocessing is open in this run only;"
        " return what came through it instead"
    )


def _number_of(base: sqlite3.Connection, function: str, seed: str) -> int:
    base.execute(
        "INSERT INTO calls (function, seed) VALUES (?, ?) ON CONFLICT DO NOTHING", (function, seed)
    )
    row = base.execute("SELECT id FROM calls WHERE function = ? AND seed = ?", (function, seed))
    return int(row.fetchone()[0])


def _disown_all() -> None:
    forget_all()
    for store in list(_stores):
        store.disown()
    _stores.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)

"""Finished items on disk: a call that is run again runs only what is missing.

An item is known by the digest of its pickled arguments and by how many equal ones came before it
(with a `seed` also by its index), under the name of the function and the seed.  What is not found is
computed; so nothing here has to be certain but one thing: a stored result belongs to its arguments.

One SQLite file, held exclusively while the call is open.  Results are committed before the call waits
for more of them, and at most `COMMIT_SECONDS` apart while they stream in, so a kill costs the results
of that moment and no other.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pickle
import platform
import sqlite3
import sys
import time
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any

from parmap.errors import ParmapError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# fsync costs milliseconds; results that stream in share one.
COMMIT_SECONDS = 0.05
_DIGEST_BYTES = 16
_PROTOCOL = 5
_FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, function TEXT NOT NULL, seed TEXT NOT NULL, about TEXT NOT NULL,
    UNIQUE (function, seed));
CREATE TABLE IF NOT EXISTS results (
    call INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (call, key))
    WITHOUT ROWID;
CREATE TEMP TABLE seen (digest BLOB PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID;
"""


class Checkpoint:
    """The results of one function in a file.  For one thread at a time.

    Raises:
        ParmapError: another call, in this process or another one, has the file open.
        ValueError: the file is something else.
        OSError: the file cannot be opened or made.
    """

    def __init__(
        self, path: str | os.PathLike[str], fn: Callable[..., Any], seed: int | None
    ) -> None:
        self.path = os.fspath(path)
        self._indexed = seed is not None
        self._last_commit = 0.0
        self._dirty = False
        self._told: set[str] = set()
        self._base = _open(self.path)
        try:
            self._call = self._enter(fn, "" if seed is None else str(seed))
            found = self._base.execute(
                "SELECT EXISTS (SELECT 1 FROM results WHERE call = ?)", (self._call,)
            )
            self._empty = not found.fetchone()[0]  # then looking is not worth it
        except BaseException:
            self._base.close()
            raise

    def key_of(self, arguments: object, index: int) -> bytes | None:
        """What the item is known by; None if its arguments cannot be pickled (its own error, later)."""
        try:
            pickled = _dumps(arguments)
        except Exception:
            return None
        digest = hashlib.sha256(pickled).digest()[:_DIGEST_BYTES]
        (times,) = self._base.execute(
            "INSERT INTO seen VALUES (?, 0) ON CONFLICT DO UPDATE SET times = times + 1"
            " RETURNING times", (digest,),
        ).fetchone()  # fmt: skip
        suffix = f":{times}:{index}" if self._indexed else f":{times}"
        return digest + suffix.encode()

    def find(self, key: bytes | None) -> tuple[Any] | None:
        """The stored result, in a tuple; None if there is none, or it can no longer be unpickled."""
        if key is None or self._empty:
            return None
        row = self._base.execute(
            "SELECT value FROM results WHERE call = ? AND key = ?", (self._call, key)
        ).fetchone()
        if row is None:
            return None
        try:
            return (pickle.loads(row[0]),)
        except Exception as error:
            self._tell(
                "unpickled", f"a stored result cannot be unpickled and is computed again: {error}"
            )
            return None

    def store(self, results: Iterable[tuple[bytes | None, Any]]) -> None:
        """Keep these results; they are on the disk after the next `commit`."""
        rows = []
        for key, value in results:
            if key is None:
                continue
            try:
                rows.append((self._call, key, _dumps(value)))
            except Exception as error:
                self._tell(
                    "pickled", f"a result cannot be stored and will be computed again: {error}"
                )
        if rows:
            self._base.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", rows)
            self._dirty = True

    def commit(self, *, now: bool = True) -> None:
        """Write what was stored; with ``now=False`` only if the last time is a while ago."""
        moment = time.monotonic()
        if self._dirty and (now or moment - self._last_commit > COMMIT_SECONDS):
            self._base.execute("COMMIT")
            self._base.execute("BEGIN IMMEDIATE")
            self._dirty, self._last_commit = False, moment

    def close(self) -> None:
        """Write everything and let the file go.  May be called twice."""
        if self._base.in_transaction:
            self._base.execute("COMMIT")
        self._base.close()

    def _enter(self, fn: Callable[..., Any], seed: str) -> int:
        """The number of this function's results; says what has changed since they were stored."""
        name, now = name_of(fn), about(fn)
        row = self._base.execute(
            "SELECT id, about FROM calls WHERE function = ? AND seed = ?", (name, seed)
        ).fetchone()
        if row is None:
            made = self._base.execute(
                "INSERT INTO calls (function, seed, about) VALUES (?, ?, ?) RETURNING id",
                (name, seed, json.dumps(now)),
            )
            return int(made.fetchone()[0])
        number, then = int(row[0]), json.loads(row[1])
        changed = sorted(key for key in {*now, *then} if now.get(key) != then.get(key))
        if changed:
            what = ", ".join(_change(key, then.get(key), now.get(key)) for key in changed)
            self._tell(
                "changed",
                f"{name} or what it uses has changed since results were stored: {what}."
                " They are used all the same; delete the file to compute everything anew",
            )
            self._base.execute("UPDATE calls SET about = ? WHERE id = ?", (json.dumps(now), number))
        return number

    def _tell(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            warnings.warn(f"checkpoint {self.path}: {text}", UserWarning, stacklevel=2)


def _open(path: str) -> sqlite3.Connection:
    """The file, in a transaction that keeps everybody else out."""
    base = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        base.execute("PRAGMA locking_mode = EXCLUSIVE")
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = FULL")
        base.execute("PRAGMA temp_store = FILE")  # as many items as they like
        (version,) = base.execute("PRAGMA user_version").fetchone()
        (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version not in (0, _FORMAT) or (version == 0 and tables):
            raise ValueError(
                f"checkpoint must be a file of parmap's, and {path} is another's database"
            )
        base.executescript(_SCHEMA)
        base.execute(f"PRAGMA user_version = {_FORMAT}")
        base.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        base.close()
        if "locked" in str(error):
            raise ParmapError(
                f"checkpoint {path} is in use by another call: one file serves one call at a time"
            ) from error
        raise OSError(f"checkpoint {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        base.close()
        raise ValueError(
            f"checkpoint must be a file of parmap's, and {path} is none: {error}"
        ) from error
    except BaseException:
        base.close()
        raise
    return base


def name_of(fn: Callable[..., Any]) -> str:
    """What the results of a function are filed under; wherever the program stands, it is the same."""
    while (inner := getattr(fn, "func", None) or getattr(fn, "__func__", None)) is not None:
        fn = inner  # of a partial, of a bound method
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{getattr(named, '__module__', None)}.{named.__qualname__}"


def about(fn: Callable[..., Any]) -> dict[str, str]:
    """What a stored result depends on besides its arguments, as far as that can be seen."""
    facts = {"Python": platform.python_version()}
    inner = inspect.unwrap(fn)
    while (deeper := getattr(inner, "func", None) or getattr(inner, "__func__", None)) is not None:
        facts.setdefault(
            "bound arguments",
            _digest_of(getattr(inner, "args", None), getattr(inner, "keywords", None)),
        )
        inner = deeper
    code = getattr(inner, "__code__", None)
    if code is not None:
        facts["source"] = _source_digest(inner)
    for name in sorted(_packages_of(inner)):
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            facts[name] = version
    return facts


def _packages_of(fn: Any) -> set[str]:
    """The top-level packages that the function's module has names of."""
    used = {str(getattr(fn, "__module__", "")).partition(".")[0]}
    for value in list(getattr(fn, "__globals__", {}).values()):
        name = (
            value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        )
        if isinstance(name, str):
            used.add(name.partition(".")[0])
    return used - {"builtins", "__main__", "parmap"}


def _source_digest(fn: Any) -> str:
    try:
        text = inspect.getsource(fn)
    except (OSError, TypeError):
        code = fn.__code__  # of a REPL or exec: no source, but what was made of it
        text = repr(
            (code.co_code, code.co_names, [c for c in code.co_consts if not hasattr(c, "co_code")])
        )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest_of(*values: object) -> str:
    try:
        return hashlib.sha256(_dumps(values)).hexdigest()[:16]
    except Exception:
        return "unknown"


def _change(key: str, then: str | None, now: str | None) -> str:
    if key in ("source", "bound arguments"):
        return f"its {key}"
    return f"{key} {then} → {now}"


def _dumps(value: object) -> bytes:
    """By reference where that is possible: a class of the script is found again in the next run."""
    try:
        return pickle.dumps(value, _PROTOCOL)
    except Exception:
        import cloudpickle

        data: bytes = cloudpickle.dumps(value, _PROTOCOL)
        return data

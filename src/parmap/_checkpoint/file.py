"""The SQLite file of a checkpoint: held by one call at a time, and in words why it cannot be."""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TYPE_CHECKING, NoReturn

from parmap.errors import ParmapError

try:
    import fcntl
except ImportError:  # Windows: SQLite's own lock will do, but for two that come at once
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from pathlib import Path

# Tells our files from other programs' (SQLite keeps these numbers for that).
APPLICATION = int.from_bytes(b"pmap", "big")
FORMAT = 1
SYNCHRONOUS = "FULL"  # what is written survives the machine's death, too
_SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, function TEXT NOT NULL, seed TEXT NOT NULL, UNIQUE (function, seed));
CREATE TABLE versions (
    id INTEGER PRIMARY KEY, call INTEGER NOT NULL REFERENCES calls, facts TEXT NOT NULL);
CREATE TABLE results (
    call INTEGER NOT NULL REFERENCES calls, key BLOB NOT NULL,
    version INTEGER NOT NULL REFERENCES versions, value BLOB NOT NULL, PRIMARY KEY (call, key));
COMMIT;
"""
# How often equal items have come in this call: on the disk, too, for there may be any number.
_SEEN = "CREATE TEMP TABLE seen (digest BLOB PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID"
# Beside the bytes that SQLite locks.  Its own lock takes several steps, and two that come at the same
# time could both be refused.
_OUR_BYTE = 0x3FFFFFFF

_held: set[tuple[int, int]] = set()  # the files that calls of this process hold
_guard = threading.Lock()


class File:
    """The open database, `base`; nobody else has it until it is closed, or we are dead.

    The locks are fcntl's, which a process loses as soon as it closes ANY descriptor of the file: so
    none is opened while another call of this process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._identity, fd = _claim(path)
        self._fd: int | None = fd
        try:
            # Any thread: results are taken by whoever asks for the next one.
            self.base = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(self.base, path)
            except BaseException:
                self.base.close()
                raise
        except BaseException as error:
            _release(self._identity, fd)
            if isinstance(error, sqlite3.Error):
                refuse(path, error)
            raise

    def close(self) -> None:
        """Let the file go.  May be called twice."""
        self.base.close()
        if self._fd is not None:
            _release(self._identity, self._fd)
            self._fd = None

    def disown(self) -> None:
        """This is a forked child: the file is the parent's, and SQLite must not even close it here.

        It would clear up what the parent still writes to.
        """
        if self._fd is None:
            return
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.base))  # it is never deallocated
        self.base = sqlite3.connect(":memory:")
        self.base.close()
        os.close(self._fd)
        self._fd = None


def _claim(path: Path) -> tuple[tuple[int, int], int]:
    """Hold the file for this call, made if need be."""
    with _guard:
        if path.exists() and _identity_of(path.stat()) in _held:
            refuse_second(path, f"another call of this process (pid {os.getpid()})")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except IsADirectoryError as error:
            example = path / "results.sqlite"
            raise _told(error, path, f"is a folder: name a file in it, such as {example}") from None
        except FileNotFoundError as error:
            raise _told(error, path, f"make the folder {path.parent} first") from None
        except OSError as error:
            cure = "this process must be able to write to the file and to its folder"
            raise _told(error, path, cure) from None
        try:
            if fcntl is not None:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _OUR_BYTE)
        except (BlockingIOError, PermissionError):  # POSIX leaves the choice
            os.close(fd)
            refuse_second(path, _holder(path))
        except OSError:
            pass  # a file system without locks
        identity = _identity_of(os.fstat(fd))
        _held.add(identity)
        return identity, fd


def _release(identity: tuple[int, int], fd: int) -> None:
    with _guard:
        os.close(fd)
        _held.discard(identity)


def _identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _prepare(base: sqlite3.Connection, path: Path) -> None:
    base.execute("PRAGMA locking_mode = EXCLUSIVE")
    (application,) = base.execute("PRAGMA application_id").fetchone()
    (version,) = base.execute("PRAGMA user_version").fetchone()
    (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (tables or application or version) and application != APPLICATION:
        raise ValueError(
            f"checkpoint must be a file of parmap's, and {path} is another program's database:"
            " give the checkpoint a file of its own"
        )
    if version > FORMAT:
        raise ValueError(
            f"checkpoint {path} was made by a newer parmap: update, or use another file"
        )
    base.execute("PRAGMA journal_mode = WAL")  # one wait for the disk per transaction
    base.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
    base.execute("PRAGMA temp_store = FILE")
    if not version:
        base.executescript(_SCHEMA)
    base.execute(_SEEN)


# ---------------------------------------------------------------------- in words


def refuse(path: Path, error: sqlite3.Error) -> NoReturn:
    """Say in our words what SQLite objects to, and the cure."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            refuse_second(path, _holder(path))
        case sqlite3.SQLITE_NOTADB:
            raise ValueError(
                f"checkpoint must be a file of parmap's, and {path} is none:"
                " give the checkpoint a file of its own"
            ) from error
        case sqlite3.SQLITE_CORRUPT:
            raise ValueError(
                f"checkpoint {path} is damaged ({error}): move it away and start anew"
            ) from error
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            raise OSError(
                f"checkpoint {path} cannot be written ({error}): make room on the disk,"
                " or use another one"
            ) from error
        case _:
            raise OSError(
                f"checkpoint {path} cannot be used ({error}): this process must be able to write to"
                " the file and to its folder"
            ) from error


def refuse_second(path: Path, holder: str) -> NoReturn:
    """One file serves one call at a time."""
    raise ParmapError(
        f"checkpoint {path} is in use by {holder}: one file serves one call at a time;"
        " wait for that one, or give this call a file of its own"
    )


def _told(error: OSError, path: Path, cure: str) -> OSError:
    """The same kind of error, with the cure."""
    return type(error)(
        error.errno, f"checkpoint cannot be used ({error.strerror}): {cure}", str(path)
    )


def _holder(path: Path) -> str:
    """Who has the file locked, where the system tells."""
    try:
        pid = _locked_by(path)
    except OSError:
        pid = None  # not Linux
    return "another process" if pid is None else f"another process (pid {pid})"


def _locked_by(path: Path) -> int | None:
    status = path.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    with open("/proc/locks", encoding="ascii") as table:
        for line in table:
            fields = line.split()
            if f"{device}:{status.st_ino}" in fields and "->" not in fields:
                pid = int(fields[4])
                return pid if pid > 0 else None  # of another container
    return None


def forget_all() -> None:
    """In a forked child: the parent's files are not held by this process."""
    global _guard
    _guard = threading.Lock()  # it may have been held
    _held.clear()

"""The first thing a worker is told: who it is, and the initializer."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

from parmap._cpus import share
from parmap._wire import frames as fr
from parmap._wire.frames import Frame
from parmap._wire.mapped import in_file
from parmap._wire.pickling import Codec, Encoded
from parmap.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable


class Setup:
    """Makes the first frame for each worker of a pool.  The initializer is pickled once, here."""

    def __init__(
        self,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        workers: int,
        memory: int | None = None,
    ) -> None:
        """`workers` share the CPUs; what they leave idle is for the calls within them.  A worker
        that uses more than `memory` bytes says so."""
        if not isinstance(initargs, tuple):
            raise TypeError(f"initargs must be a tuple of arguments, not {type(initargs).__name__}")
        self._budget = share(workers)
        self._memory = memory
        self._initializer: Encoded | None = None
        if initializer is not None:
            self._initializer = in_file(_encoded(initializer, initargs), workers)

    def __del__(self) -> None:
        # No worker will be started any more: what its arguments kept open (ends of channels) goes.
        if (initializer := getattr(self, "_initializer", None)) is not None:
            initializer.close()

    def frame(self, name: str) -> Frame:
        """The frame for the worker of that name."""
        head = introduction(name, self._budget, parent=None, memory=self._memory)
        if self._initializer is None:
            return Frame(fr.SETUP, segments=[head])
        initializer = self._initializer
        return Frame(
            fr.SETUP,
            flags=initializer.flags,
            segments=[head, *initializer.segments],
            fds=initializer.fds,
        )


def _encoded(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> Encoded:
    try:
        return Codec("to worker").dumps((initializer, initargs), "")
    except SerializationError as error:
        path = error.path or ""  # in the pair
        name = "initargs" if path.startswith("[1]") else "initializer"
        error.path = name + path[3:] if path.startswith("[") else name
        raise


def introduction(
    name: str, cpus: int, *, parent: tuple[str, int] | None, memory: int | None = None
) -> bytes:
    """What a worker is told first; `parent`: the name and pid that `multiprocessing` shall show."""
    told = {
        "name": name, "argv": list(sys.argv), "budget": cpus, "parent": parent, "memory": memory,
    }  # fmt: skip
    return pickle.dumps(told, pickle.HIGHEST_PROTOCOL)

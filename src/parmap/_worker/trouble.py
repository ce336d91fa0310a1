"""Trouble on purpose: `parmap.testing.chaos`, as a worker meets it.

What happens to an item depends on nothing but the seed, the number of its call, its index and its
attempt: not on which worker has it, what it shares a chunk with, or any clock.  So the same items are
lost, and as often, in each run.  Deaths that cost no item (between two chunks) depend on the worker,
too.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any, NoReturn

# As the caller sends them: kill, delay, seed, number of the call.
Orders = tuple[float, float, int, int]

_STEPS = {
    "Sending": ("send", "try_send", "send_many"),
    "Receiving": ("receive", "try_receive", "receive_many", "__next__"),
}


class Trouble:
    """What a worker has to bear in one call."""

    def __init__(self, orders: Orders, worker: int) -> None:
        self._kill, self._delay, self._seed, self._call = orders
        self._worker = worker
        self._chunks = 0  # of this call, that this worker has done

    def between_chunks(self) -> None:
        """A death that costs no item: nothing runs, and what has run is told."""
        if self._chunks and self._dice("idle", self._worker, self._chunks).random() < self._kill:
            _die()

    def chunk_done(self) -> None:
        """The chunk's last result has been sent.

        Only a worker that has done something dies between chunks: deaths in a row that bring a call
        nowhere are charged to its items in the end.
        """
        self._chunks += 1
        self.between_chunks()

    def around(self, call: Callable[[Any], Any], first: int, attempt: int) -> Callable[[Any], Any]:
        """The same call, in trouble: for the items from `first` on, one after the other."""
        indexes = itertools.count(first)

        def troubled(item: Any) -> Any:
            dice = self._dice("item", next(indexes), attempt)
            fate = dice.random()
            time.sleep(self._delay * dice.random())
            if fate < self._kill / 2:
                _die()
            try:
                return call(item)
            finally:
                if fate < self._kill:
                    _die()  # it has run, and nobody will ever know

        return troubled

    def member(self, attempt: int) -> None:
        """The process is one of a group: its start is a step, and so is whatever it does with a
        channel from now on."""
        steps = itertools.count()

        def step() -> None:
            dice = self._dice("step", next(steps), attempt)
            if dice.random() < self._kill:
                _die()
            time.sleep(self._delay * dice.random())

        step()
        faces = sys.modules.get("parmap._channel.faces")
        if faces is not None:  # else its function has no channel
            for face, names in _STEPS.items():
                for name in names:
                    _put_in_front(vars(faces)[face], name, step)

    def _dice(self, *place: Hashable) -> random.Random:
        return random.Random(repr((self._seed, self._call, *place)))  # noqa: S311 - nobody shall be unable to guess it


def _put_in_front(face: type, name: str, step: Callable[[], None]) -> None:
    method = getattr(face, name)

    def troubled(*args: Any, **kwargs: Any) -> Any:
        step()
        return method(*args, **kwargs)

    setattr(face, name, troubled)


def _die() -> NoReturn:
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    raise AssertionError("a killed process went on")

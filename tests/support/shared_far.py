"""The far side of shared counters, values and arrays: functions that workers import by name."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from parmap import SharedArray, SharedCounter, SharedValue
from support.linearizable import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = 20_000  # elements of an array that has a segment of its own


def use_counter(counter: SharedCounter) -> Any:
    counter.add(5)
    return counter.value


def use_value(value: SharedValue[int]) -> Any:
    return value.fetch_add(5)


def use_array(array: SharedArray) -> Any:
    with array.lock:
        before = array[0]
        array[0] += 5
        array[len(array) - 1] = 7
    return before


MAKERS: dict[str, Callable[[], Any]] = {
    "SharedCounter": lambda: SharedCounter(10),
    "SharedValue": lambda: SharedValue(10),
    "SharedArray": lambda: SharedArray("q", [10, 0, 0]),
    "a large SharedArray": lambda: SharedArray("q", [10, *[0] * LARGE]),
}
USES: dict[str, Callable[[Any], Any]] = {
    "SharedCounter": use_counter,
    "SharedValue": use_value,
    "SharedArray": use_array,
    "a large SharedArray": use_array,
}


class NearShared:
    """A shared object for `support.transports`; a second one of the same stays here to look at."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.use = USES[kind]
        self.handle: Any = MAKERS[kind]()
        self.mine = self.handle

    def give(self) -> Any:
        handle, self.handle = self.handle, None
        return handle

    def drop(self, handle: Any) -> None:
        del handle

    def leave_to_child(self, handle: Any) -> None:
        del handle

    def check(self, answer: Any) -> None:
        assert answer == (15 if self.kind == "SharedCounter" else 10)
        if "Array" in self.kind:
            assert (self.mine[0], self.mine[len(self.mine) - 1]) == (15, 7)
        else:
            assert self.mine.value == 15

    def close(self) -> None:
        self.mine = self.handle = None


def make(kind: str) -> Any:
    return MAKERS[kind]()


def add_many(counter: SharedCounter, times: int, n: int = 1, threads: int = 1) -> int:
    """Add in this process, in several threads; return the pid."""

    def add() -> None:
        for _ in range(times):
            counter.add(n)

    many = [threading.Thread(target=add) for _ in range(threads - 1)]
    for thread in many:
        thread.start()
    add()
    for thread in many:
        thread.join()
    return os.getpid()


def live_with_value(value: SharedValue[int], folder: str, who: str, seed: int, times: int) -> None:
    """Do all that can be done to a value, and write it down."""
    import random

    rng = random.Random(seed)
    recorder = Recorder(folder, who)

    def get() -> int:
        return value.value

    def swap(old: int, new: int) -> bool:
        return value.compare_exchange(old, new)

    def update(factor: int) -> int:
        return value.update(lambda now: now * factor % 1000)

    for _ in range(times):
        match rng.randrange(5):
            case 0:
                recorder.call(get)
            case 1:
                recorder.call(value.set, rng.randrange(1000))
            case 2:
                recorder.call(value.fetch_add, rng.randrange(5))
            case 3:
                recorder.call(swap, value.value, rng.randrange(1000))
            case 4:
                recorder.call(update, rng.randrange(2, 5))
    recorder.close()


def value_model(state: int, asked: tuple[Any, ...]) -> tuple[Any, int]:
    match asked:
        case ("get",):
            return state, state
        case ("set", new):
            return None, new
        case ("fetch_add", n):
            return state, state + n
        case ("swap", old, new):
            return (True, new) if state == old else (False, state)
        case ("update", factor):
            return state * factor % 1000, state * factor % 1000
    raise AssertionError(asked)

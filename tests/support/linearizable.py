"""Did it happen in some order?  Histories of real processes, checked against a sequential model.

A history is linearizable if each call can be given one moment between its beginning and its end,
such that all calls, one after another in the order of these moments, have the results that were
seen.  A call that never returned (its process was killed) may have happened at any moment after its
beginning, or not at all.

The search is that of Wing and Gong, with the memory of Lowe: what was linearised, and the state
that came of it, are visited once.

    history = [Call("a", 0, 5, ("set", 1), None), Call("b", 3, 9, ("get",), 1)]
    assert explain(history, 0, apply) is not None
"""

from __future__ import annotations

import marshal
import os
import time
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from pathlib import Path


class Call(NamedTuple):
    """One call of one thread: what was asked for, when, and what came back."""

    who: object
    began: float
    ended: float  # `inf`: it never returned
    asked: tuple[Any, ...]  # e.g. ("fetch_add", 3)
    result: Any


def explain(
    history: Iterable[Call],
    state: Hashable,
    apply: Callable[[Any, tuple[Any, ...]], tuple[Any, Hashable]],
) -> list[Call] | None:
    """Return the calls in an order that explains their results; None if there is none.

    `apply(state, asked)` is the model: it returns the result and the next state, and changes nothing.
    """
    calls = sorted(history, key=lambda call: call.began)
    returned = sum(1 << number for number, call in enumerate(calls) if call.ended != inf)
    seen: set[tuple[int, Hashable]] = set()
    chosen: list[Call] = []
    # Each entry: what is linearised (as bits), the state, which calls may still be next.
    stack = [(0, state, iter(_next_ones(calls, 0)))]
    while stack:
        done, state, candidates = stack[-1]
        if done & returned == returned:
            return chosen
        for number in candidates:
            call = calls[number]
            result, after = apply(state, call.asked)
            if call.ended != inf and result != call.result:
                continue
            now = done | 1 << number
            if (now, after) in seen:
                continue
            seen.add((now, after))
            chosen.append(call)
            stack.append((now, after, iter(_next_ones(calls, now))))
            break
        else:
            stack.pop()
            if chosen:
                chosen.pop()
    return None


def _next_ones(calls: list[Call], done: int) -> list[int]:
    """Return the calls that may come next: no other one that is left ended before they began."""
    found: list[int] = []
    first_end = inf
    first = (~done & done + 1).bit_length() - 1  # all before it are done
    for number in range(first, len(calls)):
        call = calls[number]
        if call.began > first_end:
            break
        if not done >> number & 1:
            found.append(number)
            first_end = min(first_end, call.ended)
    return [number for number in found if calls[number].began <= first_end]


class Recorder:
    """Writes down the calls of one thread into a file, each before it begins and when it ended.

    So a kill loses nothing but the result of the call that it struck.
    """

    def __init__(self, folder: Path | str, who: object) -> None:
        self._who = who
        self._fd = os.open(f"{folder}/{who}.calls", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def call(self, method: Callable[..., Any], *arguments: Any, asked: tuple[Any, ...] = ()) -> Any:
        """Call and write down; `asked` is for the model, else it is the method's name and arguments."""
        asked = asked or (method.__name__, *arguments)
        self._write(("began", time.monotonic_ns(), asked))
        result = method(*arguments)
        self._write(("ended", time.monotonic_ns(), result))
        return result

    def _write(self, entry: tuple[Any, ...]) -> None:
        data = marshal.dumps(entry)
        os.write(self._fd, len(data).to_bytes(4, "little") + data)

    def close(self) -> None:
        os.close(self._fd)


def recorded(folder: Path) -> list[Call]:
    """Return what all recorders of a folder have written."""
    return [call for path in sorted(folder.glob("*.calls")) for call in _calls_in(path)]


def _calls_in(path: Path) -> list[Call]:
    calls: list[Call] = []
    data, at = path.read_bytes(), 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        kind, moment, what = marshal.loads(data[at + 4 : end])
        at = end
        if kind == "began":
            calls.append(Call(path.stem, moment, inf, what, None))
        else:
            calls[-1] = calls[-1]._replace(ended=moment, result=what)
    return calls

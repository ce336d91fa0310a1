"""Containers as several processes would have them, and what the far side of a transport does."""

from __future__ import annotations

import select
from typing import Any

from parmap import SharedDict, SharedList
from parmap._memory.log import Log

KINDS: dict[str, Any] = {"SharedDict": SharedDict, "SharedList": SharedList}


def second(face: Any) -> Any:
    """A handle with a copy of its own, as another process has one; not registered."""
    replica = face._replica
    kind: Any = type(face)
    twin = kind.__new__(kind)
    twin._attach(type(replica)(Log(replica.log.segment), replica._keeper))
    return twin


def use(handle: Any) -> Any:
    """What the far side does: reads what is there, and leaves its own."""
    if isinstance(handle, SharedDict):
        handle["there"] = [2, b"y" * 50_000]
        return handle["here"] == [1, b"x" * 50_000]
    handle.append([2, b"y" * 50_000])
    return handle[0] == [1, b"x" * 50_000]


class Near:
    """A container, and a second reference that stays here to see what the far side has done."""

    use = staticmethod(use)

    def __init__(self, kind: str) -> None:
        self.kind = kind
        here = [1, b"x" * 50_000]
        self.handle: Any = KINDS[kind](*([{"here": here}] if kind == "SharedDict" else [[here]]))
        self.mine = self.handle

    def give(self) -> Any:
        handle, self.handle = self.handle, None
        return handle

    def drop(self, handle: Any) -> None:
        """It goes with its last reference."""

    def leave_to_child(self, handle: Any) -> None:
        """It is the child's as much as this process's."""

    def check(self, answer: Any) -> None:
        assert answer is True
        there = self.mine["there"] if self.kind == "SharedDict" else self.mine[-1]
        assert there == [2, b"y" * 50_000]


def let_run(seconds: float) -> None:
    """Let others run for a random while: chance is the purpose, nothing is waited for."""
    select.select([], [], [], seconds)

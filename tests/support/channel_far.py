"""The far side of the matrix handle x transport: functions that any worker imports by name.

A handle is judged by what it does on arrival: `use` does all that its kind can do, and returns what
it has received, or None. The near side is `Near`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parmap.channel import Channel, Duplex, Receiver, Sender
from support.gates import PATIENCE

if TYPE_CHECKING:
    from support.gates import Gate

KINDS = ["Channel", "Sender", "Receiver", "Duplex"]
THERE = "from the far side"
HERE = "from the near side"


class Near:
    """One handle of a kind, and what the near side needs to see whether it works elsewhere."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rest: list[Any] = []
        if kind == "Duplex":
            near, self.handle = Channel.pair()
            near.send(HERE)
            self.rest = [near]
            return
        channel: Any = Channel()
        self.rest = [channel]
        if kind == "Channel":
            self.handle = channel
        elif kind == "Sender":
            self.rest.append(channel.receiver)
            self.handle = channel.sender
        else:
            self.handle = channel.receiver
            with channel.sender as sender:
                sender.send(HERE)

    def give(self) -> Any:
        """Return the handle and forget it, so that its copy elsewhere is the only one."""
        handle, self.handle = self.handle, None
        return handle

    @staticmethod
    def use(handle: Any) -> Any:
        return use(handle)

    def drop(self, handle: Any) -> None:
        handle.close()

    def leave_to_child(self, handle: Any) -> None:
        """An end that was inherited counts here as well; a neutral channel counts nowhere."""
        if self.kind != "Channel":
            handle.close()

    def check(self, answer: Any) -> None:
        """What the far side got, and what came of it, must be right; `answer` is `use`'s."""
        assert answer == (None if self.kind in ("Channel", "Sender") else HERE)
        if self.kind == "Channel":
            assert self.rest[0].receive(timeout=PATIENCE) == THERE
        elif self.kind == "Sender":
            assert self.rest[1].receive(timeout=PATIENCE) == THERE
        elif self.kind == "Duplex":
            assert self.rest[0].receive(timeout=PATIENCE) == THERE

    def close(self) -> None:
        for handle in (*self.rest, self.handle):
            if handle is not None:
                handle.close()
        self.rest, self.handle = [], None  # a fixture's value outlives the test's leak check


def use(handle: Any) -> Any:
    """Do with the handle what its kind can do."""
    answer = None
    if isinstance(handle, Receiver | Duplex):
        answer = handle.receive(timeout=PATIENCE)
    if isinstance(handle, Channel | Sender | Duplex):
        handle.send(THERE, timeout=PATIENCE)
    return answer


def name_kinds(handles: list[Any], path: str) -> None:
    write([type(handle).__name__ for handle in handles], path)


def write(answers: list[Any], path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(repr(answers))


def wait_for(gate: Gate) -> None:
    gate.wait()


def say_and_wait(began: Gate, gate: Gate) -> None:
    began.open()
    gate.wait()


def send_all(items: list[Any], sender: Any) -> None:
    for item in items:
        sender.send(item, timeout=PATIENCE)


def drain(receiver: Any) -> list[Any]:
    return list(receiver)


def make(kind: str) -> tuple[Any, Any]:
    """Make a channel here, and return a handle of that kind with its counterpart."""
    if kind == "Duplex":
        near, far = Channel.pair()
        near.send(HERE)
        return far, near
    channel: Any = Channel()
    if kind == "Channel":
        return channel, channel
    if kind == "Sender":
        return channel.sender, channel.receiver
    with channel.sender as sender:
        sender.send(HERE)
    return channel.receiver, channel

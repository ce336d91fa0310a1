"""What a call needs of the driver that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

    from parmap._calls.remote import RemoteCall
    from parmap._calls.submit import SubmittedCall
    from parmap._core.events import Event

T = TypeVar("T")


class Away(Protocol):
    """A task that was sent, but is not in the books of the driver."""

    def await_result(self, timeout: float | None) -> None: ...
    def hand_over(self) -> None: ...


class Engine(Protocol):
    """What a call needs of the driver that serves it."""

    @property
    def packing(self) -> bool: ...
    @property
    def drives_here(self) -> bool: ...
    def check_open(self) -> None: ...
    def open(self, call: RemoteCall) -> None: ...
    def post(self, event: Event, *, ring: bool = True) -> None: ...
    def nudge(self) -> None: ...
    def send_alone(self, call: SubmittedCall) -> bool: ...
    def wait_for(
        self, mailbox: SimpleQueue[T], timeout: float | None, own: int, *, insist: bool
    ) -> T | None: ...
    def drive_until(self, done: Callable[[], bool], timeout: float | None = None) -> bool: ...

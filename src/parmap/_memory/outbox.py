"""What waits for a link that takes only so much at a time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from parmap._memory.fdpass import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from typing_extensions import Buffer

    from parmap._memory.fdpass import Link


class Outbox:
    """Messages waiting for a non-blocking link to take them, in order.

    Owned by one thread. `post` never blocks and never sends; `flush` sends what goes.
    """

    __slots__ = ("_link", "_messages")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._messages: deque[tuple[deque[memoryview], deque[int], Callable[[], object] | None]] = (
            deque()
        )

    def __bool__(self) -> bool:
        """Whether something waits, and so whether to watch the link for room."""
        return bool(self._messages)

    def post(
        self,
        buffers: Iterable[Buffer],
        fds: Sequence[int] = (),
        done: Callable[[], object] | None = None,
    ) -> None:
        """Queue one message.

        `done` is called once, when it was sent whole or dropped: `fds` may be closed then.
        """
        self._messages.append((flatten(buffers), deque(fds), done))

    def send(self, message: bytes) -> None:
        """As `post` and `flush`, for bytes that nearly always go at once."""
        sent = 0 if self._messages else self._link.send_bytes(message)
        if sent < len(message):
            self.post([memoryview(message)[sent:]])
            self.flush()

    def flush(self) -> None:
        """Send what the link takes now.

        Raises BrokenPipeError or ConnectionResetError when the peer is dead.
        """
        while self._messages:
            views, fds, done = self._messages[0]
            while views or fds:
                if not self._link.send_some(views, fds):
                    return
            self._messages.popleft()
            if done is not None:
                done()

    def clear(self) -> None:
        """Drop what waits (the peer is dead), and tell each message's owner."""
        messages, self._messages = self._messages, deque()
        for _, _, done in messages:
            if done is not None:
                done()

"""What senders and receivers can do, whatever they are: the methods of the public classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

from parmap._memory.patience import check_seconds, within
from parmap.errors import EndOfChannel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from parmap._channel.core import Core
    from parmap._channel.local import End

T_send_contra = TypeVar("T_send_contra", contravariant=True)
T_receive_co = TypeVar("T_receive_co", covariant=True)


class Closing:
    """``with`` closes.  An end is what its class makes of `close`."""

    __slots__ = ()

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


class Sending(Generic[T_send_contra]):
    """What can be sent through.  `_sending` gives the channel, or raises."""

    __slots__ = ()

    def _sending(self) -> End:
        raise NotImplementedError

    def send(self, item: T_send_contra, timeout: float | None = None) -> None:
        """Put `item` into the channel, waiting while it is full.

        When this returns the item is in shared memory: the death of this process does not lose it.
        It is a copy; changing the object afterwards changes nothing.  Items of one sender arrive in
        the order in which it sent them.  Interrupted by Ctrl-C, the item was either sent or not,
        and the channel goes on working.

        Args:
            item: anything that can be pickled; functions and classes of ``__main__`` too, and
                every parmap handle.
            timeout: seconds to wait for room; None: for ever.

        Raises:
            BrokenChannelError: there were receivers, and all are gone; ``.item`` is the item.
                Before the first receiver exists items wait in the channel.
            ClosedChannelError: this end was closed; or the stream ended before this sender arrived.
            SerializationError: the item cannot be pickled.  Nothing was sent.
            TimeoutError: there was no room within `timeout` seconds.
            TypeError, ValueError: `timeout` is no number of seconds.
        """
        end = self._sending()
        if timeout is None:
            end.core.send(end, item)
        else:
            check_seconds(timeout)
            within(timeout, end.core.send, end, item, timeout)

    def try_send(self, item: T_send_contra) -> None:
        """Put `item` into the channel if there is room now; else raise `ChannelFull`.

        All else is as in `send`.
        """
        end = self._sending()
        end.core.try_send(end, item)

    def send_many(self, items: Iterable[T_send_contra], timeout: float | None = None) -> None:
        """Send each of `items` in order, which is faster than one by one.

        Waits for room as often as it must.  The items are not sent as a whole: receivers see the
        first while the last are still waiting, and other senders' items may come in between.  If an
        error ends it, the items before the one it is about were sent.

        Args:
            items: what to send; read lazily, a few hundred ahead if they come fast.
            timeout: seconds for all of it.

        Raises:
            BrokenChannelError, ClosedChannelError, SerializationError, TimeoutError: as in `send`.
        """
        end = self._sending()
        if timeout is None:
            end.core.send_many(end, items)
        else:
            check_seconds(timeout)
            within(timeout, end.core.send_many, end, items, timeout)


class Receiving(Generic[T_receive_co]):
    """What can be received from.  `_receiving` gives the channel, or raises."""

    __slots__ = ()

    def _receiving(self) -> End:
        raise NotImplementedError

    def _observed(self) -> Core:
        raise NotImplementedError

    def receive(self, timeout: float | None = None) -> T_receive_co:
        """Take the next item out of the channel, waiting until there is one.

        Every item goes to one receiver only.  If this process is killed in here, at most the item
        that it was taking is lost.  Interrupted by Ctrl-C, the channel goes on working.

        Args:
            timeout: seconds to wait; None: for ever.

        Raises:
            EndOfChannel: every sender is gone (closed or dead), and all items have been received.
            ClosedChannelError: this end was closed.
            TimeoutError: nothing came within `timeout` seconds.
            TypeError, ValueError: `timeout` is no number of seconds.
        """
        end = self._receiving()
        core = end.core
        if timeout is None:
            item: T_receive_co = core.receive(end)
        else:
            check_seconds(timeout)
            item = within(timeout, core.receive, end, timeout)
        return item

    def try_receive(self) -> T_receive_co:
        """Take the next item if there is one now; else raise `ChannelEmpty`.

        All else is as in `receive`: at the end it raises `EndOfChannel`.
        """
        end = self._receiving()
        item: T_receive_co = end.core.try_receive(end)
        return item

    def receive_many(self, limit: int, timeout: float | None = None) -> list[T_receive_co]:
        """Wait for one item, then take what else is there at once: 1 to `limit` items in order.

        Args:
            limit: the most items to take, at least 1.
            timeout: seconds to wait for the first.

        Raises:
            EndOfChannel, ClosedChannelError, TimeoutError: as in `receive`.
            TypeError, ValueError: `limit` is no int from 1 on, or `timeout` no number of seconds.
        """
        if isinstance(limit, bool) or not hasattr(limit, "__index__"):
            raise TypeError(f"limit must be an int, not {type(limit).__name__}")
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        end = self._receiving()
        if timeout is None:
            return end.core.receive_many(end, limit)
        check_seconds(timeout)
        return within(timeout, end.core.receive_many, end, limit, timeout)

    def fileno(self) -> int:
        """Return a descriptor to poll for reading, for `multiprocessing.connection.wait` or asyncio.

        Readable means: an item, or the end, is *probably* there.  Somebody else may be faster, so
        use `try_receive` and expect `ChannelEmpty`.  Never read from it.
        """
        return self._observed().fileno()

    def __iter__(self) -> Self:
        """Iterate over the items until the stream has ended; each item goes to one iteration."""
        return self

    def __next__(self) -> T_receive_co:
        end = self._receiving()
        try:
            item: T_receive_co = end.core.receive(end)
        except EndOfChannel:
            raise StopIteration from None
        return item

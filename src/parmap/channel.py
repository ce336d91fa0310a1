"""Channels: many producers, many consumers, in any processes, with an end that everybody notices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from parmap._channel import selecting
from parmap._channel.core import RECEIVER, SENDER, Core
from parmap._channel.local import End, neutral_of
from parmap._channel.mutex import within
from parmap._channel.travel import pack_end, pack_neutral, unpack_end, unpack_neutral
from parmap.errors import EndOfChannel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from parmap._channel.local import Neutral

T = TypeVar("T")
T_send_contra = TypeVar("T_send_contra", contravariant=True)
T_receive_co = TypeVar("T_receive_co", covariant=True)

__all__ = ["Channel", "Duplex", "Receiver", "Sender", "select"]


class _Closing:
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


class _Sending(Generic[T_send_contra]):
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
        """
        end = self._sending()
        if timeout is None:
            end.core.send(end, item)
        else:
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
            items: what to send; read lazily, a few hundred ahead.
            timeout: seconds for all of it.

        Raises:
            BrokenChannelError, ClosedChannelError, SerializationError, TimeoutError: as in `send`.
        """
        end = self._sending()
        if timeout is None:
            end.core.send_many(end, items)
        else:
            within(timeout, end.core.send_many, end, items, timeout)


class _Receiving(Generic[T_receive_co]):
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
        """
        end = self._receiving()
        core = end.core
        if timeout is None:
            item: T_receive_co = core.receive(end)
        else:
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
            ValueError: `limit` is less than 1.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        end = self._receiving()
        if timeout is None:
            return end.core.receive_many(end, limit)
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


class Channel(_Closing, _Sending[T], _Receiving[T]):
    """A bounded queue between any processes: many senders, many receivers, and an end.

    First in, first out per sender; each item goes to one receiver, at most once.  `send` waits while
    `capacity` items (or 64 MB of them) are in the channel; one larger item goes alone.

    A channel and its ends can be sent anywhere: as arguments, in closures, as results, through other
    channels, under every start method, also to processes that plain `multiprocessing` starts.  They
    are valid on this machine while somebody holds them.

    **The stream ends** when at least one sender has existed and all are gone, closed or dead.
    Receivers get what is left, then `EndOfChannel`; iterations end.  The end is final.  The channel
    object itself is neutral: it counts as a sender or a receiver only from the first `send` or
    `receive` on it in this process, until `close` or its garbage collection.  So give producers
    `channel.sender` and consumers `channel.receiver`, and they end the stream by being done.

    Whoever starts several producers one after the other holds an end meanwhile, or the first may be
    done before the second exists::

        with channel.sender as hold:
            for part in parts:
                group.start(produce, part, channel.sender)

    Thread-safe.  Killing any process at any moment hangs nobody, delivers nothing twice, and loses
    at most what a killed receiver was taking.  A child of a plain `os.fork` inherits the ends that
    are open at that time, and they count until it closes them or ends.

    Args:
        capacity: the most items that wait in the channel, at least 1.

    Raises:
        TypeError, ValueError: `capacity` is not a positive int.

    Example:
        >>> from parmap import Channel
        >>> channel = Channel[int](capacity=10)
        >>> with channel.sender as sender:
        ...     sender.send_many([1, 2, 3])
        >>> list(channel)
        [1, 2, 3]
    """

    __slots__ = ("_neutral",)

    def __init__(self, capacity: int = 64) -> None:
        self._neutral: Neutral = neutral_of(Core.create(capacity))

    @classmethod
    def pair(cls, capacity: int = 64) -> tuple[Duplex[T], Duplex[T]]:
        """Return two connected ends, each of which sends to the other: what `Pipe()` was.

        Args:
            capacity: the most items that wait in each direction.

        Example:
            >>> from parmap import Channel
            >>> left, right = Channel.pair()
            >>> left.send("ping")
            >>> right.receive()
            'ping'
        """
        there, back = Core.create(capacity), Core.create(capacity)
        left = Duplex[T](_end(there, SENDER), _end(back, RECEIVER))
        return left, Duplex[T](_end(back, SENDER), _end(there, RECEIVER))

    @property
    def sender(self) -> Sender[T]:
        """A new sending end, each time.

        Raises `ClosedChannelError` when the stream has ended before.
        """
        return Sender(_end(self._neutral.core, SENDER))

    @property
    def receiver(self) -> Receiver[T]:
        """A new receiving end, each time."""
        return Receiver(_end(self._neutral.core, RECEIVER))

    @property
    def capacity(self) -> int:
        """The most items that wait in the channel."""
        return self._neutral.core.ring.capacity

    def close(self) -> None:
        """Take back this process's own sending and receiving; never another's.

        If no sender is left then, the stream ends for all, even if nothing was ever sent.
        Afterwards `send` here raises `ClosedChannelError`; `receive` and iteration still drain.
        May be called twice.
        """
        self._neutral.close()

    def _sending(self) -> End:
        return self._neutral.sender.use()

    def _receiving(self) -> End:
        return self._neutral.draining()

    def _observed(self) -> Core:
        return self._neutral.core

    def __reduce__(self) -> tuple[Callable[..., Channel[Any]], tuple[object, ...]]:
        return _rebuild_channel, pack_neutral(self._neutral)

    def __repr__(self) -> str:
        core = self._neutral.core
        return f"<Channel: {len(core.ring)} of {core.ring.capacity} items{_ended(core)}>"


class _End(_Closing):
    """An end of one direction."""

    __slots__ = ("_end",)

    def __init__(self, end: End) -> None:
        self._end = end

    def clone(self) -> Self:
        """Return another end of the same side; the stream ends when all of them are gone.

        Raises `ClosedChannelError` when this one is closed.
        """
        return type(self)(self._end.clone())

    def close(self) -> None:
        """Be gone; the last one ends its side.  May be called twice."""
        self._end.close()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return _rebuild_ends, (type(self), pack_end(self._end))

    def __repr__(self) -> str:
        core = self._end.core
        waiting = f"{len(core.ring)} of {core.ring.capacity} items"
        return f"<{type(self).__name__} {self._end.state}: {waiting}{_ended(core)}>"


class Sender(_End, _Sending[T_send_contra]):
    """A sending end of a `Channel`: while it is open, the stream does not end.

    It lasts until `close`, the end of its ``with``, its garbage collection, or its process's death.
    Sent to another process it is copied, and the copy counts as open on its way until it arrives.
    Thread-safe.

    Example:
        >>> from parmap import Channel
        >>> channel = Channel()
        >>> with channel.sender as sender:
        ...     sender.send("the only one")
        >>> list(channel.receiver)
        ['the only one']
    """

    __slots__ = ()

    def _sending(self) -> End:
        end = self._end
        return end if end.fd >= 0 else end.use()


class Receiver(_End, _Receiving[T_receive_co]):
    """A receiving end of a `Channel`: while one is open, sending works.

    It lasts until `close`, the end of its ``with``, its garbage collection, or its process's death.
    Sent to another process it is copied, and the copy counts as open on its way until it arrives.
    Thread-safe; several may iterate at the same time, and share the items.

    Example:
        >>> from parmap import Channel
        >>> channel = Channel()
        >>> with channel.sender as sender:
        ...     sender.send_many("abc")
        >>> receiver = channel.receiver
        >>> receiver.receive(), receiver.receive_many(10)
        ('a', ['b', 'c'])
    """

    __slots__ = ()

    def _receiving(self) -> End:
        end = self._end
        return end if end.fd >= 0 else end.use()

    def _observed(self) -> Core:
        return self._end.use().core


class Duplex(_Closing, _Sending[T], _Receiving[T]):
    """One of the two ends that `Channel.pair` gives: what it sends the other receives.

    When the other end is gone, `receive` gives what is left and then raises `EndOfChannel`, and
    `send` raises `BrokenChannelError`.  Thread-safe; can be sent to another process.

    Example:
        >>> from parmap import Channel
        >>> left, right = Channel.pair()
        >>> right.send(1)
        >>> right.close()
        >>> list(left)
        [1]
    """

    __slots__ = ("_inwards", "_outwards")

    def __init__(self, outwards: End, inwards: End) -> None:
        self._outwards = outwards
        self._inwards = inwards

    def clone(self) -> Duplex[T]:
        """Return another end of the same side."""
        return Duplex(self._outwards.clone(), self._inwards.clone())

    def close(self) -> None:
        """Neither send nor receive any more.  May be called twice."""
        self._outwards.close()
        self._inwards.close()

    def _sending(self) -> End:
        return self._outwards.use()

    def _receiving(self) -> End:
        return self._inwards.use()

    def _observed(self) -> Core:
        return self._inwards.use().core

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return _rebuild_ends, (Duplex, pack_end(self._outwards), pack_end(self._inwards))

    def __repr__(self) -> str:
        return f"<Duplex {self._outwards.state}: {len(self._inwards.core.ring)} items to receive>"


R = TypeVar("R", bound=_Receiving[Any])


def select(*receivers: R, timeout: float | None = None) -> list[R]:
    """Wait until one of several has something to receive; return those that probably do.

    *Probably*: another process may be faster, so follow it with `try_receive` where others receive
    too.  One whose stream has ended is ready: its `receive` raises at once.

    Args:
        receivers: `Receiver`, `Channel` or `Duplex` objects.
        timeout: seconds to wait; None: for ever; 0: only look.

    Returns:
        The ready ones, in the order given; an empty list when time was up.

    Raises:
        TypeError: one of them cannot be received from.
        ClosedChannelError: one of them is closed.

    Example:
        >>> from parmap import Channel, select
        >>> one, other = Channel(), Channel()
        >>> other.send("news")
        >>> [channel.receive() for channel in select(one, other)]
        ['news']
    """
    for receiver in receivers:
        known: object = receiver
        if not isinstance(known, _Receiving):
            kind = type(known).__name__
            raise TypeError(f"select waits for receivers and channels, not for {kind}")
    cores = [receiver._observed() for receiver in receivers]
    return [receivers[place] for place in selecting.ready(cores, timeout)]


def _end(core: Core, role: int) -> End:
    return End(core, role, core.join(role))


def _ended(core: Core) -> str:
    return ", ended" if core.has_ended else ""


def _rebuild_channel(*tickets: Any) -> Channel[Any]:
    channel: Channel[Any] = Channel.__new__(Channel)
    channel._neutral = unpack_neutral(*tickets)
    return channel


def _rebuild_ends(cls: Callable[..., Any], *packed: Any) -> Any:
    return cls(*[unpack_end(*end) for end in packed])

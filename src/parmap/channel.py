"""Channels: many producers, many consumers, in any processes, with an end that everybody notices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from parmap._channel import selecting
from parmap._channel.core import RECEIVER, SENDER, Core
from parmap._channel.faces import Closing, Receiving, Sending, T_receive_co, T_send_contra
from parmap._channel.local import End, neutral_of
from parmap._channel.travel import pack_end, pack_neutral, unpack_end, unpack_neutral
from parmap._memory.patience import check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._channel.local import Neutral

T = TypeVar("T")

__all__ = ["Channel", "Duplex", "Receiver", "Sender", "select"]


class Channel(Closing, Sending[T], Receiving[T]):
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
    _neutral: Neutral

    def __init__(self, capacity: int = 64) -> None:
        self._neutral = neutral_of(Core.create(capacity))

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
        left = _duplex(_end(there, SENDER), _end(back, RECEIVER))
        return left, _duplex(_end(back, SENDER), _end(there, RECEIVER))

    @property
    def sender(self) -> Sender[T]:
        """A new sending end, each time.

        Raises `ClosedChannelError` when the stream has ended before.
        """
        made: Sender[T] = _holding(Sender, _end(self._neutral.core, SENDER))
        return made

    @property
    def receiver(self) -> Receiver[T]:
        """A new receiving end, each time."""
        made: Receiver[T] = _holding(Receiver, _end(self._neutral.core, RECEIVER))
        return made

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


class _End(Closing):
    """An end of one direction."""

    __slots__ = ("_end",)
    _end: End

    def __init__(self) -> None:
        kind = type(self).__name__
        raise TypeError(f"a {kind} is made by a channel: channel.{kind.lower()}")

    def clone(self) -> Self:
        """Return another end of the same side; the stream ends when all of them are gone.

        Raises `ClosedChannelError` when this one is closed.
        """
        return _holding(type(self), self._end.clone())

    def close(self) -> None:
        """Be gone; the last one ends its side.  May be called twice."""
        self._end.close()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return _rebuild_end, (type(self), *pack_end(self._end, type(self).__name__))

    def __repr__(self) -> str:
        core = self._end.core
        waiting = f"{len(core.ring)} of {core.ring.capacity} items"
        return f"<{type(self).__name__} {self._end.state}: {waiting}{_ended(core)}>"


class Sender(_End, Sending[T_send_contra]):
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


class Receiver(_End, Receiving[T_receive_co]):
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


class Duplex(Closing, Sending[T], Receiving[T]):
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
    _outwards: End
    _inwards: End

    def __init__(self) -> None:
        raise TypeError("a Duplex is made by Channel.pair()")

    def clone(self) -> Duplex[T]:
        """Return another end of the same side."""
        return _duplex(self._outwards.clone(), self._inwards.clone())

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
        return _rebuild_duplex, (
            pack_end(self._outwards, "Duplex"),
            pack_end(self._inwards, "Duplex"),
        )

    def __repr__(self) -> str:
        return f"<Duplex {self._outwards.state}: {len(self._inwards.core.ring)} items to receive>"


R = TypeVar("R", bound=Receiving[Any])
E = TypeVar("E", bound=_End)


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
        TypeError: one of them cannot be received from, or `timeout` is no number.
        ValueError: `timeout` is nan.
        ClosedChannelError: one of them is closed.

    Example:
        >>> from parmap import Channel, select
        >>> one, other = Channel(), Channel()
        >>> other.send("news")
        >>> [channel.receive() for channel in select(one, other)]
        ['news']
    """
    if timeout is not None:
        check_seconds(timeout)
    for receiver in receivers:
        known: object = receiver
        if not isinstance(known, Receiving):
            kind = type(known).__name__
            raise TypeError(f"select waits for receivers and channels, not for {kind}")
    cores = [receiver._observed() for receiver in receivers]
    return [receivers[place] for place in selecting.ready(cores, timeout)]


def _end(core: Core, role: int) -> End:
    return End(core, role, core.join(role))


def _holding(cls: type[E], end: End) -> E:
    made = cls.__new__(cls)
    made._end = end
    return made


def _duplex(outwards: End, inwards: End) -> Duplex[Any]:
    made: Duplex[Any] = Duplex.__new__(Duplex)
    made._outwards = outwards
    made._inwards = inwards
    return made


def _ended(core: Core) -> str:
    return ", ended" if core.has_ended else ""


def _rebuild_channel(*tickets: Any) -> Channel[Any]:
    channel: Channel[Any] = Channel.__new__(Channel)
    channel._neutral = unpack_neutral(*tickets)
    return channel


def _rebuild_end(cls: type[E], *packed: Any) -> E:
    return _holding(cls, unpack_end(*packed))


def _rebuild_duplex(outwards: Any, inwards: Any) -> Duplex[Any]:
    return _duplex(unpack_end(*outwards), unpack_end(*inwards))

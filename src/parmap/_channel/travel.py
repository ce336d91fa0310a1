"""How channels and ends get into other processes.

Both pickle as tickets for descriptors (see `parmap._memory.transit`): the channel's memory, bells,
presences and keeper; an end in addition its own descriptor, whose copy counts as open on its way
until it arrives or is dropped.  So it works in every parmap call, in an item of a channel, in an
argument of a plain `multiprocessing.Process`; any other pickle is refused with a sentence.
"""

from __future__ import annotations

from parmap._channel import ends
from parmap._channel.core import core_of
from parmap._channel.local import End, neutral_of
from parmap._memory.transit import export_fd, import_fd

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from typing import Any

    from parmap._channel.local import Neutral
    from parmap._memory.transit import Ticket


def pack_neutral(neutral: Neutral) -> tuple[object, ...]:
    """Return what `unpack_neutral` makes a channel from."""
    return neutral.core.tickets()


def unpack_neutral(*tickets: Any) -> Neutral:
    """Rebuild it: it counts for nobody until it is used."""
    return neutral_of(core_of(*tickets))


def pack_end(end: End, what: str) -> tuple[object, ...]:
    """Return what `unpack_end` makes an end from; `what` names it, should it not be possible."""
    if end.state not in ends.PORTABLE:
        end.refuse()
    end.use()
    return end.role, export_fd(end.fd, what), end.core.tickets()


def unpack_end(role: int, ticket: Ticket, tickets: tuple[Any, ...]) -> End:
    """Rebuild an end: what was on its way has arrived."""
    fd = import_fd(ticket)
    return End(core_of(*tickets), role, fd)

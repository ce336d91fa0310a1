"""The states of an end, and its legal moves.  Pure: a table, and who asks it.

An end is made here or arrives; while it is open, or travels, it keeps its side of the channel
alive.  The kernel counts: an end is one descriptor, so that a death needs nobody's notice.
"""

from __future__ import annotations

# States.  What counts as open for the other side is in ALIVE.
MADE = "made"  # nobody has used it: a neutral channel, before its first send or receive
OPEN = "open"
TRAVELLING = "travelling"  # pickled, and neither claimed nor given up
INHERITED = "inherited"  # in a child that parmap has forked: opens again when it is used
CLOSED = "closed"
DEAD = "dead"  # its process is

ALIVE = frozenset({OPEN, TRAVELLING})

# Moves.
JOIN = "join"
SEND_AWAY = "send away"
ARRIVE = "arrive"
DROP = "drop"  # the message was dropped, or its receiver has died
FORK = "fork"  # by parmap; after any other fork the child's copy is simply open
CLOSE = "close"
COLLECT = "collect"
KILL = "kill"

MOVES = {
    (MADE, JOIN): OPEN,
    (MADE, CLOSE): CLOSED,
    (MADE, COLLECT): CLOSED,
    (MADE, FORK): MADE,
    (MADE, KILL): DEAD,
    (OPEN, JOIN): OPEN,
    (OPEN, FORK): INHERITED,
    (OPEN, CLOSE): CLOSED,
    (OPEN, COLLECT): CLOSED,
    (OPEN, KILL): DEAD,
    # What is sent away is a copy: the original stays as it is.
    (TRAVELLING, ARRIVE): OPEN,
    (TRAVELLING, DROP): CLOSED,
    (INHERITED, JOIN): OPEN,
    (INHERITED, FORK): INHERITED,
    (INHERITED, CLOSE): CLOSED,
    (INHERITED, COLLECT): CLOSED,
    (INHERITED, KILL): DEAD,
    (CLOSED, CLOSE): CLOSED,
    (CLOSED, COLLECT): CLOSED,
    (CLOSED, FORK): CLOSED,
    (CLOSED, KILL): DEAD,
}

# States whose end may be pickled; the copy is then TRAVELLING.
PORTABLE = frozenset({OPEN, INHERITED})


def after(state: str, move: str) -> str:
    """Return the state that follows; an illegal move raises `InternalError`."""
    try:
        return MOVES[state, move]
    except KeyError:
        from parmap.errors import InternalError

        raise InternalError(f"an end that is {state} cannot {move}") from None

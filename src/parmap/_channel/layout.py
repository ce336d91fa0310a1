"""Where everything lies in a channel's memory.  One writer at a time: whoever holds its lock.

::

    0       the words below
    4096    its lock (`_memory.mutex`)
    ...     per block of the heap: a state byte; its owner; its place   (three tables)
    ...     the slots, 128 bytes each
    ...     the heap; the file grows with it

Memory that was never touched costs nothing, so tables are as long as they may ever need to be.
"""

from __future__ import annotations

from struct import Struct

from parmap._memory.mutex import size_of

SLOT = 128
WORD = 8
PAGE = 4096

# The first byte of a slot whose message lies in the heap: no marshal and no pickle begins with it.
PARCEL = 1
# ... and the slot: this byte, form, number of descriptors, block, bytes, the tag of the descriptors.
LABEL = Struct("<BBH4xqqq")

# Words.  Those that senders write and those that receivers write are cache lines apart.
CAPACITY = 1
FLAGS = 2
NEWS = 4  # changes when a receiver was closed
TAIL = 8  # how many messages were ever sent ...
HEAD = 16  # ... and received
WAITING_RECEIVERS = 24
WAITING_SENDERS = 32
BYTES = 40  # of the heap, in queued messages
BLOCKS = 48  # how many blocks exist
HEAP_END = 49
SWEEP_AT = 50
WORDS = 64

# Bits of FLAGS.
ENDED = 1  # no sender is left, nor can any come
SENDER_EXISTED = 2
RECEIVER_EXISTED = 4
LEVEL = 8  # somebody polls the bell himself: it is to be readable while something waits

# In the two words of waiting: a bit that says LEVEL, so that one look tells whether to ring.
LEVELLED = 1 << 40
COUNT = LEVELLED - 1

LOCK_AT = PAGE
MOST_PROCESSES = 4096

MOST_CAPACITY = 1 << 24
MOST_BYTES = 64 << 20  # waiting in one channel; one larger message alone
_MOST_BLOCKS = 1 << 20
_IN_FLIGHT = 256  # blocks for those that write or read one at the moment


class Layout:
    """The offsets that depend on the capacity."""

    __slots__ = ("blocks", "capacity", "heap", "owners", "places", "slots", "states")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.blocks = min(capacity, _MOST_BLOCKS) + _IN_FLIGHT
        self.states = _up(LOCK_AT + size_of(MOST_PROCESSES), PAGE)
        self.owners = _up(self.states + self.blocks, WORD)
        self.places = self.owners + self.blocks * WORD
        self.slots = _up(self.places + self.blocks * WORD, PAGE)
        self.heap = _up(self.slots + capacity * SLOT, PAGE)


def _up(number: int, unit: int) -> int:
    return (number + unit - 1) // unit * unit

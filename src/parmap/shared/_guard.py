"""The lock of an array: there is room for it in the array's block, and who first asks makes it.

Most arrays are never locked, and making a lock takes longer than making an array.
"""

from __future__ import annotations

from parmap._memory.mutex import prepare
from parmap._memory.words import WORD
from parmap.shared._handles import OWN, handle_of
from parmap.shared.locks import Lock

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from parmap._memory.arena import Block

# The block begins as that of any `Lock` does; one of the words that it leaves says that it is made.
_MADE = OWN // WORD
GUARD_SIZE = OWN + 64


def guard_of(block: Block) -> Lock:
    """Return the lock of the array in that block: this process's one object for it."""
    made = block.words()[_MADE : _MADE + 1]
    if not made[0]:
        with block.lock():
            if not made[0]:
                prepare(block.segment, block.offset)
                made[0] = 1
    return handle_of(Lock, block)

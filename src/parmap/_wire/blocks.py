"""Blocks: many plain values in one message, at a tenth of what separate pickles cost.

Plain is what cannot be changed and cannot fail to be rebuilt: numbers, texts, bytes, None, and flat
tuples of these.  Whether a list holds nothing else has to be found out for each list, and that alone
costs as much as a third of the pickling.  Integers, the most frequent, go another way: `marshal`
writes them twice as fast as `pickle` and refuses subclasses; and where each takes five bytes, which
then begin with the letter for an integer, those letters are the proof that there is nothing else.

Both formats tell by their first byte which they are.  Nothing of it leaves this machine or outlives
the processes, so no version of the formats matters.
"""

from __future__ import annotations

import marshal
from _pickle import dumps, loads  # `pickle` itself imports re: 4 ms of every worker's start
from itertools import chain

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from parmap._wire.frames import Buffer

PROTOCOL = 5
ATOMS = frozenset({int, float, complex, bool, type(None), str, bytes})
ATOMS_AND_TUPLES = ATOMS | {tuple}

# Without references between objects: each value stands for itself.
_NO_REFERENCES = 2
# Bytes of this size travel as they are; a chunk of many such is not made.
BULKY = 64 * 1024
MOST_BULKY = 16
_LIST_HEAD = 5  # a letter and the length
_INT_BYTES = 5  # a letter and 32 bits
_LIST = ord("[")


def dump_block(values: Sequence[object]) -> bytes | None:
    """The values as one block; None if they are not all plain."""
    if type(values) is range:
        return dumps(values, PROTOCOL)
    if type(values) is not list:
        values = list(values)
    if values and type(values[0]) is int:
        data = _dump_ints(values)
        if data is not None:
            return data
    return dumps(values, PROTOCOL) if is_plain(values) and not _is_bulky(values) else None


def load_block(data: Buffer) -> Sequence[Any]:
    """The values: a list, or a range."""
    load = marshal.loads if data[0] == _LIST else loads
    values: Sequence[Any] = load(data)
    return values


def is_plain(values: Sequence[object]) -> bool:
    """Tell whether the values may share a pickle: none is mutable, none fails to unpickle."""
    # Nearly always all are of one type, and that is found out at half the cost.
    if values and list(map(type, values)).count(kind := type(values[0])) == len(values):
        kinds: set[type] = {kind}
    else:
        kinds = set(map(type, values))
    if kinds <= ATOMS:
        return True
    if not kinds <= ATOMS_AND_TUPLES:
        return False
    tuples: list[tuple[object, ...]] = [value for value in values if type(value) is tuple]
    return set(map(type, chain.from_iterable(tuples))) <= ATOMS


def _is_bulky(values: Sequence[object]) -> bool:
    """Whether there are bytes that need not be copied into a pickle, and are worth the care."""
    if len(values) > MOST_BULKY:
        return False
    return any(type(value) is bytes and len(value) >= BULKY for value in values)


def _dump_ints(values: list[Any]) -> bytes | None:
    """None if they are not all integers."""
    try:
        data = marshal.dumps(values, _NO_REFERENCES)
    except ValueError:  # there is something that only pickle can take
        return None
    count = len(values)
    small = len(data) == _LIST_HEAD + count * _INT_BYTES
    if small and data[_LIST_HEAD::_INT_BYTES] == b"i" * count:
        return data
    return data if list(map(type, values)).count(int) == count else None

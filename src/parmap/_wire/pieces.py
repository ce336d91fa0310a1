"""A pickle in pieces, so that large bytes in it need not be copied."""

from __future__ import annotations

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from parmap._wire.frames import Buffer

# Smaller buffers are copied into the pickle: a copy costs less than a segment of their own.
OUT_OF_BAND_FROM = 64 * 1024
# As it is with pieces of a pickle.
_JOIN_BELOW = 256 * 1024
_PICKLE_BEGINS = b"\x80\x95"  # a pickle, or a later part of one ("frame") that is as long as this


def names_main(data: Buffer) -> bool:
    """Tell whether a pickle may name something of ``__main__``, which is another one in a worker.

    Objects that reduce to the name of a global get past `reducer_override`. Text that happens to
    say so costs a second look, nothing else.
    """
    return b"__main__" in bytes(data)


class Pieces(list["Buffer"]):
    """A file for a pickler, in pieces.  Large bytes are pieces of their own, and not copied."""

    write = list.append  # what a pickler looks for

    def nbytes(self, first: int = 0) -> int:
        """The size from that piece on."""
        return sum(map(len, self[first:]))

    def names_main(self, first: int) -> bool:
        """As the function of that name, of the pieces from that one on."""
        # A piece that is long, and no part of a pickle, is the contents of one text or bytes object.
        pickled = [p for p in self[first:] if len(p) < OUT_OF_BAND_FROM or p[0] in _PICKLE_BEGINS]
        return any(map(names_main, pickled))

    def joined(self) -> Buffer | Pieces:
        """As one piece, unless that is much to copy."""
        if self.nbytes() < _JOIN_BELOW:
            return b"".join(self)
        for place, piece in enumerate(self):
            if type(piece) is bytearray:
                self[place] = bytes(piece)  # while it is on its way its owner may make it shorter
        return self

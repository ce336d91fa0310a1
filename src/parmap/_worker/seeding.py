"""Reproducible randomness: the generators that a program shares, seeded for each item.

The numbers are those of (seed, index) alone, whatever process, platform or version makes them.
"""

from __future__ import annotations

import random
import sys
from hashlib import sha512

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Self

_NUMPY = "numpy.random"


class Derived:
    """What one item is seeded with: 128 bits each for the user, for `random`, and for NumPy.

    Three, for `random` and NumPy have the same generator: of one number they would make one stream.
    """

    __slots__ = ("numpy", "random", "seed")

    def __init__(self, digest: bytes) -> None:
        self.seed = int.from_bytes(digest[:16], "little")
        self.random = int.from_bytes(digest[16:32], "little")
        self.numpy = int.from_bytes(digest[32:48], "little")


def derive(seed: int, index: int) -> Derived:
    """The numbers of one item.  Never to be changed: results are repeated years later.

    >>> derive(1, 0).seed == derive(1, 0).seed != derive(1, 1).seed
    True
    """
    return Derived(sha512(b"parmap seed 1: %d, %d" % (seed, index)).digest())


class Seeding:
    """Seeds for the items of one call; what the generators were before is put back at the end.

    Not thread-safe: the generators belong to the whole process.
    """

    __slots__ = ("_before", "_for_numpy", "_numpy_before", "_outer", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._for_numpy = 0
        self._before: Any = None
        self._numpy_before: dict[str, Any] | None = None
        self._outer: Seeding | None = None

    def __enter__(self) -> Self:
        global _innermost
        self._outer, _innermost = _innermost, self
        self._before = random.getstate()
        state = getattr(sys.modules.get(_NUMPY), "get_state", None)
        self._numpy_before = None if state is None else state(legacy=False)
        if state is None:  # it is not there, or is being imported
            sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *exc: object) -> None:
        global _innermost
        _innermost = self._outer
        random.setstate(self._before)
        if self._numpy_before is None:
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            if self._outer is not None:
                self._outer.seed_numpy()
            elif (numpy := sys.modules.get(_NUMPY)) is not None:
                seed_numpy(numpy, None)
        else:
            _restore(sys.modules[_NUMPY], self._numpy_before)

    def plant(self, index: int) -> None:
        """Seed for the item that comes now."""
        derived = derive(self.seed, index)
        random.seed(derived.random)
        self._for_numpy = derived.numpy
        self.seed_numpy()

    def seed_numpy(self) -> None:
        """Seed NumPy's generator for the present item, if it is there."""
        numpy = sys.modules.get(_NUMPY)
        if numpy is not None and hasattr(numpy, "seed"):  # else it is being imported
            seed_numpy(numpy, self._for_numpy)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As a finder: if an item is the first to import NumPy, seed it as soon as it is there."""
        if name != _NUMPY:
            return None
        finders = list(sys.meta_path)
        if self not in finders:
            return None  # another thread imports, and the chunk is over
        for finder in finders[finders.index(self) + 1 :]:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ThenSeed(spec.loader, self)  # type: ignore[assignment]
                return spec
        return None


class _ThenSeed:
    """Loads NumPy's module as its own loader does, which takes its place at once."""

    def __init__(self, loader: Loader, seeding: Seeding) -> None:
        self._loader = loader
        self._seeding = seeding

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._seeding.seed_numpy()


_innermost: Seeding | None = None


def part_from_parent() -> None:
    """In a worker that was forked with NumPy in it: its random numbers shall be no other worker's.

    (Python's own `random` sees to that by itself.)
    """
    if (numpy := sys.modules.get(_NUMPY)) is not None:
        seed_numpy(numpy, None)


def seed_numpy(numpy: Any, number: int | None) -> None:
    """Seed NumPy's global generator; None: by chance."""
    words = None
    if number is not None:
        words = [number >> shift & 0xFFFF_FFFF for shift in (0, 32, 64, 96)]
    try:
        numpy.seed(words)
    except TypeError:  # the program has put another generator in its place, which has no such seed
        bits = numpy.get_bit_generator()
        bits.state = type(bits)(words).state


def _restore(numpy: Any, state: dict[str, Any]) -> None:
    try:
        numpy.set_state(state)
    except (TypeError, ValueError):
        return  # an item has put a generator of another kind in its place, and there it stays

"""SharedDict: a dict that processes share."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, KeysView, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, overload

from parmap._memory.log import END
from parmap._wire.messages import ATOMS, SMALL, Parcel
from parmap.shared._pairs import MISSING, Pairs, is_plain, shown
from parmap.shared._replica import pack, unpack
from parmap.shared._values import close

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from parmap.shared._following import Copy

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")
N = TypeVar("N")  # keys of a new one


class SharedDict(MutableMapping[K, V]):
    """A dict that any number of processes read and change, as if it were one object.

    Made as `dict` is: empty, from a mapping or pairs, with keywords.  It can be sent anywhere (an
    argument, a closure, through a `Channel`, inside another container) and lives as long as somebody
    has it; no server process stands behind it.

    **Order and atomicity.**  Each method is one step for all processes: a read sees every change
    that had returned before it, whoever made it, and no half of one; `update` and ``|=`` are one step
    too.  Iterating (also over `values()` and `items()`) goes through what was there when the
    iteration began.  Keys are in the order of their insertion.

    **Values are copies**, keys too.  Reading a mutable value gives a fresh copy: changing that is
    seen by nobody, so ``d[k].append(x)`` does nothing and ``d[k] += 1`` may lose somebody's
    update.  Use `update_item`.  Any value that can be pickled will do, lambdas and classes of
    ``__main__`` too; handles in it (a `Channel`, another `SharedDict`) stay alive with it.

    **Blocking.**  Reading waits for nobody.  Changing waits while another process is changing,
    microseconds, or as long as the function of its `update_item` runs.  A process that is killed
    while it is changing holds up nobody, and its change has happened or has not.

    **Cost.**  Each process keeps a copy of the keys and of small values, and takes in what others
    change when it looks the next time; values above 32 KB are there once, in shared memory.  It
    takes four file descriptors.

    Thread-safe; a forked child goes on with the same dict.

    Raises:
        TypeError: a key is not hashable, or not equal to its own copy.
        SerializationError: a key or value cannot be pickled, or its handles cannot be kept alive
            (about 270 values of one container can hold handles).  Nothing was changed.

    Example:
        >>> from parmap import SharedDict, parallel_map
        >>> count = SharedDict()
        >>> def tally(word):
        ...     count.update_item(word, lambda n: n + 1, 0)
        >>> _ = parallel_map(tally, ["to", "be", "or", "not", "to", "be"])
        >>> sorted(count.items())
        [('be', 2), ('not', 1), ('or', 1), ('to', 2)]
    """

    __slots__ = ("__weakref__", "_copy", "_replica")
    _copy: Copy
    _replica: Pairs

    @overload
    def __init__(self) -> None: ...
    @overload
    def __init__(self: SharedDict[str, D], **more: D) -> None: ...
    @overload
    def __init__(self, other: Mapping[K, V] | Iterable[tuple[K, V]], /) -> None: ...
    @overload
    def __init__(
        self: SharedDict[str, D], other: Mapping[str, D] | Iterable[tuple[str, D]], /, **more: D
    ) -> None: ...
    def __init__(self: Any, *others: Any, **more: Any) -> None:  # type: ignore[misc]  # mypy: `self` as a keyword
        self._attach(Pairs.create())
        if others or more:
            self.update(*others, **more)

    @overload
    @classmethod
    def fromkeys(cls, keys: Iterable[N]) -> SharedDict[N, Any]: ...
    @overload
    @classmethod
    def fromkeys(cls, keys: Iterable[N], value: D) -> SharedDict[N, D]: ...
    @classmethod
    def fromkeys(cls, keys: Iterable[N], value: Any = None) -> SharedDict[N, Any]:
        """Return a new one with these keys, each with a copy of `value`."""
        return cast("type[SharedDict[N, Any]]", cls)(dict.fromkeys(keys, value))

    # ------------------------------------------------------------------ reading

    def __getitem__(self, key: K, /) -> V:
        copy = self._copy
        if copy.words[END] != copy.seen:
            self._replica.catch_up()
        form = copy.data[key]
        return form if type(form) is not tuple else self._replica.open(form, key)  # type: ignore[no-any-return]

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V) -> V: ...
    @overload
    def get(self, key: K, /, default: D) -> V | D: ...
    def get(self, key: K, /, default: Any = None) -> Any:
        """Return the value of `key`, a copy, or `default`."""
        copy = self._copy
        if copy.words[END] != copy.seen:
            self._replica.catch_up()
        form = copy.data.get(key, MISSING)
        if type(form) is not tuple:
            return default if form is MISSING else form
        try:
            return self._replica.open(form, key)
        except KeyError:  # it was there when we looked, and then not any more
            if key in self:
                raise
            return default

    def __contains__(self, key: object, /) -> bool:
        copy = self._copy
        if copy.words[END] != copy.seen:
            self._replica.catch_up()
        return key in copy.data

    def __len__(self) -> int:
        copy = self._copy
        if copy.words[END] != copy.seen:
            self._replica.catch_up()
        return len(copy.data)

    def __iter__(self) -> Iterator[K]:
        return map(shown, self._keys())

    def __reversed__(self) -> Iterator[K]:
        return map(shown, reversed(self._keys()))

    def keys(self) -> KeysView[K]:
        """Return a view of the keys; each iteration goes through those of one moment."""
        return _Keys(self)

    def values(self) -> ValuesView[V]:
        """Return a view of the values; each iteration goes through those of one moment."""
        return _Values(self)

    def items(self) -> ItemsView[K, V]:
        """Return a view of the pairs; each iteration goes through those of one moment."""
        return _Items(self)

    def copy(self) -> dict[K, V]:
        """Return a plain `dict` with everything that is there at one moment."""
        return dict(self._pairs())

    def __or__(self, other: Mapping[K, V], /) -> dict[K, V]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**self.copy(), **other}

    def __ror__(self, other: Mapping[K, V], /) -> dict[K, V]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**other, **self.copy()}

    def __eq__(self, other: object, /) -> bool:
        if isinstance(other, SharedDict):
            return other._replica is self._replica or self.copy() == other.copy()
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.copy() == dict(other.items())

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as a dict

    def __repr__(self) -> str:
        return self._replica.show(self)

    # ------------------------------------------------------------------ changing

    def __setitem__(self, key: K, value: V, /) -> None:
        replica = self._replica
        form = value if type(value) in SMALL else replica.encode(value)
        try:
            if (
                type(key) in ATOMS
                and type(form) is not Parcel
                and (replica._fast_put or replica.fast_put())(key, form)
            ):
                return
            replica.change(replica.set, replica.key(key), form)
        finally:
            if type(form) is Parcel:
                form.close()

    def __delitem__(self, key: K, /) -> None:
        replica = self._replica
        hash(key)
        replica.change(replica.delete, key)

    def update_item(self, key: K, fn: Callable[[V], V], default: V = MISSING) -> V:
        """Replace the value of `key` by what `fn` makes of it, as one step; return the new value.

        ``d.update_item("hits", lambda n: n + 1, 0)`` never loses an update, whoever else changes
        the dict.  `fn` gets a copy of the value, or of `default` where there is none, and returns
        the new value; it runs once, here, while nobody else can change the dict: keep it short.
        Others can read meanwhile, and so can `fn`; changing this dict in `fn` raises RuntimeError.

        If `fn` raises, or this process is killed in it, nothing has changed and nobody is held up.

        Args:
            key: whose value; it need not be there if there is a `default`.
            fn: takes the value, and returns the new one.
            default: what `fn` gets where `key` is not there.

        Raises:
            KeyError: `key` is not there, and there is no `default`.
            TypeError: `fn` has changed the list, dict or set it was given, and returned None.
            SerializationError: the new value cannot be pickled.

        Example:
            >>> from parmap import SharedDict
            >>> places = SharedDict(fox=[3])
            >>> places.update_item("fox", lambda lines: [*lines, 8], [])
            [3, 8]
            >>> places.update_item("dog", lambda lines: [*lines, 9], [])
            [9]
        """
        replica = self._replica
        return cast("V", replica.change(replica.update, key, replica.key(key), fn, default))

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V) -> V: ...
    @overload
    def pop(self, key: K, /, default: D) -> V | D: ...
    def pop(self, key: K, /, default: Any = MISSING) -> Any:
        """Remove `key` and return its value; else return `default`, or raise KeyError."""
        hash(key)
        return self._replica.change(self._replica.pop, key, default)

    def popitem(self) -> tuple[K, V]:
        """Remove and return the pair that was inserted last.  Raises KeyError if there is none."""
        return cast("tuple[K, V]", self._replica.change(self._replica.pop_item))

    @overload
    def setdefault(self: SharedDict[K, D | None], key: K, default: None = None, /) -> D | None: ...
    @overload
    def setdefault(self, key: K, default: V, /) -> V: ...
    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        """Return the value of `key`, a copy; where it is not there, put `default` there first."""
        replica = self._replica
        form = replica.encode(default)
        try:
            return replica.change(replica.set_default, key, replica.key(key), form)
        finally:
            close(form)

    def clear(self) -> None:
        """Remove everything."""
        self._replica.change(self._replica.clear)

    def update(self, other: Any = (), /, **more: V) -> None:
        """Take over the pairs of a mapping or of an iterable, and the keywords, as one step."""
        replica = self._replica
        made: list[tuple[Any, Any]] = []
        try:
            if isinstance(other, SharedDict):
                other = other.copy()  # those of one moment
            for key, value in dict(other, **more).items():
                made.append((key if is_plain(key) else replica.key(key), replica.encode(value)))
            replica.change(replica.set_many, made)
        finally:
            for _, form in made:
                close(form)

    def __ior__(self, other: Mapping[K, V] | Iterable[tuple[K, V]], /) -> Self:
        self.update(other)
        return self

    def __reduce__(self) -> tuple[Callable[..., SharedDict[Any, Any]], tuple[object, ...]]:
        return _arrive, (type(self), *pack(self._replica, "SharedDict"))

    def _attach(self, replica: Pairs) -> None:
        self._replica, self._copy = replica, replica.copy

    def _keys(self) -> list[Any]:
        return self._replica.at_one_moment(lambda: list(self._copy.data))[0]

    def _values(self) -> Iterator[V]:
        replica = self._replica
        return map(replica.open, replica.steady(replica.forms))

    def _pairs(self) -> Iterator[tuple[K, V]]:
        replica = self._replica
        keys: list[Any] = []

        def pick() -> list[Any]:
            keys[:] = self._copy.data
            return replica.forms()

        forms = replica.steady(pick)
        return zip(map(shown, keys), map(replica.open, forms), strict=True)


class _Keys(KeysView[K]):
    __slots__ = ()
    _mapping: SharedDict[K, Any]

    def __reversed__(self) -> Iterator[K]:
        return reversed(self._mapping)


class _Values(ValuesView[V]):
    __slots__ = ()
    _mapping: SharedDict[Any, V]

    def __iter__(self) -> Iterator[V]:
        return self._mapping._values()

    def __contains__(self, value: object) -> bool:
        return any(value is one or value == one for one in self)

    def __reversed__(self) -> Iterator[V]:
        return reversed(list(self))


class _Items(ItemsView[K, V]):
    __slots__ = ()
    _mapping: SharedDict[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._pairs()

    def __reversed__(self) -> Iterator[tuple[K, V]]:
        return reversed(list(self))


def _arrive(cls: type[SharedDict[Any, Any]], ticket: Any, keeper: Any) -> SharedDict[Any, Any]:
    made = cls.__new__(cls)
    made._attach(unpack(Pairs, ticket, keeper))
    return made

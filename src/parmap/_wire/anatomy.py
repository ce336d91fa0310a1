"""What an exception class is made of: how to make an empty instance, and where its state sits.

An exception is taken apart and put together without running its constructor: that may demand other
arguments than ``args``, or format the message twice. So its parts must be known: ``args``, the
``__dict__``, ``__slots__``, and the C fields of the builtin class below it (``OSError.errno``,
``StopIteration.value``...), which are found by looking, so that those of later Pythons are too.
"""

from __future__ import annotations

import builtins
import sys
from types import GetSetDescriptorType, MemberDescriptorType

# Not typing's constant: importing typing costs every worker 4 ms. Checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import ref

    Getter = Callable[[BaseException], object]
    Setter = Callable[[BaseException, object], None]

_BUILTIN = frozenset(
    id(found)
    for found in vars(builtins).values()
    if isinstance(found, type) and issubclass(found, BaseException)
)
_COMMON = frozenset(map(id, (BaseException, BaseExceptionGroup, object)))
_PICKLE_HOOKS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
_POINTER = 8


class Anatomy:
    """The parts of one exception class.

    Attributes:
        base: the builtin class whose ``__new__`` makes an empty instance.
        name: its qualified name with the module.
        place: module and qualified name if the class is found by them in every process: those of
            the standard library and of parmap itself; else None.
        fields: of each C field and slot: its reader, its writer, and whether None is what an
            empty instance has.
        has_hooks: it defines how it wants to be pickled.
        is_known: it adds no memory of its own to the builtin class; an instance of another class
            must not be made without its constructor, which may have set what its methods rely on.
        is_group: it is an exception group.
    """

    __slots__ = ("base", "fields", "has_hooks", "is_group", "is_known", "name", "owner", "place")

    def __init__(self, cls: type[BaseException]) -> None:
        self.owner: ref[type[BaseException]] | None = None
        self.name = full_name(cls)
        self.place = _place_of(cls)
        self.base, self.is_known = _builtin_base(cls)
        self.is_group = issubclass(cls, BaseExceptionGroup)
        self.fields = _fields_of(cls)
        # The hooks of the standard library's own classes do no more than we do.
        self.has_hooks = self.place is None and _has_hooks(cls)


# By the class's id: its metaclass may define == and hash() in any way.
_known: dict[int, Anatomy] = {}


def anatomy_of(cls: type[BaseException]) -> Anatomy:
    """Return the class's parts, found once per class."""
    return _known.get(id(cls)) or _study(cls)


def _study(cls: type[BaseException]) -> Anatomy:
    anatomy = Anatomy(cls)
    key = id(cls)
    if anatomy.place is None:
        # Classes that go by value are made anew for each call; nothing may keep them alive.
        import weakref

        anatomy.owner = weakref.ref(cls, lambda _: _known.pop(key, None))
    _known[key] = anatomy
    return anatomy


def full_name(cls: type) -> str:
    """Return the class's qualified name, with the module unless it is builtin."""
    module, name = cls.__module__, cls.__qualname__
    if module == "builtins" or type(module) is not str:
        return str(name)
    return f"{module}.{name}"


def find_class(place: tuple[str, str]) -> object:
    """Return what stands at that place; raises whatever the import raises."""
    found: object = sys.modules.get(place[0]) or __import__(place[0], fromlist=["*"])
    for name in place[1].split("."):
        found = getattr(found, name)
    return found


def _place_of(cls: type) -> tuple[str, str] | None:
    place = module, _ = (cls.__module__, cls.__qualname__)
    if type(module) is not str:
        return None
    top = module.partition(".")[0]
    if top not in sys.stdlib_module_names and top != "parmap":
        return None
    try:
        return place if find_class(place) is cls else None
    except Exception:
        return None


def _builtin_base(cls: type[BaseException]) -> tuple[type[BaseException], bool]:
    """Return the builtin class below this one, and whether nothing in between adds C memory."""
    base: type = cls
    is_known = True
    while id(base) not in _BUILTIN:
        below = base.__base__
        assert below is not None, "BaseException is builtin"
        own = vars(base)
        slots = sum(type(part) is MemberDescriptorType for part in own.values())
        # The slots that Python code declares, and the list of weak references.
        explained = _POINTER * ((slots if "__slots__" in own else 0) + ("__weakref__" in own))
        is_known = is_known and base.__basicsize__ - below.__basicsize__ <= explained
        base = below
    return base, is_known


def _fields_of(cls: type[BaseException]) -> dict[str, tuple[Getter, Setter, bool]]:
    fields = {}
    for part_of in cls.__mro__:
        # args and the links between exceptions are everybody's; a group's message and exceptions
        # are set when it is made.
        if id(part_of) in _COMMON:
            continue
        is_builtin = id(part_of) in _BUILTIN
        for name, part in vars(part_of).items():
            is_field = type(part) is MemberDescriptorType or (
                type(part) is GetSetDescriptorType and is_builtin
            )
            # Asking an OSError for characters_written raises; only BlockingIOErrors have it.
            if name == "characters_written" and not issubclass(cls, BlockingIOError):
                continue
            if is_field and name not in ("__weakref__", "__dict__"):
                fields[f"{part_of.__name__}.{name}"] = (part.__get__, part.__set__, is_builtin)
    return fields


def _has_hooks(cls: type[BaseException]) -> bool:
    copyreg = sys.modules.get("copyreg")
    # Compared by identity: a metaclass may define == and hash() in any way.
    if copyreg is not None and any(known is cls for known in copyreg.dispatch_table.copy()):
        return True
    for hook in _PICKLE_HOOKS:
        definer = next((base for base in cls.__mro__ if hook in vars(base)), object)
        if definer is not object and id(definer) not in _BUILTIN:
            return True
    return False

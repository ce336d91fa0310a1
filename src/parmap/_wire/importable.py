"""Will a worker find this function or class by its name? What it would not find goes by value.

`pickle` and `cloudpickle` trust `sys.modules`: what stands there counts as importable. A worker is
a fresh interpreter that has only the caller's `sys.path`, so the question here is whether an import
there would reach the same file.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# Never the same module in two processes; `__mp_main__` is what multiprocessing calls a copy.
MAINS = frozenset({"__main__", "__mp_main__"})

# Verdicts by module name, with what they were based on: the module object (it may be replaced) and
# sys.path (it may grow).
_verdicts: dict[str, tuple[ModuleType, list[str], bool]] = {}
_not_there: set[str] = set()


def goes_by_reference(obj: object) -> bool:
    """Tell whether a worker finds a function or class by its module and qualified name."""
    try:
        name: object = obj.__module__
        path: str = obj.__qualname__  # type: ignore[attr-defined]
        return is_named(obj, name, path)
    except Exception:
        return False  # a metaclass with an opinion about attributes: then its name is no help


def is_named(obj: object, module_name: object, path: str) -> bool:
    """Tell whether `obj` itself is found under that name, here and in a worker."""
    if type(module_name) is not str:
        return False  # doctest's functions, for example
    module = sys.modules.get(module_name) or _imported(module_name)
    if module is None or module_name in MAINS:
        return False
    found: object = module
    try:
        for part in path.split("."):
            found = getattr(found, part)
    except AttributeError:
        return False
    return found is obj and is_importable(module, module_name)


def _imported(name: str) -> ModuleType | None:
    """Import a part of a package that is there, as `pickle` would: things may say that they are at
    home there before anybody has (``numpy.recarray`` in ``numpy.rec``)."""
    if name.rpartition(".")[0] not in sys.modules or name in _not_there:
        return None
    from importlib import import_module

    try:
        return import_module(name)
    except Exception:
        _not_there.add(name)  # looked for only once: it takes long
        return None


def is_importable(module: ModuleType, name: str) -> bool:
    """Tell whether importing `name` in a worker gives this module's code."""
    if _is_being_imported(module, name):
        return (
            False  # it calls parmap at its top level: so would each worker's copy of it, for ever
        )
    known = _verdicts.get(name)
    if known is not None and known[0] is module and known[1] == sys.path:
        return known[2]
    verdict = _judge(module, name)
    _verdicts[name] = (module, list(sys.path), verdict)
    return verdict


def _is_being_imported(module: ModuleType, name: str) -> bool:
    """Tell whether the module, or a package above it, is still running its top level."""
    while True:
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            return True
        name = name.rpartition(".")[0]
        above = sys.modules.get(name) if name else None
        if above is None:
            return False
        module = above


def _judge(module: ModuleType, name: str) -> bool:
    if name in MAINS:
        return False
    spec: ModuleSpec | None = getattr(module, "__spec__", None)
    parent_name = name.rpartition(".")[0]
    if spec is None and getattr(module, "__file__", None) is None:
        # A module that C code made while its package was imported (pybind11 does): importing the
        # package makes it again.
        return bool(parent_name) and _is_attribute_of(parent_name, name, module)
    if spec is not None and spec.origin in {"built-in", "frozen"}:
        return True
    origin = _origin(module, spec)
    if origin is not None and _is_script(origin):
        return False  # importing it would run the unguarded script again
    return _is_found(module, name, origin)


def _is_found(module: ModuleType, name: str, origin: str | None) -> bool:
    """Look for `name` as a fresh worker would."""
    parent_name = name.rpartition(".")[0]
    path = None
    if parent_name:
        parent = sys.modules.get(parent_name)
        if parent is None or not is_importable(parent, parent_name):
            return False
        path = getattr(parent, "__path__", None)
    from importlib.machinery import PathFinder

    try:
        found = PathFinder.find_spec(name, path)
    except Exception:
        return True  # a path hook failed: the worker's import may do better, and says what is wrong
    if found is not None:
        return found.origin == origin or (
            found.origin is None and getattr(module, "__file__", None) is None  # namespace package
        )
    # A package's own finder (six has one) comes back with the package; else only finders that site
    # installs at every start (editable installs) exist in a worker too.
    loader = getattr(module, "__loader__", None)
    home = getattr(type(loader), "__module__", "").partition(".")[0]
    if parent_name and home == name.partition(".")[0]:
        return True
    return _is_found_from_the_start(name, origin)


def _is_found_from_the_start(name: str, origin: str | None) -> bool:
    """Look where site has installed finders (editable installs do): others a worker lacks."""
    for finder in list(sys.meta_path):
        home = getattr(finder, "__module__", type(finder).__module__)
        if not home.startswith("__editable__"):
            continue
        try:
            found = finder.find_spec(name, None)
        except Exception:
            return True
        if found is not None:
            return found.origin == origin
    return False


def _origin(module: ModuleType, spec: ModuleSpec | None) -> str | None:
    if spec is not None and spec.origin is not None:
        return spec.origin
    file: str | None = getattr(module, "__file__", None)
    return file


def _is_script(origin: str) -> bool:
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return type(file) is str and file == origin


def _is_attribute_of(parent_name: str, name: str, module: ModuleType) -> bool:
    parent = sys.modules.get(parent_name)
    return (
        parent is not None
        and getattr(parent, name.rpartition(".")[2], None) is module
        and is_importable(parent, parent_name)
    )

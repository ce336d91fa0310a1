"""What a stored result depends on besides its arguments, as far as that can be seen.

That is the code of the function and of what it calls within its own module or by value, the values
that travel with it, and versions: of Python, of parmap, of what was installed with the function.
"""

from __future__ import annotations

import dis
import functools
import platform
import sys
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any

from parmap._checkpoint.digest import contents, digest
from parmap._version import __version__
from parmap._wire.importable import goes_by_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What is seen of a function: by kind ("version", "code", "value") and name.
Facts = dict[str, dict[str, str]]

_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_OF_C = BuiltinFunctionType | MethodWrapperType
_UNKNOWN = "unknown"  # what cannot be pickled: nobody can say whether it has changed


def unbound(fn: Any) -> tuple[Any, list[object]]:
    """The function itself, and the arguments that it has been given already.

    The object of a bound method is one of them, and so is an object that is called itself: then the
    function is its class.
    """
    bound: list[object] = []
    while True:
        owner = getattr(fn, "__self__", None)
        if isinstance(fn, functools.partial):
            bound.append((fn.args, sorted(fn.keywords.items())))
            fn = fn.func
        elif isinstance(fn, MethodType):
            bound.append(owner)
            fn = fn.__func__
        elif isinstance(fn, _OF_C) and not isinstance(owner, ModuleType | None):
            return fn, [*bound, owner]
        elif not hasattr(fn, "__qualname__"):
            return type(fn), [*bound, fn]
        else:
            return fn, bound


def name_of(fn: Any) -> str:
    """What the results of a function are filed under."""
    module = getattr(fn, "__module__", None)
    return f"{module}.{fn.__qualname__}" if module else str(fn.__qualname__)


def facts_of(fn: Callable[..., Any]) -> Facts:
    """Look at a function as `unbound` gives it."""
    module = str(getattr(fn, "__module__", None))
    facts: Facts = {"version": _versions(module.partition(".")[0]), "code": {}, "value": {}}
    seen: set[int] = set()
    pending: list[Any] = [fn]
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, type):
            pending += map(_function_in, vars(each).values())
        elif isinstance(each, FunctionType):
            name = each.__qualname__
            facts["code"][name] = _told(each.__code__)
            if each.__defaults__ or each.__kwdefaults__:
                facts["value"][f"the defaults of {name}"] = _told(
                    (each.__defaults__, each.__kwdefaults__)
                )
            _look_around(each, module, facts, pending)
        elif hasattr(each, "__wrapped__"):  # functools.cache
            pending.append(each.__wrapped__)
    return facts


def differences(then: Facts, now: Facts) -> list[str]:
    """What has changed, in words."""
    told = [
        f"{name} {then['version'].get(name, '(none)')} → {version}"
        for name, version in now["version"].items()
        if then["version"].get(name) != version
    ]
    if _feature(then) != _feature(now):
        return told  # which makes other code of the same source
    for kind in ("code", "value"):
        names = sorted({*then[kind], *now[kind]})
        told += [f"the {kind} of {n}" for n in names if then[kind].get(n) != now[kind].get(n)]
    return told


def _feature(facts: Facts) -> list[str]:
    return facts["version"]["Python"].split(".")[:2]


def _look_around(fn: FunctionType, module: str, facts: Facts, pending: list[Any]) -> None:
    """Code that it refers to is looked at, too, and so are values if they travel with it."""
    travels = not goes_by_reference(fn)
    for name, value in _referred(fn):
        function = _function_in(value)
        if function is not None:
            if not goes_by_reference(function) or function.__module__ == module:
                pending.append(function)
        elif travels and not isinstance(value, ModuleType | BuiltinFunctionType):
            facts["value"][name] = _told(value)


def _referred(fn: FunctionType) -> Iterator[tuple[str, object]]:
    """The variables outside of a function that it uses, with their values."""
    yield from zip(fn.__code__.co_freevars, contents(fn.__closure__ or ()), strict=True)
    for name in sorted(set(_globals_in(fn.__code__))):
        if name in fn.__globals__:
            yield name, fn.__globals__[name]


def _globals_in(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL:
            yield instruction.argval
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _globals_in(inner)


def _function_in(value: Any) -> Any:
    """The function, class or cached function that a variable or an attribute holds; or None."""
    if isinstance(value, staticmethod | classmethod | MethodType):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    if isinstance(value, FunctionType | type) or isinstance(
        getattr(value, "__wrapped__", None), FunctionType
    ):
        return value
    return None


def _told(value: object) -> str:
    try:
        return digest(value).hex()
    except Exception:
        return _UNKNOWN


def _versions(top_level: str) -> dict[str, str]:
    versions = {"Python": platform.python_version(), "parmap": __version__}
    if top_level not in sys.stdlib_module_names | {"__main__", "None", "parmap"}:
        versions |= _version_installed(top_level)
    return versions


@functools.cache
def _version_installed(top_level: str) -> dict[str, str]:
    """The distribution that has brought a package, and its version, if it was installed at all."""
    from importlib import metadata

    for _ in range(2):
        try:
            return {top_level: metadata.version(top_level)}
        except (metadata.PackageNotFoundError, ValueError):
            # Not of the same name: then all are searched, which takes a while.
            (top_level,) = metadata.packages_distributions().get(top_level, [""])[:1]
    return {}

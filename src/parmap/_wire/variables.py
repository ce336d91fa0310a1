"""Context variables on their way: found by name where a module has them, else rebuilt once per call."""

from __future__ import annotations

import sys
from _contextvars import Context, ContextVar, copy_context

from parmap._wire.importable import is_importable
from parmap._wire.scopes import PROCESS, adopt_variable

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from typing import Any

    from parmap._wire.scopes import Scope

    Place = tuple[str, str]  # the name of a module, and the name in it
    # Where a worker may find it; or the variable itself, which goes by value.  Then the value.
    Carried = tuple[list[Place], None, object] | tuple[None, ContextVar[Any], object]

_OURS = "parmap"

# Where each variable was found, and among how many modules it was looked for.
_places: dict[ContextVar[Any], list[Place]] = {}
_modules_seen = -1


def carried() -> list[Carried]:
    """The variables that are set in this context and that modules have, with their values.

    Almost always there is none, and then this costs next to nothing.
    """
    context = copy_context()
    if not context:
        return []
    found: list[Carried] = []
    for variable, value in context.items():
        places = _places_of(variable)
        importable = _importable(places)
        if importable:
            found.append((importable, None, value))
        elif places:
            found.append((None, variable, value))
    return found


def reduce_variable(variable: ContextVar[Any], scope: Scope) -> Any:
    """What a variable is pickled as: its name, or what makes one like it, the same for a whole call."""
    importable = _importable(_places_of(variable))
    if importable:
        return variable_at, (importable,)
    known = [key for key, value in scope.named.items() if value is variable]
    # The scope keeps it, so nothing else gets its id meanwhile.  Where it came from, it is known.
    key = known[0] if known else (_OURS, f"{PROCESS.hex()}:{id(variable)}")
    scope.named[key] = variable
    try:
        return adopt_variable, (*key, variable.name, Context().run(variable.get))
    except LookupError:  # it has no default
        return adopt_variable, (*key, variable.name)


def variable_at(places: list[Place]) -> Any:
    """The variable, from one of these places: a module that is there already, if any is.

    Several modules may have it, and not each can be imported wherever this runs.
    """
    refusal: BaseException | None = None
    for module, name in sorted(places, key=lambda place: place[0] not in sys.modules):
        try:
            __import__(module)
            return getattr(sys.modules[module], name)
        except BaseException as error:  # whatever the module does when it is imported
            refusal = error
    assert refusal is not None
    raise refusal


def _importable(places: list[Place]) -> list[Place]:
    return [
        (name, attribute)
        for name, attribute in places
        if (module := sys.modules.get(name)) is not None and is_importable(module, name)
    ]


def _places_of(variable: ContextVar[Any]) -> list[Place]:
    places = _places.get(variable)
    if places is None or not _are_right(variable, places):
        places = _search().setdefault(variable, [])
    return places


def _are_right(variable: ContextVar[Any], places: list[Place]) -> bool:
    if not places:
        return len(sys.modules) == _modules_seen
    return all(getattr(sys.modules.get(module), name, None) is variable for module, name in places)


def _search() -> dict[ContextVar[Any], list[Place]]:
    """Look through all modules, once for all variables: a millisecond or two.

    Whoever looks meanwhile, or is interrupted, finds what was known before: it is replaced as a whole.
    """
    global _modules_seen, _places
    modules = list(sys.modules.items())
    found: dict[ContextVar[Any], list[Place]] = {}
    for module_name, module in modules:
        if module_name.partition(".")[0] == _OURS:
            continue
        namespace = getattr(module, "__dict__", None)
        if isinstance(namespace, dict):
            for name, value in list(namespace.items()):
                if type(value) is ContextVar:
                    found.setdefault(value, []).append((module_name, name))
    _places, _modules_seen = found, len(modules)
    return found

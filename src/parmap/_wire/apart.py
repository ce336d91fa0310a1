"""An object within a pickle that hurts nothing else: it arrives, or None does."""

from __future__ import annotations

from _pickle import loads

from parmap._wire.pickling import dump_inline

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from typing import Any

    from parmap._wire.scopes import Scope


class Apart:
    """Pickled by itself.  Not to be kept: it refers to the side of the call that it is sent from."""

    __slots__ = ("_obj", "_scope")

    def __init__(self, obj: object, scope: Scope) -> None:
        self._obj = obj
        self._scope = scope

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            data = dump_inline(self._obj, self._scope)
        except Exception:
            data = b""
        return _arrive, (data,)


def _arrive(data: bytes) -> Any:
    try:
        return loads(data) if data else None
    except Exception:
        return None

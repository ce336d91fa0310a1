"""Plant a fault: change one line of a function's source, for the time of a test."""

from __future__ import annotations

import inspect
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


def plant(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, right: str, wrong: str) -> None:
    """Replace `right`, which must stand exactly once in the source of `owner.name`, by `wrong`.

    `owner` is a class, or the module that looks the function up.
    """
    found = inspect.getattr_static(owner, name)
    function = found.fget if isinstance(found, property) else found
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1, f"{right!r} stands {source.count(right)} times in {name}"
    scope: dict[str, Any] = {}
    exec(source.replace(right, wrong), function.__globals__, scope)
    monkeypatch.setattr(owner, name, scope[name])

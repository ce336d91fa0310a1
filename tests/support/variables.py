"""Context variables of a module that workers can import (`from support import variables`)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

request: ContextVar[Any] = ContextVar("request", default="nobody")
second: ContextVar[Any] = ContextVar("second")


def read(_: object = None) -> Any:
    return request.get()


def read_both(_: object = None) -> tuple[Any, Any]:
    return request.get(), second.get("unset")


def read_and_write(x: object) -> Any:
    before = request.get()
    request.set(f"written by {x}")
    return before

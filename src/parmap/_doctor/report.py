"""``python -m parmap doctor``: what parmap sees of the machine, what things cost, whether all works."""

from __future__ import annotations

import faulthandler
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from parmap._doctor.advice import advise
from parmap._doctor.machine import NEEDED, SHM, facts
from parmap._doctor.selfcheck import measure_costs, run_checks
from parmap.observe._units import seconds, size

if TYPE_CHECKING:
    from collections.abc import Iterator

# After this long something hangs that must not: all stacks, and exit code 1.
_SECONDS_FOR_ALL = 400.0
_BYTES = {"total", "available", "cgroup limit", f"{SHM} size", f"{SHM} free", "memory"}


def doctor(*, as_json: bool = False) -> int:
    """Look, measure, check, and print; returns the exit code: 0, or 1 if something is wrong.

    Takes a few seconds, with processes of its own, and leaves nothing behind.

    Args:
        as_json: print one JSON object: ``facts``, ``costs`` (seconds), ``checks``, ``advice``, ``ok``.
    """
    if sys.stderr is not None:
        faulthandler.dump_traceback_later(_SECONDS_FOR_ALL, exit=True)
    try:
        report = _examine()
    finally:
        faulthandler.cancel_dump_traceback_later()
    lines = [json.dumps(report, indent=2)] if as_json else _text(report)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if report["ok"] else 1


def _examine() -> dict[str, Any]:
    seen, costs, checks = facts(), measure_costs(), run_checks()
    advice = advise(seen, checks, NEEDED)
    return {
        "ok": all(each.harmless for each in advice) and all(each.error is None for each in checks),
        "facts": seen,
        "costs": costs,
        "checks": [asdict(check) for check in checks],
        "advice": [asdict(each) for each in advice],
    }


def _text(report: dict[str, Any]) -> Iterator[str]:
    for section, values in report["facts"].items():
        if values:
            yield section
        for name, value in values.items():
            yield f"  {name:<28}{_shown(name, value)}"
    yield "measured now"
    for name, cost in report["costs"].items():
        yield f"  {name:<28}{'not measured' if cost is None else seconds(cost)}"
    yield "self-check"
    for check in report["checks"]:
        error = check["error"]
        yield f"  {check['name']:<28}{'works' if error is None else f'FAILS: {_head(error)}'}"
    yield ""
    for advice in report["advice"]:
        word = "note" if advice["harmless"] else "wrong"
        yield f"{word}: {_head(advice['what'])}"
        yield f"  cure: {advice['cure']}"
    yield "all good" if report["ok"] else "not all is good: see above"


def _head(text: str) -> str:
    return text.partition("\n")[0]


def _shown(name: str, value: object) -> str:
    if value is None:
        return "unlimited" if name in {"open files", "processes", "memory", "cgroup limit"} else "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return size(value) if name in _BYTES and isinstance(value, int) else str(value)

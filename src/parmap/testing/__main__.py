"""``python -m parmap.testing replay FILE``: what a trace (`PARMAP_TRACE`) says, told to the core again.

Each core in the file gets its events in their order; its books are checked after each.  Printed are
the commands, and at the end what is still open: what a program that hangs is waiting for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from parmap._core.trace import WatchedScheduler, from_plain
from parmap.errors import InternalError

USAGE = "usage: python -m parmap.testing replay FILE"


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit code: 1 if the core is found in the wrong."""
    if len(arguments) != 2 or arguments[0] != "replay":
        sys.stderr.write(f"{USAGE}\n")
        return 2
    cores: dict[str, WatchedScheduler] = {}
    with Path(arguments[1]).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                _replay(cores, json.loads(line))
            except InternalError as error:
                sys.stdout.write(f"line {number}: {error}\n")
                return 1
    for name, core in cores.items():
        state = "over" if core.over else f"next deadline {core.next_deadline()}"
        sys.stdout.write(
            f"{name}: {len(core.calls)} calls open, {len(core.workers)} workers, {state}\n"
        )
        for book in core.calls.values():
            sys.stdout.write(
                f"  call {book.id}: {book.waiting} items wait, {len(book.resting)} rest,"
                f" workers {sorted(book.workers)}, input {'ended' if book.input_ended else 'open'}\n"
            )
    return 0


def _replay(cores: dict[str, WatchedScheduler], line: dict[str, Any]) -> None:
    name, now = line.pop("core"), line.pop("now")
    if "options" in line:
        cores[name] = WatchedScheduler(checked=True, **line["options"])
        sys.stdout.write(f"{name}: {line['options']}\n")
        return
    event = from_plain(line)
    sys.stdout.write(f"{now:.6f} {name} {event}\n")
    for command in cores[name].handle(event, now=now):
        sys.stdout.write(f"    {command}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

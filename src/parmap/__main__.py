"""``python -m parmap``: the command line."""

from __future__ import annotations

import argparse
import sys

from parmap._version import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m parmap",
        description="Parallel calls that behave like the loop they replace.",
    )
    parser.add_argument("--version", action="version", version=f"parmap {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    doctor = commands.add_parser(
        "doctor",
        help="what parmap sees of this machine, what things cost, and whether all works",
        description="Looks at the machine, measures, runs a self-check, and ends in 'all good' or in"
        " what is wrong and its cure.  Exit code 0 or 1.  Takes a few seconds.",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return 0
    from parmap._doctor.report import doctor as examine

    return examine(as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())

"""parmap beside its peers, interleaved in one run; `benchmarks/README.md` explains."""

from __future__ import annotations

import argparse
import json
import pkgutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __package__ in {None, ""}:  # run as a file: `benchmarks` is a package of the folder above
    sys.path[0] = str(HERE.parent)

from benchmarks import scenarios  # noqa: E402
from benchmarks.harness import goals  # noqa: E402
from benchmarks.harness.conduct import Settings, heat  # noqa: E402
from benchmarks.harness.host import load  # noqa: E402
from benchmarks.harness.peers import PEERS  # noqa: E402
from benchmarks.harness.report import Report, table, verdicts_table  # noqa: E402

LATEST = HERE / "results" / "latest.local.json"
OURS = {"run", "compare", "plots"}
MODULE_BOUND = 1800.0  # seconds for a whole benchmark module


def scenario_names() -> list[str]:
    return sorted(info.name for info in pkgutil.iter_modules(scenarios.__path__))


def about() -> dict[str, str]:
    """What each scenario measures, in its own words."""
    texts = {
        name: sys.modules[load(name).run.__module__].__doc__ or "" for name in scenario_names()
    }
    return {name: " ".join(text.split()) for name, text in texts.items()}


def chosen(wanted: list[str], *, quick: bool) -> list[tuple[str, str]]:
    """Scenario and variant of all that is asked for: `tiny` is all of its variants, `tiny/list` is
    one."""
    heats = []
    for name in wanted or scenario_names():
        scenario, _, variant = name.partition("/")
        if scenario not in scenario_names():
            raise ValueError(f"no scenario {scenario!r}; there are: {', '.join(scenario_names())}")
        found = load(scenario)
        known = found.variants
        if variant and variant not in known:
            raise ValueError(f"no variant {variant!r} of {scenario}; there are: {', '.join(known)}")
        if variant:
            known = (variant,)
        elif quick and found.quick_variants is not None:
            known = found.quick_variants
        heats += [(scenario, each) for each in known]
    return heats


def run_scenarios(
    report: Report, heats: list[tuple[str, str]], settings: Settings, path: Path
) -> None:
    for name, variant in heats:
        began = time.monotonic()
        title = f"{name}/{variant}" if variant else name
        report.add_heat(title, heat(name, variant, settings), settings.rounds)
        print(f"\n{table(title, report.results[title], report.notes[title])}")
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
        report.write(path)  # an interrupted run keeps what it has


def modules() -> list[str]:
    """The other benchmarks of this folder, each a program that knows `--json` and `--rounds`."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in OURS)


def run_module(report: Report, name: str, rounds: int) -> None:
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", "--rounds", str(rounds)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=MODULE_BOUND
        )
        found = json.loads(done.stdout)
        report.add_module(name, found)
    except (subprocess.SubprocessError, ValueError, AttributeError) as why:
        said = str(getattr(why, "stderr", None) or why).strip().splitlines()
        report.notes[name] = {name: f"failed: {said[-1] if said else type(why).__name__}"}
        print(f"\n{name}  {report.notes[name][name]}", flush=True)
        return
    for scenario, figures in found.items():
        print(f"\n{table(f'{name}/{scenario}', figures, {})}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO[/VARIANT]", help="default: all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, 2 rounds: does it work?")
    parser.add_argument("--rounds", type=int, default=None, help="default 7")
    parser.add_argument(
        "--budget", type=float, default=30.0, help="seconds per contestant; default 30"
    )
    parser.add_argument(
        "--json", type=Path, default=LATEST, metavar="FILE", help="where results go"
    )
    parser.add_argument("--peers", help="only these, with commas between: parmap,Pool.map,fork")
    parser.add_argument("--all", action="store_true", help="the other benchmark modules, too")
    parser.add_argument("--list", action="store_true", help="print the names of the scenarios")
    options = parser.parse_args(arguments)
    if options.list:
        for name, text in about().items():
            print(f"{name:10} {text}")
        return 0
    # Ended politely it leaves no contestant behind: each lives in a session of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rounds = options.rounds or (2 if options.quick else 7)
    peers = tuple(options.peers.split(",")) if options.peers else ()
    if unknown_peers := set(peers) - set(PEERS):
        parser.error(f"no peer {', '.join(sorted(unknown_peers))}; there are: {', '.join(PEERS)}")
    settings = Settings(rounds, options.quick, options.budget, peers)
    try:
        heats = chosen(options.scenarios, quick=options.quick)
    except ValueError as unknown:
        parser.error(str(unknown))
    report = Report()
    report.content["settings"] = {
        "rounds": rounds,
        "quick": options.quick,
        "budget": options.budget,
    }
    keep_previous(options.json)
    run_scenarios(report, heats, settings, options.json)
    if options.all:
        for name in modules():
            run_module(report, name, rounds)
    verdicts = list(goals.judge(report.results))
    if not options.all:
        verdicts = [verdict for verdict in verdicts if verdict.value is not None]
    print(f"\n{verdicts_table(verdicts)}")
    if options.quick:
        print("(--quick: the sizes are far too small to judge by)")
    report.write(options.json)
    print(f"\nwritten to {options.json}")
    return 0


def keep_previous(path: Path) -> None:
    """`make bench-compare` compares the last two runs."""
    if path == LATEST and path.exists():
        path.replace(path.with_name("previous.local.json"))


if __name__ == "__main__":
    sys.exit(main())

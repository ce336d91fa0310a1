"""Programs of a user, run as users run them, with what they printed and left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import parmap
from support.gates import alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = str(Path(parmap.__file__).parent.parent)
HERE = str(Path(__file__).parent.parent)
# A script that hangs shows the stacks of its threads and ends, before the test gives it up.
LIMIT = 20
WATCHDOG = f"import faulthandler as _f; _f.dump_traceback_later({LIMIT}, exit=True)\n"


def program(source: str) -> str:
    """The source of a script, dedented, with a watchdog in front."""
    return WATCHDOG + textwrap.dedent(source)


def environment(**changes: str) -> dict[str, str]:
    """Nothing of the test run's own settings but the way to parmap and to these helpers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    kept["PYTHONPATH"] = os.pathsep.join([SOURCES, HERE])
    kept.pop("PYTHONFAULTHANDLER", None)
    return {**kept, **changes}


def run_python(
    arguments: list[str], *, folder: Path, stdin: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a Python with these arguments to its end."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, input=stdin, env=environment(**variables),
        capture_output=True, text=True, timeout=LIMIT + 10, check=False,
        stdin=None if stdin is not None else subprocess.DEVNULL,
    )  # fmt: skip


def run_script(source: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it as `python script.py` in this folder."""
    path = folder / "script.py"
    path.write_text(program(source))
    return run_python([str(path)], folder=folder, **variables)


def output_of(source: str, folder: Path, **variables: str) -> str:
    """What the script printed; it must have ended well and said nothing on stderr."""
    done = run_script(source, folder, **variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


class Running:
    """A script that runs, in a process group (and session) of its own, as in a terminal."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to everything in the foreground group."""
        os.killpg(self.pid, signal.SIGINT)

    def finish(self, timeout: float = LIMIT + 10) -> tuple[int, str, str]:
        """Wait for its end: exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err

    def children(self) -> list[int]:
        """The pids of all its living descendants."""
        return descendants(self.pid)


def descendants(pid: int) -> list[int]:
    """All living descendants of a process."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text(errors="replace")
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    found, pending = [], [pid]
    while pending:
        for child in children.get(pending.pop(), ()):
            pending.append(child)
            found.append(child)
    return [child for child in found if alive(child)]


def session_members(session: int) -> list[int]:
    """The living processes of a session: also those whose parent is dead."""
    members = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and alive(int(entry)):
            try:
                if os.getsid(int(entry)) == session:
                    members.append(int(entry))
            except ProcessLookupError:
                continue
    return members


@contextmanager
def running(source: str, folder: Path, **variables: str) -> Iterator[Running]:
    """Start a script; at the end of the block nothing of its session may run any more."""
    path = folder / "script.py"
    path.write_text(program(source))
    process = subprocess.Popen(
        [sys.executable, str(path)], cwd=folder, env=environment(**variables), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield Running(process)
        wait_until(
            lambda: not session_members(process.pid), "the end of what the script started", 5
        )
    finally:
        for member in session_members(process.pid):
            os.kill(member, signal.SIGKILL)
        process.kill()
        process.communicate()


@contextmanager
def only_with_free_descriptors(count: int) -> Iterator[None]:
    """Leave so many, and no more, to whoever opens a file; below this process's limit."""
    held: list[int] = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for fd in held[:count]:
            os.close(fd)
    try:
        yield
    finally:
        for fd in held[count:]:
            os.close(fd)

"""What the workers of groups run (`from support.group_tasks import who_am_i`)."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.gates import Diary, Gate


def add_to_rank(rank: int, base: int, *, factor: int = 1) -> int:
    return factor * (rank + base)


def who_am_i() -> dict[str, Any]:
    """Everything that can be asked about a process, from inside."""
    me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(processName)s %(process)d"))
    logging.getLogger("somebody").addHandler(handler)
    logging.getLogger("somebody").error("x")
    return {
        "name": me.name,
        "pid": me.pid,
        "alive": me.is_alive(),
        "os pid": os.getpid(),
        "comm": Path("/proc/self/comm").read_bytes().decode(errors="replace").strip(),
        "logged": stream.getvalue().strip(),
        "parent": (parent.name, parent.pid, parent.is_alive()),
        "main": multiprocessing.current_process() is not None
        and threading.current_thread() is threading.main_thread(),
    }


def leave_with(how: str, code: Any) -> None:
    if how == "sys.exit":
        raise SystemExit(code)
    if how == "os._exit":
        os._exit(code)
    if how == "signal":
        os.kill(os.getpid(), code)
        time.sleep(60)
    raise code


def hang_and_tidy_up(gate: Gate, diary: Diary) -> None:
    try:
        gate.open()
        time.sleep(600)
    finally:
        diary.write("tidied up")


class HangsInItsFinaliser:
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __del__(self) -> None:
        self.gate.open()
        time.sleep(600)


def hang_in_a_finaliser(gate: Gate, diary: Diary) -> None:
    try:
        HangsInItsFinaliser(gate)
        time.sleep(600)
    finally:
        diary.write("tidied up")


def hang_deaf(gate: Gate) -> None:
    """Ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gate.open()
    while True:
        time.sleep(600)


def hang_and_stumble(gate: Gate) -> None:
    """Raise in the cleanup."""
    try:
        gate.open()
        time.sleep(600)
    finally:
        raise KeyError("stumbled")


def return_when_told(gate: Gate) -> str:
    try:
        gate.open()
        time.sleep(600)
    except SystemExit:
        return "told"
    return "slept"


def fail_behind(gate: Gate, text: str = "failed") -> None:
    gate.wait()
    raise ValueError(text)


def wait_and_return(gate: Gate, value: object = None) -> object:
    gate.wait()
    return value


def meet_and_fail(meeting: Diary, count: int) -> None:
    """Fail all at the same time."""
    meeting.meet(count)
    raise ValueError(os.getpid())


def die_first(times: int, diary: Diary, how: str = "raise") -> str:
    """Fail the first `times` times, then return."""
    diary.write(os.getpid())
    if len(diary.lines()) <= times:
        if how == "raise":
            raise ValueError("not yet")
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return f"start {len(diary.lines())}"


class OddError(Exception):
    """Cannot be rebuilt by pickle: two arguments, one of them kept."""

    def __init__(self, code: int, lock: object) -> None:
        super().__init__(code)
        self.code = code
        self.lock = lock


def raise_odd() -> None:
    raise OddError(7, threading.Lock())

"""Processes told apart by pid and time of start; in doubt they live."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from parmap._memory import identity as identities
from parmap._memory.identity import identity, is_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the pid tells")


def test_this_process_lives_and_nobody_and_the_dead_do_not():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    its = identities._identity_of(child.pid)
    assert is_alive(identity())
    assert is_alive(its)

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried
    assert not is_alive(its)
    child.communicate()
    assert not is_alive(its)
    assert not is_alive(0)


def test_who_has_the_pid_of_a_dead_one_is_somebody_else():
    assert not is_alive(identity() + (1 << identities._PID_BITS))


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EMFILE, "ulimit -n"), (errno.ENFILE, "this machine"), (errno.ENOMEM, "allocate")],
)
def test_without_a_free_descriptor_nobody_is_taken_for_dead(monkeypatch, number, words):
    """Whose lock would else be taken over while he is in it."""
    me = identity()

    def no_more(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", no_more)
    alive = is_alive(me)
    identities._forget_identity()
    with pytest.raises(OSError, match=words):
        identity()
    monkeypatch.undo()

    assert alive
    assert identity() == me

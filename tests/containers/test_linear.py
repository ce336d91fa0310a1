"""Histories of real processes have an order in which a plain dict or list gives the same results."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from parmap import SharedDict, SharedList
from parmap._memory import log
from support.channel_peers import child
from support.container_tools import let_run
from support.linearizable import Recorder, explain, recorded

PROCESSES, CALLS = 3, 40


@pytest.fixture(autouse=True)
def _short_generations(monkeypatch):
    monkeypatch.setattr(log, "_LEAST", 512)


def dict_model(state, asked):
    """The state is a tuple of pairs, in the order of their insertion."""
    d, (name, *arguments) = dict(state), asked
    if name == "add":
        d[arguments[0]] = result = d.get(arguments[0], 0) + arguments[1]
    elif name == "copy":
        result = list(d.items())
    else:
        result = getattr(d, name)(*arguments)
    return result, tuple(d.items())


def list_model(state, asked):
    seq, (name, *arguments) = list(state), asked
    result = list(seq) if name == "copy" else getattr(seq, name)(*arguments)
    return result, tuple(seq)


def dict_calls(d, rng, me):
    def add(key, n):
        return d.update_item(key, lambda old: old + n, 0)

    def copy():
        return list(d.items())

    key = rng.choice("ab")
    return rng.choice([
        (d.__setitem__, key, me), (d.get, key), (d.pop, key, -1), (add, key, rng.randrange(1, 9)),
        (d.setdefault, key, me), (copy,), (d.__contains__, key), (d.__len__,), (d.clear,),
    ])  # fmt: skip


def list_calls(seq, rng, me):
    number = me * 1000 + rng.randrange(100)
    return rng.choice([
        (seq.append, number), (seq.insert, 1, number), (seq.__len__,), (seq.copy,), (seq.reverse,),
        (seq.extend, [number, number]), (seq.clear,), (seq.sort,),
    ])  # fmt: skip


SHAPES = {
    "dict": (SharedDict, dict_calls, dict_model),
    "list": (SharedList, list_calls, list_model),
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("kill", [False, True], ids=["all live", "some are killed"])
def test_what_processes_saw_happened_in_some_order(kind, kill, rng, tmp_path):
    make, calls, model = SHAPES[kind]
    container = make()

    def body(me, number, seed):
        import random

        mine, recorder = random.Random(seed), Recorder(tmp_path, number)
        me.say()
        me.hear()
        for _ in range(CALLS):
            method, *arguments = calls(container, mine, number)
            recorder.call(method, *arguments)

    with ExitStack() as stack:
        processes = [
            stack.enter_context(child(body, number, rng.random())) for number in range(PROCESSES)
        ]
        for process in processes:
            process.hear()
        for process in processes:
            process.say()
        if kill:
            let_run(rng.uniform(0.0005, 0.005))
            processes.pop().kill()
        for process in processes:
            process.end_well()
    history = recorded(tmp_path)
    assert len(history) >= CALLS * len(processes)
    assert explain(history, (), model) is not None, history

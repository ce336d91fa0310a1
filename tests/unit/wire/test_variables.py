"""Context variables travel by their name, or as one new variable per call."""

from __future__ import annotations

import sys
import types
from contextvars import ContextVar, copy_context

import pytest

from parmap._wire.pickling import Codec
from parmap._wire.variables import carried, reduce_variable, variable_at
from support import variables as home


@pytest.fixture
def named():
    """The variables of an importable module, by name."""
    return {k: v for k, v in vars(home).items() if type(v) is ContextVar}


def test_a_context_in_which_nothing_is_set_carries_nothing():
    assert copy_context().__class__().run(carried) == []


def test_a_variable_of_an_importable_module_is_carried_and_pickled_by_its_name(named):
    variable = next(iter(named.values()))

    def inside():
        variable.set("here")
        return carried()

    (places,) = [places for places, _, value in copy_context().run(inside) if value == "here"]
    assert variable_at(places) is variable
    make, place = reduce_variable(variable, Codec("to worker").scope)
    assert make is variable_at
    assert variable_at(*place) is variable


def test_a_variable_of_a_module_that_no_worker_can_import_is_carried_itself(monkeypatch):
    """A notebook's, say: it goes by value."""
    module = types.ModuleType("made_up_here")
    vars(module)["mine"] = ContextVar("mine")
    monkeypatch.setitem(sys.modules, "made_up_here", module)

    def inside():
        module.mine.set(5)
        return carried()

    assert (None, module.mine, 5) in copy_context().run(inside)


def test_a_variable_that_moved_is_found_where_it_is_now(monkeypatch):
    """What was found before is looked at again."""
    module = types.ModuleType("made_up_here")
    vars(module)["mine"] = ContextVar("mine")
    monkeypatch.setitem(sys.modules, "made_up_here", module)

    def places():
        module.mine.set(5)
        return [each for each in carried() if each[1] is module.mine]

    assert len(copy_context().run(places)) == 1
    mine = module.mine
    del module.mine

    def nowhere():
        mine.set(6)
        return [each for each in carried() if each[1] is mine]

    assert copy_context().run(nowhere) == []


def test_a_variable_that_several_modules_have_comes_from_one_that_can_be_imported():
    """Not each of them can be, in a worker; and what is there already need not be."""
    assert variable_at([("not_to_be_found", "x"), (home.__name__, "request")]) is home.request
    with pytest.raises(ModuleNotFoundError):
        variable_at([("not_to_be_found", "x")])


@pytest.mark.parametrize("default", [[], [3]], ids=["no default", "default"])
def test_a_local_variable_arrives_once_per_call_and_comes_back_as_itself(default):
    options = {"default": default[0]} if default else {}
    variable: ContextVar[int] = ContextVar("local", **options)
    parent, worker = Codec("to worker"), Codec("to caller")

    there = worker.loads(parent.dumps([variable, variable]))
    assert there[0] is there[1] is not variable
    assert there[0].name == "local"
    found = copy_context().run(there[0].get, *([] if default else ["none"]))
    assert found == (default or ["none"])[0]

    assert parent.loads(worker.dumps(there[0])) is variable


def test_a_module_that_a_program_has_forbidden_does_not_hide_the_variables_of_others(monkeypatch):
    """Python's way to forbid one is to put None in its place."""
    home_of_it = types.ModuleType("made_up_here")
    vars(home_of_it)["mine"] = ContextVar("mine")
    monkeypatch.setitem(sys.modules, "forbidden_here", None)
    monkeypatch.setitem(sys.modules, "made_up_here", home_of_it)

    def inside():
        home_of_it.mine.set(5)
        return carried()

    assert (None, home_of_it.mine, 5) in copy_context().run(inside)

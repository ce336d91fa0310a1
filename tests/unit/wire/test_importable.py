"""Would a worker find it?  Modules of every origin, judged without asking any worker."""

from __future__ import annotations

import importlib
import sys
import types
from importlib.machinery import ModuleSpec

import pytest

from parmap._wire import importable
from parmap._wire.importable import goes_by_reference, is_importable, is_named


@pytest.fixture
def made(monkeypatch):
    """Puts a module into `sys.modules` for the test."""

    def make(name, **attributes):
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    monkeypatch.setattr(importable, "_verdicts", {})
    monkeypatch.setattr(importable, "_not_there", set())
    return make


def test_an_object_whose_class_answers_no_question_is_not_found_by_name():
    class Silent(type):
        def __getattribute__(cls, name):
            raise RuntimeError(name)

    class Mute(metaclass=Silent):
        pass

    assert not goes_by_reference(Mute)


def test_a_name_that_is_no_text_or_leads_elsewhere_finds_nothing():
    assert not is_named(len, None, "len")
    assert not is_named(len, "builtins", "no.such")
    assert not is_named(len, "builtins", "max")
    assert is_named(len, "builtins", "len")


def test_a_part_of_a_package_that_nobody_has_imported_is_imported_as_pickle_would(monkeypatch):
    monkeypatch.delitem(sys.modules, "xml.sax.saxutils", raising=False)
    import xml.sax

    monkeypatch.delitem(sys.modules, "xml.sax.saxutils", raising=False)
    before = importlib.import_module("xml.sax")
    assert before is xml.sax
    assert not is_named(len, "xml.sax.saxutils", "escape")
    assert "xml.sax.saxutils" in sys.modules


def test_a_part_that_does_not_exist_is_looked_for_once(made, monkeypatch):
    asked = []

    def fail(name):
        asked.append(name)
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    for _ in range(2):
        assert not is_named(len, "json.no_such_part", "x")
    assert asked == ["json.no_such_part"]


def test_a_module_that_runs_its_top_level_is_not_importable_yet(made):
    module = made("half_made", __spec__=ModuleSpec("half_made", None))
    vars(module)["__spec__"]._initializing = True
    inner = made("half_made.part")

    assert not is_importable(module, "half_made")
    assert not is_importable(inner, "half_made.part")


def test_a_module_of_c_code_comes_back_with_its_package(made):
    """pybind11 makes modules while their package is imported."""
    import json

    inner = made("json.made_by_c", __spec__=None)
    assert not is_importable(inner, "json.made_by_c")
    importable._verdicts.clear()
    vars(json)["made_by_c"] = inner
    try:
        assert is_importable(inner, "json.made_by_c")
    finally:
        del vars(json)["made_by_c"]
    assert not is_importable(made("nobodys", __spec__=None), "nobodys")


def test_the_script_itself_under_another_name_would_run_again(made, monkeypatch):
    main = "/somewhere/my_script.py"
    monkeypatch.setattr(sys.modules["__main__"], "__file__", main, raising=False)
    module = made("my_script", __file__=main, __spec__=ModuleSpec("my_script", None, origin=main))
    assert not is_importable(module, "my_script")
    assert not is_importable(module, "__main__")


def test_a_module_from_elsewhere_than_its_name_leads_to_is_not_the_one(made):
    other = made("csv", __file__="/elsewhere/csv.py", __spec__=None)
    assert not is_importable(other, "csv")


def test_a_part_of_what_is_not_there_is_not_found(made):
    module = made("gone_away.part", __file__="/x.py", __spec__=None)
    assert not is_importable(module, "gone_away.part")


def test_a_path_hook_that_fails_leaves_the_verdict_to_the_workers_import(made, monkeypatch):
    from importlib.machinery import PathFinder

    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(PathFinder, "find_spec", fail)
    assert is_importable(made("anything", __file__="/x.py", __spec__=None), "anything")


class EditableFinder:
    def __init__(self, answer):
        self.answer = answer

    def find_spec(self, name, path=None, target=None):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("home", "answer", "found"),
    [
        ("__editable___mine_finder", ModuleSpec("mine", None, origin="/mine.py"), True),
        ("__editable___mine_finder", ModuleSpec("mine", None, origin="/other.py"), False),
        ("__editable___mine_finder", RuntimeError(), True),
        ("__editable___mine_finder", None, False),
        ("somebodys_plugin", ModuleSpec("mine", None, origin="/mine.py"), False),
    ],
)
def test_only_finders_that_site_installs_are_there_in_a_worker(
    home, answer, found, made, monkeypatch
):
    finder = EditableFinder(answer)
    finder.__module__ = home
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    module = made("mine", __file__="/mine.py", __spec__=None)

    assert is_importable(module, "mine") is found


def test_a_packages_own_finder_comes_back_with_the_package(made):
    class Loader:
        __module__ = "json.inner"

    module = made("json.virtual", __file__="/x.py", __spec__=None, __loader__=Loader())
    assert is_importable(module, "json.virtual")

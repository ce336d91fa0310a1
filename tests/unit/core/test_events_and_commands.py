"""What goes in and out of the core: frozen values, compared by what they say."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from parmap._core import commands, events

MESSAGES = [*get_args(events.Event), *get_args(commands.Command)]


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_a_message_is_frozen_slotted_and_documented(kind):
    """Nobody changes what has happened; and the shell's author reads what to do."""
    assert kind.__dataclass_params__.frozen
    assert "__slots__" in vars(kind)
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")


@pytest.mark.parametrize(
    ("module", "union"), [(events, events.Event), (commands, commands.Command)]
)
def test_every_message_is_in_the_union(module, union):
    """Else the checker could not prove that every case is matched."""
    made = {
        kind
        for kind in vars(module).values()
        if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
    }
    assert made == set(get_args(union))


def test_the_marks_of_a_control_page_are_no_index():
    """Indexes start at 0."""
    assert events.IDLE < 0
    assert events.UNKNOWN < 0
    assert events.IDLE != events.UNKNOWN

"""No module above 350 lines; most are much shorter."""

from __future__ import annotations

from house._source import modules

LONGEST = 350


def test_every_module_can_be_read_in_one_go() -> None:
    """One that cannot wants to be split along its reasons to change."""
    lengths = {module.name: len(module.text.splitlines()) for module in modules()}

    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST}

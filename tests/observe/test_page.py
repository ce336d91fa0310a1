"""The timeline page in a real headless browser: it loads, it answers, it has nothing to complain of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import parmap
from parmap import parallel_map
from support import faulty
from support.browser import CHROMIUM, browser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.browser import Page

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on this machine")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a program with a giant item, whose bar covers most of its lane."""
    path = tmp_path_factory.mktemp("page") / "profile.html"
    faulty.warm_up()
    with parmap.profile() as profile:
        faulty.giant_item()
        parallel_map(_Hostile("</script><b>"), range(3), max_workers=0)
    profile.save(path)
    return path


class _Hostile:
    """A name that would end the page's script, if it were not escaped."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name

    def __call__(self, number: int) -> int:
        return number


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


TIP = "document.getElementById('tip')"
VIEW = "document.getElementById('view')"
BOX = f"(b => [b.left, b.top, b.width, b.height])({VIEW}.getBoundingClientRect())"


def test_the_page_asks_for_nothing_else(saved: Path) -> None:
    text = saved.read_text()

    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_it_loads_and_says_what_it_knows(page: Page, saved: Path, width: int, dark: bool) -> None:
    page.open(saved, width=width, dark=dark)

    shown = page.run("document.body.innerText")
    assert "Item 37 took" in shown
    assert "running your code" in shown
    assert page.run("document.documentElement.scrollWidth") <= width, "nothing is cut off"
    assert page.troubles == []


@needs_browser
@pytest.mark.slow
def test_hovering_shows_an_item(page: Page, saved: Path) -> None:
    page.open(saved)
    left, top, width, height = page.run(BOX)

    assert page.run(f"{TIP}.hidden") is True
    shown = set()
    for y in range(int(top) + 30, int(top + height), 10):
        page.move_to(left + width * 0.6, y)
        if not page.run(f"{TIP}.hidden"):
            shown.add(page.run(f"{TIP}.innerText"))

    assert any(
        re.search(r"your code: \d+(\.\d+)? m?s\b.*\n.*nap: item 37\b", text) for text in shown
    ), shown
    page.move_to(5, 5)
    assert page.run(f"{TIP}.hidden") is True
    assert page.troubles == []


@needs_browser
@pytest.mark.slow
def test_it_can_be_used_with_the_keyboard(page: Page, saved: Path) -> None:
    page.open(saved)
    page.run("document.getElementById('view').focus()")
    said = "document.getElementById('said').textContent"

    page.press("ArrowRight")
    first = page.run(said)
    page.press("ArrowDown")
    second = page.run(said)
    page.press("+")
    page.press("0")
    page.press("ArrowRight")
    page.press("Escape")

    assert first
    assert second not in {"", first}
    assert page.run(f"{TIP}.hidden") is True
    assert page.troubles == []

"""What README and docstrings show is what happens, and the demo does its work."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import parmap
from house.test_floors import FLOORS
from parmap import errors

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match[1], match[2]) for match in FENCE.finditer(README)]


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    # utf-8 everywhere, and a warning is an error: a user would see it as noise.
    return subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=ROOT,
        env=os.environ | environment,
    )


def test_the_first_example_of_the_readme_prints_what_it_says() -> None:
    """As `python - < script`: no file, no guard."""
    script = next(text for language, text in BLOCKS if language == "python")
    output = next(text for language, text in BLOCKS if language == "text")

    done = run("-", stdin=script)

    assert (done.stdout, done.stderr) == (output, "")


def test_every_snippet_of_the_readme_is_true(tmp_path: Path) -> None:
    """One session from top to bottom, as a reader would type it."""
    session = tmp_path / "readme.txt"
    snippets = [text for language, text in BLOCKS if language == "pycon"]
    session.write_text("\n".join(snippets), encoding="utf-8")

    done = run("-m", "doctest", str(session))

    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_the_seven_things_of_the_readme_are_among_its_snippets() -> None:
    things = re.split(r"^\*\*\d\. ", README, flags=re.MULTILINE)[1:]

    assert len(things) == 7
    assert all("```pycon" in thing for thing in things)


def test_the_readme_names_the_two_commands_first() -> None:
    commands = next(text for language, text in BLOCKS if language == "sh" and "make" in text)

    assert [line.partition("#")[0].strip() for line in commands.splitlines()] == [
        "make demo",
        "make test",
    ]


MODULES = sorted(info.name for info in pkgutil.walk_packages(parmap.__path__, "parmap."))


def test_the_examples_in_docstrings_are_true() -> None:
    # What a reader of the reference has at hand; the same names as in docs/conf.py.
    public: dict[str, object] = {"parmap": parmap}
    for place in (parmap, errors):
        public |= {name: getattr(place, name) for name in place.__all__}
    failed = {}
    for name in MODULES:
        module = importlib.import_module(name)
        result = doctest.testmod(
            module, extraglobs=public | vars(module), optionflags=doctest.ELLIPSIS
        )
        if result.failed:
            failed[name] = result.failed
    parmap.shutdown()

    assert not failed


@pytest.mark.slow
def test_the_demo_indexes_a_folder_and_reports_what_does_not_parse(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(
        "class A:\n    def long(self):\n        a = 1\n        b = 2\n"
    )
    (tmp_path / "bad.py").write_text("def broken(:\n")

    done = run("examples/index_source.py", str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert re.search(r"3 lines +long +good\.py:2", done.stdout)
    assert re.search(r"1 files did not parse:\n  bad\.py: SyntaxError: ", done.stdout)
    assert "1 modules, 4 lines, 1 functions, 1 classes" in done.stdout
    assert "the same result" in done.stdout


def test_every_public_name_has_its_place_in_the_reference() -> None:
    pages = [
        page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")
    ]
    shown = set(re.findall(r"^\.\. auto\w+:: parmap\.(\w+)", "\n".join(pages), re.MULTILINE))

    assert set(parmap.__all__) - {"__version__"} <= shown


def test_the_architecture_page_draws_the_floors_that_the_house_test_enforces() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2] for line in page.splitlines() if line.startswith("|")][2:]
    unnamed = {"_version", "__main__"}  # nothing to say about them

    drawn = [set(re.findall(r"`(\w+)`", row)) for row in rows]

    assert drawn == [set(floor) - unnamed for floor in reversed(FLOORS)]

"""What the items of a seeded call are seeded with: never to change."""

# mypy: disable-error-code="attr-defined"
# ruff: noqa: NPY002 - the old generators that it warns of are what is seeded here

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parmap._worker import seeding
from parmap._worker.seeding import Seeding, derive


@pytest.mark.parametrize(
    ("seed", "index", "numbers"),
    [
        (0, 0, (
            69986915569733662268708511816282626852, 108289178514224821126862661887955966546,
            324430450341753248283563301222594642330,
        )),
        (1, 0, (
            158141321087538203410794717034801771952, 161968208106517395484403769434964305718,
            240865790246768640442176948108531695493,
        )),
        (1, 1, (
            66177912543936010682960176918522868929, 207629452315008314681436136628934546374,
            334792839356000867047810824664228431576,
        )),
        (-5, 7, (
            162474637946487938321851975224782365213, 96268534383916304220241444300364391813,
            212112690672446204461686614106175844728,
        )),
        (2**200, 10**9, (
            287501390572240838780619965829285619370, 19725286791269572439775521319099542373,
            281597348407786712819678875234913850605,
        )),
    ],
)  # fmt: skip
def test_golden_numbers(seed, index, numbers):
    derived = derive(seed, index)

    assert (derived.seed, derived.random, derived.numpy) == numbers


def test_golden_randomness():
    """What somebody's published results rest on."""
    with Seeding(1) as seeded:
        seeded.plant(0)
        assert random.random() == 0.3176072951516834
        assert np.random.random() == 0.34127860872440063
    assert np.random.default_rng(derive(1, 0).seed).random() == GOLDEN_GENERATOR


GOLDEN_GENERATOR = 0.9288255569544622


@given(st.integers(), st.integers(0, 2**40), st.integers(), st.integers(0, 2**40))
def test_no_two_items_have_a_number_in_common(seed, index, other_seed, other_index):
    one, other = derive(seed, index), derive(other_seed, other_index)
    numbers = {one.seed, one.random, one.numpy, other.seed, other.random, other.numpy}

    assert len(numbers) == (3 if (seed, index) == (other_seed, other_index) else 6)
    assert all(0 <= number < 2**128 for number in numbers)


def test_the_generators_are_put_back_as_they_were():
    random.seed(5)
    np.random.seed(5)
    wanted = random.random(), np.random.normal()
    random.seed(5)
    np.random.seed(5)

    with Seeding(1) as outer:
        outer.plant(3)
        first = random.random(), np.random.normal()
        with Seeding(2) as inner:
            inner.plant(0)
            random.random(), np.random.normal()
        second = random.random(), np.random.normal()

    assert (random.random(), np.random.normal()) == wanted
    with Seeding(1) as outer:
        outer.plant(3)
        assert [(random.random(), np.random.normal()) for _ in range(2)] == [first, second]


def test_a_generator_of_another_kind_is_seeded_too_and_put_back():
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(7))
    try:
        wanted = np.random.random()
        np.random.set_bit_generator(np.random.PCG64(7))
        draws = []
        for _ in range(2):
            with Seeding(1) as seeded:
                seeded.plant(0)
                draws.append(np.random.random())

        assert draws[0] == draws[1] != wanted == np.random.random()
    finally:
        np.random.set_bit_generator(before)


def test_a_generator_that_the_item_has_put_there_stays():
    before = np.random.get_bit_generator()
    try:
        with Seeding(1) as seeded:
            seeded.plant(0)
            np.random.set_bit_generator(np.random.PCG64(7))
        assert np.random.random() == np.random.Generator(np.random.PCG64(7)).random()
    finally:
        np.random.set_bit_generator(before)


def test_parting_from_the_parent_gives_numpy_chance_of_its_own():
    np.random.seed(5)
    wanted = np.random.random()
    np.random.seed(5)
    try:
        seeding.part_from_parent()
        assert np.random.random() != wanted
    finally:
        np.random.seed()


FIRST_TO_IMPORT = """
import sys
from parmap._worker.seeding import Seeding

before = list(sys.meta_path)
with Seeding(1) as seeded:
    seeded.plant(0)
    assert "numpy" not in sys.modules
    import numpy as np
    print(np.random.random())
    with Seeding(1) as inner:
        inner.plant(0)
    seeded.plant(1)
    first = np.random.random()
with Seeding(1) as seeded:
    seeded.plant(1)
    print(first == np.random.random())
loader = np.random.__loader__
print(sys.meta_path == before, type(loader).__name__, np.random.__spec__.loader is loader)
"""

NESTED_FIRST = """
import sys
from parmap._worker.seeding import Seeding

with Seeding(1) as outer:
    outer.plant(0)
    with Seeding(9) as inner:
        inner.plant(4)
        import numpy as np
        np.random.random()
    print(np.random.random())
after = np.random.random()
with Seeding(1) as outer:
    outer.plant(0)
    np.random.random()
    print(after != np.random.random())
"""


def run(source: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_an_item_that_is_the_first_to_import_numpy_is_seeded_then_and_the_hook_is_gone():
    assert run(FIRST_TO_IMPORT) == [
        "0.34127860872440063", "True", "True", "SourceFileLoader", "True",
    ]  # fmt: skip


def test_the_outer_item_is_seeded_when_an_inner_one_was_the_first_to_import_numpy():
    """... and what comes after both is chance again."""
    assert run(NESTED_FIRST) == ["0.34127860872440063", "True"]

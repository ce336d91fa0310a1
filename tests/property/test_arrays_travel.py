"""NumPy's arrays of every kind, order and size come back equal, writable, and nobody else's."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass

import pytest

np = pytest.importorskip("numpy")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from parmap import Pool, parallel_map  # noqa: E402
from parmap._memory import pages  # noqa: E402
from parmap._wire.frames import CHUNK, Frame, FrameReader, pack_frame, pieces_of  # noqa: E402
from parmap._wire.payload import pack_values, unpack  # noqa: E402
from parmap._wire.pickling import Codec  # noqa: E402
from parmap._wire.pieces import OUT_OF_BAND_FROM  # noqa: E402

DTYPES = [
    "?", "i1", ">i2", "<u4", "i8", "f2", "f4", ">f8", "c8", "c16", "S3", "U2", "V5", "M8[s]", "m8[ns]",
    "S0", "O", [("a", "i4"), ("b", ">f8", (2,))], [("name", "U3"), ("what", "O")],
]  # fmt: skip


def fixed(array):
    array.flags.writeable = False
    return array


ORDERS = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "strided": lambda a: a[..., ::2],
    "backwards": lambda a: a[::-1],
    "transposed": lambda a: a.T,
    "middle axis first": lambda a: np.moveaxis(a, -1, 0),
    "read-only": lambda a: fixed(a),
    "read-only F": lambda a: fixed(np.asfortranarray(a)),
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "matrix": lambda a: a.reshape(a.shape[0], int(np.prod(a.shape[1:]))).view(np.matrix),
    "record": lambda a: a.view(np.recarray),
    "masked": lambda a: np.ma.masked_array(a, mask=False),
}


@dataclass
class Box:
    content: object
    label: str = "box"


CONTAINERS = {
    "bare": lambda a: a,
    "list": lambda a: [a, 1, a],
    "dict": lambda a: {"x": {"y": (a,)}},
    "dataclass": Box,
    "beside bytes": lambda a: (bytes(70_000), a, bytearray(b"q") * 70_000, "é" * 70_000),
}
shapes = st.sampled_from(
    [(0,), (1,), (7,), (3, 0, 2), (5, 3), (2, 3, 4), (1, 1), (40_000,), (300, 41)]
)


@st.composite
def arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(shapes)
    size = int(np.prod(shape))
    made = np.zeros(size, dtype)
    if dtype.char == "O":
        made[:] = range(size)
    elif not dtype.hasobject and made.nbytes:
        noise = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 100, made.nbytes, "u1")
        made = noise.view(made.dtype)  # which has made an empty text one letter long
    return ORDERS[draw(st.sampled_from(sorted(ORDERS)))](made.reshape(shape))


def arrays_in(value):
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Box):
        yield from arrays_in(value.content)
    elif isinstance(value, dict):
        yield from arrays_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from arrays_in(part)


def assert_same_and_own(sent, came):
    """The same bytes in the same shape; written to, it changes nothing else."""
    assert type(came) is type(sent)
    plain = type(sent) is np.ndarray
    # `pickle` itself lets subclasses forget their byte order where they are empty.
    assert not plain or came.dtype == sent.dtype
    assert came.dtype.newbyteorder("=") == sent.dtype.newbyteorder("=")
    assert came.shape == sent.shape
    if sent.dtype.hasobject or sent.dtype != came.dtype:
        assert came.tolist() == sent.tolist()
    else:
        assert came.tobytes() == sent.tobytes()  # NaN and NaT included
    assert came.flags.writeable
    assert not np.shares_memory(came, sent)


def sent_and_received(value, direction):
    """Through the wire, without processes: both ways have the same code, and each its own codec."""
    codecs = Codec("to worker"), Codec("to caller")
    there, here = codecs if direction == "in" else reversed(codecs)
    payload = pack_values([value], there, "args[{}]".format)
    reader, stream = FrameReader(), b"".join(pack_frame(Frame(CHUNK, segments=payload.segments)))
    frames, at = [], 0
    while at < len(stream):
        room = reader.get_buffer()
        count = min(len(room), len(stream) - at, 100_001)
        room[:count] = stream[at : at + count]
        frames += reader.received(count)
        at += count
    (frame,) = frames
    (item,) = unpack(frame.segments, [], payload.block, here)
    return item.load()


@settings(max_examples=150)
@given(arrays(), st.sampled_from(sorted(CONTAINERS)), st.sampled_from(["in", "out"]))
def test_every_array_comes_back_equal_writable_and_its_own(array, container, direction):
    sent = CONTAINERS[container](array)

    came = sent_and_received(sent, direction)

    assert type(came) is type(sent)
    pairs = list(zip(arrays_in(sent), arrays_in(came), strict=True))
    assert pairs
    for one, other in pairs:
        assert_same_and_own(one, other)
    if container == "beside bytes":
        assert (came[0], came[2], came[3]) == (sent[0], sent[2], sent[3])


@pytest.mark.parametrize("order", ["strided", "read-only", "read-only F", "backwards", "F", "C"])
@pytest.mark.parametrize("dtype", ["f8", "M8[s]", [("a", "i4"), ("b", "f4")]])
def test_large_arrays_stay_out_of_the_pickle(dtype, order):
    """Their memory is sent as it is, or after one copy, and what arrives is used as it is."""
    array = ORDERS[order](np.zeros((2, OUT_OF_BAND_FROM), dtype))

    _, pickled, memory = pack_values([array], Codec("to worker"), str).whole()

    assert len(pickled) < 1000
    assert len(memory) == array.nbytes


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_are_not_copied_into_the_pickle(kind):
    data = kind(1 << 20)
    _, pieces = pack_values([[data]], Codec("to worker"), str).segments
    sent = max(pieces_of(pieces), key=len)

    assert (sent is data) if kind is bytes else (sent == data and type(sent) is bytes)


def test_large_bytes_are_let_go_at_once():
    """Without waiting for the collector of cycles."""
    data = bytes(1 << 20)
    gc.disable()
    try:
        before = sys.getrefcount(data)
        pack_values([[data]], Codec("to worker"), str)
        assert sys.getrefcount(data) == before
    finally:
        gc.enable()


def test_bytes_that_say_main_are_still_only_bytes():
    for size in (100, 70_000, 1 << 20):
        value = [Box(b"__main__" * (size // 8)), np.zeros(3)]
        came = sent_and_received(value, "in")
        assert came[0] == value[0]


@pytest.mark.parametrize("size", [OUT_OF_BAND_FROM, pages.LARGE, 2 * pages.LARGE + 12_345])
def test_a_later_array_never_changes_one_that_is_kept(size):
    """Large ones take memory that was used before, but not while somebody has a view of it."""
    kept = []
    for number in range(12):
        came = sent_and_received(np.full(size, number, "u1"), "out")
        if number % 3:
            kept.append((number, came[number:]))

    assert all(bool(np.all(part == number)) for number, part in kept)


def change(box):
    box.content += 1
    return box, np.full(pages.LARGE, 5, "u1")[1::2]


def test_large_arrays_of_one_call_do_not_meet():
    """Each item changes its own; all results are kept until the end."""
    items = [Box(np.full(pages.LARGE + n, n, "u1")) for n in range(12)]
    with Pool(2) as pool:
        results = parallel_map(change, items, pool=pool)

    assert all(bool(np.all(item.content == n)) for n, item in enumerate(items))
    assert all(bool(np.all(box.content == n + 1)) for n, (box, _) in enumerate(results))
    assert all(bool(np.all(other == 5)) for _, other in results)

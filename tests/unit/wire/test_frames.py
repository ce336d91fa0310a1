"""Frames: what is packed comes out again, however the stream was cut; nonsense is refused."""

import struct

import pytest

from parmap._wire.frames import (
    BUFFER_BYTES,
    CHUNK,
    FLAG_BLOCK,
    HEADER,
    MAGIC,
    PRIVATE_FROM,
    RESULTS,
    STOP,
    Frame,
    FrameReader,
    pack_frame,
)
from parmap.errors import InternalError


def as_stream(*frames):
    return b"".join(bytes(buffer) for frame in frames for buffer in pack_frame(frame))


def feed(reader, stream, most=1 << 30, fds=()):
    """Receive the whole stream, `most` bytes at a time; all descriptors come with the first."""
    frames, at = [], 0
    while at < len(stream):
        room = reader.get_buffer()
        assert len(room) > 0
        n = min(len(room), most, len(stream) - at)
        room[:n] = stream[at : at + n]
        frames += reader.received(n, fds)
        fds, at = (), at + n
    return frames


def fields(frame):
    return (
        frame.kind, frame.call, frame.chunk, frame.first, frame.count, frame.flags, frame.extra,
        [bytes(segment) for segment in frame.segments], frame.fds,
    )  # fmt: skip


def test_every_field_travels():
    frame = Frame(
        CHUNK, call=1, chunk=-2, first=3, count=1 << 60, flags=FLAG_BLOCK, extra=-(1 << 62),
        segments=[b"a", b"", bytearray(b"bc")], fds=[7, 8],
    )  # fmt: skip

    (arrived,) = feed(FrameReader(), as_stream(frame), fds=[7, 8])

    assert fields(arrived) == fields(frame)


@pytest.mark.parametrize("most", [1, 7, HEADER.size, 1000])
def test_the_stream_may_be_cut_anywhere(most):
    sent = [Frame(RESULTS, call=n, segments=[bytes([n]) * n, b"x" * 100 * n]) for n in range(30)]

    arrived = feed(FrameReader(), as_stream(*sent), most)

    assert [fields(f) for f in arrived] == [fields(f) for f in sent]


def test_large_segments_are_packed_without_a_copy():
    large = bytearray(PRIVATE_FROM)

    buffers = pack_frame(Frame(CHUNK, segments=[b"small", large, b"small"]))

    assert any(buffer is large for buffer in buffers)
    assert len(buffers) == 3


def test_small_segments_share_one_buffer():
    assert len(pack_frame(Frame(CHUNK, segments=[b"x"] * 1000))) == 1


def test_a_view_of_items_larger_than_a_byte_counts_in_bytes():
    view = memoryview(bytes(80_000)).cast("q")

    (arrived,) = feed(FrameReader(), as_stream(Frame(CHUNK, segments=[view])))

    assert len(arrived.segments[0]) == 80_000


def test_a_large_segment_is_received_in_place():
    reader = FrameReader()
    stream = as_stream(Frame(CHUNK, segments=[b"z" * (1 << 20)]))
    head = len(stream) - (1 << 20)

    feed(reader, stream[:head])
    room = reader.get_buffer()

    assert len(room) == 1 << 20
    (arrived,) = feed(reader, stream[head:])
    assert arrived.segments[0] == b"z" * (1 << 20)


@pytest.mark.parametrize("size", [10, PRIVATE_FROM - 1, PRIVATE_FROM, BUFFER_BYTES + 1])
def test_segments_are_private_and_writable(size):
    """The next frame must not overwrite what the last one has brought."""
    reader = FrameReader()
    (first,) = feed(reader, as_stream(Frame(CHUNK, segments=[b"1" * size])))
    feed(reader, as_stream(Frame(CHUNK, segments=[b"2" * size])))

    assert first.segments[0] == b"1" * size
    memoryview(first.segments[0])[0] = 0


def test_frames_after_a_large_one_are_not_lost():
    frames = [Frame(CHUNK, segments=[b"l" * 300_000]), Frame(STOP), Frame(RESULTS, call=5)]

    arrived = feed(FrameReader(), as_stream(*frames), 200_000)

    assert [f.kind for f in arrived] == [CHUNK, STOP, RESULTS]


def test_descriptors_go_to_frames_in_order():
    frames = [Frame(CHUNK, fds=[0, 0]), Frame(STOP), Frame(CHUNK, fds=[0])]

    arrived = feed(FrameReader(), as_stream(*frames), fds=[11, 12, 13])

    assert [f.fds for f in arrived] == [[11, 12], [], [13]]


def test_missing_descriptors_are_our_bug():
    with pytest.raises(InternalError, match="lacks descriptors"):
        feed(FrameReader(), as_stream(Frame(CHUNK, fds=[1])))


def test_closing_closes_unclaimed_descriptors_once():
    closed: list[int] = []
    reader = FrameReader(closed.append)
    feed(reader, as_stream(Frame(CHUNK, fds=[5]))[:-1], fds=[5, 6])

    reader.close()
    reader.close()

    assert closed == [5, 6]


def test_nonsense_is_refused():
    with pytest.raises(InternalError, match="no frame"):
        feed(FrameReader(), b"HTTP/1.1 400 Bad Request\r\n" * 10)


def test_an_absurd_length_is_refused_before_memory_is_asked_for():
    head = HEADER.pack(MAGIC, CHUNK, 0, 0, 1, 0, 0, 0, 0, 0)

    with pytest.raises(InternalError, match="claims a segment"):
        feed(FrameReader(), head + struct.pack("<Q", 1 << 60))


def test_a_boundary_is_told_from_a_cut():
    reader = FrameReader()
    stream = as_stream(Frame(CHUNK, segments=[b"abc"]))
    assert reader.at_boundary
    feed(reader, stream[:-1])
    assert not reader.at_boundary
    feed(reader, stream[-1:])
    assert reader.at_boundary


def test_a_frame_tells_what_it_is():
    assert repr(Frame(STOP, call=3)).startswith("<Frame STOP call=3 ")


def test_a_reader_that_is_closed_in_the_middle_of_a_frame_closes_what_nobody_has_claimed():
    closed: list[int] = []
    reader = FrameReader(closed.append)
    stream = as_stream(Frame(CHUNK, segments=[b"a", b"b"], fds=[7, 8]))
    assert feed(reader, stream[:-1], fds=[7, 8]) == []
    assert not reader.at_boundary

    reader.close()
    reader.close()

    assert closed == [7, 8]
    assert reader.at_boundary


def test_a_reader_without_a_way_to_close_leaves_descriptors_to_its_owner():
    reader = FrameReader()
    feed(reader, as_stream(Frame(CHUNK, segments=[b"a"], fds=[7]))[:-1], fds=[7])
    reader.close()
    assert reader.at_boundary


def test_the_beginning_of_a_piece_at_the_end_of_the_buffer_makes_room_for_the_rest():
    """A buffer that is full to the last byte is read on from its beginning."""
    frames = [Frame(RESULTS, call=n, segments=[b"x" * 1000]) for n in range(1000)]
    reader = FrameReader()
    arrived = feed(reader, as_stream(*frames))
    assert [frame.call for frame in arrived] == list(range(1000))

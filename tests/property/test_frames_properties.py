"""Whatever frames are sent, and however the stream is cut, the same frames arrive."""

from hypothesis import given
from hypothesis import strategies as st

from parmap._wire import frames as fr
from parmap._wire.frames import Frame, FrameReader, pack_frame

numbers = st.integers(-(1 << 63), (1 << 63) - 1)
sizes = st.integers(0, 200) | st.sampled_from(
    [fr.JOIN_BELOW - 1, fr.JOIN_BELOW, fr.PRIVATE_FROM - 1, fr.PRIVATE_FROM, fr.BUFFER_BYTES + 3]
)


@st.composite
def frame_lists(draw):
    return [
        Frame(
            draw(st.sampled_from(sorted(fr.KIND_NAMES))),
            call=draw(numbers),
            chunk=draw(numbers),
            first=draw(numbers),
            count=draw(numbers),
            flags=draw(st.integers(0, 255)),
            extra=draw(numbers),
            segments=[bytes([n % 256]) * draw(sizes) for n in range(draw(st.integers(0, 4)))],
            fds=draw(st.lists(st.integers(0, 1000), max_size=3)),
        )
        for _ in range(draw(st.integers(1, 6)))
    ]


def essence(frame):
    return (
        frame.kind, frame.call, frame.chunk, frame.first, frame.count, frame.flags, frame.extra,
        frame.fds, [bytes(segment) for segment in frame.segments],
    )  # fmt: skip


@given(frame_lists(), st.lists(st.integers(1, 300_000), min_size=1, max_size=20))
def test_what_is_sent_arrives_however_it_is_cut(frames, cuts):
    stream = b"".join(bytes(buffer) for frame in frames for buffer in pack_frame(frame))
    fds = [fd for frame in frames for fd in frame.fds]
    reader, arrived, at, turn = FrameReader(), [], 0, 0

    while at < len(stream):
        room = reader.get_buffer()
        n = min(len(room), cuts[turn % len(cuts)], len(stream) - at)
        room[:n] = stream[at : at + n]
        arrived += reader.received(n, fds)
        fds, at, turn = [], at + n, turn + 1

    assert [essence(f) for f in arrived] == [essence(f) for f in frames]
    assert reader.at_boundary

"""A worker for tests of the codec: a fresh interpreter that loads, runs and answers. No engine.

The caller's side is `Peer`; this file run as a script is the worker's side. Bytes go through pipes,
as plain pickles of plain bytes.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import partial

from parmap._wire.frames import pieces_of
from parmap._wire.payload import PayloadBuilder, pack_values, unpack
from parmap._wire.pickling import Codec, Encoded

FUNCTION, CHUNK, INITIALIZER, MODULES = range(4)


def as_bytes(segments):
    return [b"".join(pieces_of(segment)) for segment in segments]


def as_private(segments):
    """As a FrameReader gives them: writable memory of their own."""
    return [bytearray().join(pieces_of(segment)) for segment in segments]


class Peer:
    """One worker, and the caller's end of it."""

    def __init__(self, python=sys.executable):
        self.process = subprocess.Popen(
            [python, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.ask(sys.path)

    def ask(self, *message):
        pickle.dump(message, self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)

    def open(self, fn):
        """Begin a call: send its function."""
        codec = Codec("to worker")
        encoded = codec.dumps(fn)
        self.ask(FUNCTION, as_bytes(encoded.segments))
        return codec

    def initialize(self, fn):
        self.ask(INITIALIZER, as_bytes(Codec("to worker").dumps(fn).segments))

    def run(self, codec, items, calls=lambda i: f"args[{i}]"):
        payload = pack_values(items, codec, calls)
        segments, block = self.ask(CHUNK, as_bytes(payload.segments), payload.block)
        answers = unpack(as_private(segments), [], block, codec)
        return [outcome(*pair) for pair in (answers if block else [i.load() for i in answers])]

    def map(self, fn, items):
        return self.run(self.open(fn), list(items))

    def call(self, fn, *args):
        """Run one call of `fn` in the worker, in a scope of its own."""
        return self.map(partial(apply, fn), [args])[0]

    def modules(self):
        """What the worker has imported."""
        return set(self.ask(MODULES)[0])


class TaskFailedError(Exception):
    """Stands for what the task raised."""


def outcome(ok, value):
    if not ok:
        raise TaskFailedError(value)
    return value


def apply(fn, args):
    return fn(*args)


def answer(codec, fn, items, block):
    builder = PayloadBuilder(codec)
    for index, item in enumerate(items):
        try:
            value = True, fn(item if block else item.load())
        except Exception as error:
            value = False, f"{type(error).__name__}: {error}"
        builder.add_value(value, "result[{}]".format, index)
    payload = builder.build()
    return as_bytes(payload.segments), payload.block


def work(commands, answers):
    (sys.path[:],) = pickle.load(commands)
    pickle.dump(None, answers)
    codec, fn = Codec("to caller"), None
    while True:
        answers.flush()
        try:
            kind, *rest = pickle.load(commands)
        except EOFError:
            return
        result = None
        if kind == MODULES:
            result = (list(sys.modules),)
        elif kind == CHUNK:
            items = unpack(as_private(rest[0]), [], rest[1], codec)
            result = answer(codec, fn, items, rest[1])
        elif kind == FUNCTION:
            fn = codec.loads(Encoded.from_segments(as_private(rest[0])))
        else:
            codec.loads(Encoded.from_segments(as_private(rest[0])))()
            codec.keep_globals()
        pickle.dump(result, answers)


if __name__ == "__main__":
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    work(sys.stdin.buffer, out)

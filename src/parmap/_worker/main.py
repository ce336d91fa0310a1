"""The worker's loop: frames in, frames out, until the parent says stop or is gone.

The user's `__main__` is not here: what belongs to it came by value.
"""

from __future__ import annotations

import os
import pickle
import sys
from _contextvars import Context
from time import perf_counter_ns

from parmap import _nesting
from parmap._memory import pages
from parmap._memory.fdpass import Link
from parmap._memory.host import close_quietly
from parmap._memory.segment import Segment
from parmap._wire import frames as fr
from parmap._wire.control import NOTHING, SOMETHING, Control
from parmap._wire.exceptions import encode_exception
from parmap._wire.frames import Frame, FrameReader, pack_frame
from parmap._wire.payload import unpack
from parmap._wire.pickling import Codec, Encoded
from parmap._worker import hygiene, memory, output, threads
from parmap._worker.calling import brings_function
from parmap._worker.eager import Eager
from parmap._worker.hygiene import Terminated
from parmap._worker.surroundings import Taken
from parmap._worker.tasks import ChunkRun
from parmap._worker.terms import Terms

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from parmap._wire.frames import Buffer
    from parmap._worker.trouble import Orders, Trouble


def main(link: int, lifeline: int, control: int) -> NoReturn:
    """Start of a worker in an interpreter of its own, with these inherited descriptors."""
    serve(Link.from_fd(link), lifeline, Segment.from_fd(control))


def serve(link: Link, lifeline: int, page: Segment) -> NoReturn:
    """Serve the parent at the other end of `link`, then leave."""
    status = 0
    try:
        hygiene.take_over_signals()
        hygiene.leave_inherited_ends()
        hygiene.die_with_parent(lifeline)
        hygiene.close_in_forked_children([link.fileno()])
        hygiene.write_stacks_to(page.fileno())
        hygiene.dump_stacks_on_request()
        if "numpy.random" in sys.modules:
            from parmap._worker.seeding import part_from_parent

            part_from_parent()
        # What the context was of the thread that a fork has copied is chance.
        status = Context().run(_Worker(link, Control(page), lifeline).run)
        hygiene.finish_multiprocessing()
    except Terminated:
        hygiene.flush_streams()
        hygiene.die_of_sigterm()
    except ConnectionError:
        pass  # the parent is gone, and so is the reason to be here
    except BaseException as error:
        status = 1
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        hygiene.flush_streams()
        hygiene.leave_barriers()
        os._exit(status)


class _Worker:
    """What one worker knows: the functions of the calls that it serves."""

    def __init__(self, link: Link, control: Control, lifeline: int) -> None:
        self._link = link
        self._control = control
        self._lifeline = lifeline
        self._reader = FrameReader(close_quietly)
        self._codec = Codec("to caller")
        self._functions: dict[int, tuple[Callable[..., Any], Codec, Terms]] = {}
        self._taken = Taken()
        self._trouble: Trouble | None = None

    def run(self) -> int:
        """Handle frames until the stream ends, or one ends the worker; returns the exit code."""
        self._say(Frame(fr.READY, extra=0))
        eager = Eager(self._link)
        while True:
            eager.begin()
            self._tidy_meanwhile()
            size, fds = self._link.receive_into(self._reader.get_buffer())
            eager.end()
            if size == 0:
                return 0
            for frame in self._reader.received(size, fds):
                status = self._handle(frame)
                if status is not None:
                    return status

    def _tidy_meanwhile(self) -> None:
        """While nothing comes, give back the memory that is kept for what comes."""
        left = pages.tidy() if self._reader.at_boundary else None
        if left is not None and not self._link.wait(left):
            pages.tidy()

    def _handle(self, frame: Frame) -> int | None:
        """Do what a frame says; an exit code, if it was the last one."""
        match frame.kind:
            case fr.CHUNK:
                self._run_chunk(frame)
            case fr.FUNCTION:
                self._functions[frame.call] = self._load_function(
                    frame.segments, frame.fds, frame.flags
                )
            case fr.FORGET:
                self._functions.pop(frame.call, None)
            case fr.ADOPT:
                adopted = self._codec.for_call().loads(Encoded.from_segments(frame.segments))
                if not self._taken.take_over(adopted, frame.fds):
                    return 0  # stale: what it holds is given back by its death, unrun
                self._trouble = _trouble_of(adopted["trouble"], frame.extra)
            case fr.OUTPUT:
                output.install(frame.fds[0], frame.extra)
            case fr.CPUS:
                _nesting.budget = frame.extra
            case fr.SETUP:
                return self._set_up(frame)
            case fr.MEMBER:
                return self._run_member(frame)
            case fr.STOP:
                return 0
            case kind:
                raise AssertionError(f"the parent sent a frame of kind {kind}")
        return None

    def _run_member(self, frame: Frame) -> int:
        from parmap._worker import member

        pages.forget()  # what comes now is the member's own business
        fn, codec, _ = self._functions[frame.call]
        member.current = member.Member(self._link, codec, frame.call)
        if self._trouble is not None:
            self._trouble.member(frame.extra + 1)
        return member.current.run(fn)

    def _run_chunk(self, frame: Frame) -> None:
        if self._trouble is not None:
            self._trouble.between_chunks()
        self._control.running = SOMETHING  # should a part of it end the process on arrival
        taken = perf_counter_ns()
        fn, codec, terms, items = self._unpack(frame)
        given = frame, items, fn, codec, self._link, self._control, terms
        if frame.flags & fr.FLAG_TIMED:
            from parmap._worker.timing import TimedChunkRun

            run: ChunkRun = TimedChunkRun(*given, taken)
        else:
            run = ChunkRun(*given)
        if self._trouble is not None:
            run.meet(self._trouble)
        run.run()
        self._control.running = NOTHING
        if self._trouble is not None:
            self._trouble.chunk_done()
        self._taken.note_modules()

    def _unpack(self, frame: Frame) -> tuple[Callable[..., Any], Codec, Terms, Sequence[Any]]:
        if brings_function(frame.flags):
            return *self._load_function(frame.segments, frame.fds, frame.flags), [()]
        fn, codec, terms = self._functions[frame.call]
        if frame.flags & fr.FLAG_FRESH:
            output.new_call()
            # It is nothing but a name, so its call has no limits.
            if isinstance(fn, _Broken):  # its module may be there by now
                fn, codec, terms = self._load_function(fn.segments, (), 0)
            else:
                codec = self._codec.for_call()
            self._functions[frame.call] = fn, codec, terms
        block = bool(frame.flags & fr.FLAG_BLOCK)
        return fn, codec, terms, unpack(frame.segments, frame.fds, block, codec)

    def _load_function(
        self, segments: list[Buffer], fds: Sequence[int], flags: int
    ) -> tuple[Callable[..., Any], Codec, Terms]:
        """The function, and what its call has told with it."""
        codec = self._codec.for_call()
        output.new_call()
        if flags & fr.FLAG_LIMITED:
            hygiene.keep_descendants()
        try:
            fn = codec.loads(_encoded(segments, fds, flags))
            fn, told = fn if flags & fr.FLAG_TERMS else (fn, ())
            return fn, codec, Terms(*told)
        except Terminated:
            raise
        except BaseException as error:  # it is the failure of each item
            return _Broken(error, segments), codec, Terms()

    def _set_up(self, frame: Frame) -> int | None:
        """Who this worker is, and the initializer; an exit code if that failed."""
        setup = pickle.loads(frame.segments[0])
        sys.argv[:] = setup["argv"]
        _nesting.budget = setup["budget"]
        _nesting.worker = setup["name"], os.getpid()
        threads.limit(setup["budget"])
        memory.limit = setup["memory"]
        output.introduce(setup["name"])
        if setup["parent"] is not None:
            from parmap._worker.member import become

            become(setup["name"], setup["parent"], self._lifeline)
        if len(frame.segments) > 1 and not self._initialize(frame):
            return 1  # the parent knows
        self._taken.note_modules()
        self._say(Frame(fr.READY, extra=1))
        return None

    def _initialize(self, frame: Frame) -> bool:
        codec = self._codec.for_call()
        try:
            given = _encoded(frame.segments[1:], frame.fds, frame.flags)
            initializer, initargs = codec.loads(given)
            initializer(*initargs)
        except Terminated:
            raise
        except BaseException as error:  # calls fail with that very error
            data = encode_exception(error, codec.dumps_inline, skip_frames=1)
            hygiene.flush_streams()
            wrote = fr.FLAG_WROTE if output.took_word() else 0
            self._say(Frame(fr.INIT_FAILED, flags=wrote, segments=[data]))
            return False
        codec.keep_globals()
        return True

    def _say(self, frame: Frame) -> None:
        self._link.send_all(pack_frame(frame))


def _encoded(segments: list[Buffer], fds: Sequence[int], flags: int) -> Encoded:
    """A function or an initializer, as it came."""
    if not flags & fr.FLAG_MAPPED:
        return Encoded.from_segments(segments, fds)
    from parmap._wire.mapped import from_file  # only who gets such a thing pays for it

    return from_file(segments, fds)


def _trouble_of(orders: Orders | None, worker: int) -> Trouble | None:
    if orders is None:
        return None
    from parmap._worker.trouble import Trouble  # only who asks for it pays for it

    return Trouble(orders, worker)


class _Broken:
    """Stands for a function that could not be rebuilt here: every item fails with the reason."""

    def __init__(self, error: BaseException, segments: list[Buffer]) -> None:
        self._error = error
        self.segments = segments

    def __call__(self, *args: object) -> NoReturn:
        from parmap.errors import SerializationError

        raise SerializationError(
            f"the function could not be rebuilt in the worker: {type(self._error).__name__}",
            direction="to worker",
            path="fn",
        ) from self._error

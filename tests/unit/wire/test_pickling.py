"""The codec: fast where it can, by value where it must, and light where it needs neither."""

import array
import dataclasses
import functools
import io
import os
import subprocess
import sys
import threading
import time
import types
import urllib.parse

import numpy as np
import pytest

from parmap._wire.pickling import Codec, Encoded
from parmap._wire.pieces import OUT_OF_BAND_FROM
from parmap.errors import SerializationError
from support.handles import Handle


def received(encoded):
    return Encoded.from_segments([bytearray(s) for s in encoded.segments], encoded.fds)


def test_a_round_trip(parent, worker):
    value: dict = {"a": [1, (2.5, None)], "b": np.arange(3)}

    back = worker.loads(received(parent.dumps(value)))

    assert back["a"] == value["a"]
    assert np.array_equal(back["b"], value["b"])


def test_large_buffers_stay_where_they_are(parent):
    array = np.zeros(OUT_OF_BAND_FROM)

    encoded = parent.dumps(array)

    (view,) = encoded.buffers
    assert np.shares_memory(np.frombuffer(view), array)
    assert len(encoded.data) < 1000
    assert encoded.nbytes > array.nbytes


def test_small_buffers_go_in_the_pickle(parent):
    assert parent.dumps(np.zeros(10)).buffers == []


def test_arrays_arrive_writable_also_read_only_ones(parent, worker):
    """What arrives is a copy of the receiver's own in any case."""
    fixed = np.zeros(OUT_OF_BAND_FROM)
    fixed.flags.writeable = False

    array, too = worker.loads(received(parent.dumps((np.zeros(OUT_OF_BAND_FROM), fixed))))

    array[0] = 1
    too[0] = 1
    assert fixed[0] == 0


def test_what_is_unpickled_from_the_very_memory_of_a_read_only_array_is_a_copy(parent, worker):
    """An engine that hands over memory without copying must not give a way into the sender's."""
    fixed = np.zeros(OUT_OF_BAND_FROM)
    fixed.flags.writeable = False

    array = worker.loads(parent.dumps(fixed))

    array[0] = 1
    assert fixed[0] == 0


def test_fortran_order_and_strides(parent, worker):
    fortran = np.asfortranarray(np.arange(40_000.0).reshape(200, 200))
    strided = np.arange(100_000)[::2]

    back = worker.loads(received(parent.dumps((fortran, strided))))

    assert np.array_equal(back[0], fortran)
    assert back[0].flags.f_contiguous
    assert np.array_equal(back[1], strided)


def test_functions_of_importable_modules_go_by_name(parent):
    assert len(parent.dumps(os.path.join).data) < 60


def test_a_lambda_goes_by_value(parent, worker):
    number = 5

    assert worker.loads(received(parent.dumps(lambda x: x + number)))(1) == 6


def test_globals_of_a_function_are_anew_at_each_loads(parent, worker):
    namespace: dict = {}
    exec("n = 0\ndef count():\n    global n\n    n += 1\n    return n", namespace)
    encoded = parent.dumps(namespace["count"])

    first = worker.loads(received(encoded))
    assert [first(), first()] == [1, 2]
    assert worker.loads(received(encoded))() == 1
    assert namespace["n"] == 0


def test_calls_at_the_same_time_share_nothing(parent, worker):
    namespace: dict = {}
    exec("n = 0\ndef count():\n    global n\n    n += 1\n    return n", namespace)
    encoded = parent.dumps(namespace["count"])
    one, other = worker.for_call(), worker.for_call()

    f, g = one.loads(received(encoded)), other.loads(received(encoded))

    assert [f(), f(), g()] == [1, 2, 1]


INITIALIZED = """
table, value, later, untouched = {}, None, 0, 'old'
class Holder:
    connection = None
    log = []
def initialize():
    global value
    value = 'set'
    table['k'] = 'filled'
    Holder.connection = 'open'
    Holder.log.append('began')
    return untouched
def work():
    return value, table, Holder.connection, Holder.log, untouched
def spoil():
    global value
    value, Holder.connection = 'spoilt', 'spoilt'
"""


def test_later_calls_see_what_an_initializer_has_set(parent, worker):
    """As in multiprocessing, where both are functions of the same module in the worker."""
    namespace = {"__name__": "elsewhere"}
    exec(INITIALIZED, namespace)

    setup = worker.for_call()
    setup.loads(received(parent.dumps(namespace["initialize"])))()
    setup.keep_globals()

    namespace["untouched"] = "new"  # set by the caller between the two: the call sees it
    for _ in range(2):
        work = worker.for_call().loads(received(Codec("to worker").dumps(namespace["work"])))
        assert work() == ("set", {"k": "filled"}, "open", ["began"], "new")
        spoil = worker.for_call().loads(received(Codec("to worker").dumps(namespace["spoil"])))
        spoil()


def test_what_pickle_alone_refuses_is_tried_by_value(parent, worker):
    views = worker.loads(received(parent.dumps(({1: 2}.keys(), os, types.MappingProxyType({})))))

    assert [*views[0]] == [1]
    assert views[1] is os


def test_a_failure_names_its_direction(worker):
    with pytest.raises(SerializationError) as caught:
        worker.dumps(threading.Lock(), "result[3]")

    assert (caught.value.direction, caught.value.path) == ("to caller", "result[3]")
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_codec_that_has_failed_goes_on(parent, worker):
    with pytest.raises(SerializationError):
        parent.dumps(threading.Lock())

    assert worker.loads(received(parent.dumps([1]))) == [1]


def open_fds():
    return set(os.listdir("/proc/self/fd"))


def test_handles_bring_descriptors_which_are_closed_afterwards(parent, worker):
    read, write = os.pipe()
    before = open_fds()
    encoded = parent.dumps(functools.partial(print, Handle(read)))
    assert len(encoded.fds) == 1

    arrived = worker.loads(received(encoded)).args[0]

    os.write(write, b"x")
    assert os.read(arrived.fd, 1) == b"x"
    os.close(arrived.fd)
    assert open_fds() == before
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("extra", [None, lambda: 0, threading.Lock()])
def test_no_descriptor_is_left_by_a_failure_or_an_unsent_object(extra, parent):
    """Whichever pickler failed, and whichever took over."""
    read, write = os.pipe()
    before = open_fds()
    try:
        encoded = parent.dumps([Handle(read), extra])
    except SerializationError:
        pass
    else:
        assert len(encoded.fds) == 1
        encoded.close()
        encoded.close()

    assert open_fds() == before
    os.close(read)
    os.close(write)


def test_descriptors_are_closed_when_loading_fails(parent, worker):
    read, write = os.pipe()
    before = open_fds()
    encoded = parent.dumps([functools.partial(Handle, read)])
    encoded = Encoded(b"not a pickle", [], [os.dup(read)])

    with pytest.raises(Exception, match=r"."):
        worker.loads(encoded)

    assert open_fds() == before
    os.close(read)
    os.close(write)


class TwoArgumentsError(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


def test_exceptions_are_fine_as_data(parent, worker):
    """Plain pickle fails to load an exception whose constructor wants more than its text."""
    try:
        raise TwoArgumentsError(3, "no")
    except TwoArgumentsError as caught:
        error = caught

    (back,) = worker.loads(received(parent.dumps([error])))

    assert type(back) is TwoArgumentsError
    assert (str(back), back.code) == ("3: no", 3)
    assert back.__traceback__.tb_frame.f_code.co_name == "test_exceptions_are_fine_as_data"


def test_tracebacks_are_fine_as_data(parent, worker):
    try:
        raise ValueError
    except ValueError as caught:
        tb = caught.__traceback__

    back = worker.loads(received(parent.dumps({"tb": tb})))["tb"]

    assert back.tb_lineno == tb.tb_lineno


def test_threads_may_use_codecs_at_the_same_time():
    failures = []

    def go():
        for number in range(200):
            parent, worker = Codec("to worker"), Codec("to caller")
            back = worker.loads(received(parent.dumps(lambda n=number: n)))
            if back() != number:
                failures.append(number)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


HEAVY = "cloudpickle tblib typing re logging dataclasses inspect multiprocessing subprocess asyncio"


def test_the_codec_imports_little():
    """A worker pays for these at each start."""
    code = (
        "import sys, types; package = types.ModuleType('parmap');"
        f"package.__path__ = [{os.path.dirname(sys.modules['parmap'].__file__)!r}];"
        "sys.modules['parmap'] = package; import parmap._wire.payload, parmap._wire.frames;"
        f"print(*set(sys.modules) & set({HEAVY.split()!r}))"
    )
    printed = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True
    )

    assert printed.stdout.split() == []


def test_what_was_pickled_says_how_much_it_is(parent):
    encoded = parent.dumps(np.zeros(OUT_OF_BAND_FROM))

    assert repr(encoded) == f"<Encoded {encoded.nbytes} bytes | 1 buffers, 0 fds>"


def test_ctrl_c_while_pickling_is_no_refusal_and_leaves_nothing_open(parent):
    class Interrupting:
        def __reduce__(self):
            raise KeyboardInterrupt

    before = open_fds()
    with pytest.raises(KeyboardInterrupt):
        parent.dumps([Handle(0), Interrupting()])
    assert open_fds() == before


def test_an_object_pickled_inline_arrives_in_the_same_scope(parent, worker):
    class Local:
        pass

    make = worker.loads_inline(parent.dumps_inline(lambda: Local))
    assert make() is make()
    assert worker.loads_inline(parent.dumps_inline({"a": 1})) == {"a": 1}


def round_trip(obj, parent, worker):
    """By value, as an object that opens a call."""
    return worker.loads(parent.dumps((lambda: 0, obj)))[1]


def test_an_unfilled_cell_stays_empty(parent, worker):
    def outer(*, fills):
        def inner():
            return never

        if fills:
            never = 1
        return inner

    with pytest.raises(NameError, match="never"):
        round_trip(outer(fills=False), parent, worker)()


def test_views_of_memory_arrive_in_their_shape_also_strided_ones(parent, worker):
    whole = memoryview(bytes(range(12)))
    table = whole.cast("B", (3, 4))
    assert round_trip(table, parent, worker).tolist() == table.tolist()
    assert round_trip(whole[::3], parent, worker).tolist() == [0, 3, 6, 9]
    numbers = memoryview(array.array("i", [1, 2]))
    assert round_trip(numbers, parent, worker).tolist() == [1, 2]


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_standard_stream_arrives_as_the_other_sides(name, parent, worker, monkeypatch):
    """As a logging handler of the caller's shall write where the worker's output goes."""
    here, there = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, name, here)
    sent = parent.dumps((lambda: 0, here))
    monkeypatch.setattr(sys, name, there)

    assert worker.loads(sent)[1] is there


def test_files_are_refused(parent, tmp_path):
    with (
        (tmp_path / "file").open("w") as file,
        pytest.raises(SerializationError, match="open file"),
    ):
        parent.dumps((lambda: 0, file))


def test_builtin_singletons_keep_their_types(parent, worker):
    for kind in (type(None), type(...), type(NotImplemented)):
        assert round_trip(kind, parent, worker) is kind
    assert round_trip(dataclasses.MISSING, parent, worker) is dataclasses.MISSING


def test_a_module_that_nobody_can_import_goes_by_value_and_others_by_name(parent, worker):
    made = types.ModuleType("made_up", "about it")
    made.__dict__["value"] = 3
    arrived = round_trip(made, parent, worker)
    assert (arrived.value, arrived.__doc__, arrived is made) == (3, "about it", False)
    assert round_trip(types, parent, worker) is types


def test_a_cached_function_that_can_be_imported_is_itself_also_beside_a_lambda(parent, worker):
    """A copy would begin with an empty cache, in each call."""
    cached = urllib.parse.urlsplit
    assert isinstance(cached, type(functools.lru_cache(len)))
    assert round_trip(cached, parent, worker) is cached


def test_an_exception_beside_a_lambda_arrives_with_its_traceback(parent, worker):
    try:
        raise TwoArgumentsError(3, "no")
    except TwoArgumentsError as caught:
        back = round_trip(caught, parent, worker)

    assert (type(back), str(back), back.code) == (TwoArgumentsError, "3: no", 3)
    assert back.__traceback__.tb_frame.f_code.co_name == (
        "test_an_exception_beside_a_lambda_arrives_with_its_traceback"
    )


def test_a_class_of_c_code_that_has_no_place_is_refused_by_its_name(parent):
    kind = type(iter(()))
    with pytest.raises(SerializationError, match=r"not found as builtins\.tuple_iterator"):
        parent.dumps(kind)


def test_a_function_of_c_code_that_is_not_at_its_place_any_more_is_refused(parent, monkeypatch):
    """Its place has been patched, and the caller has kept the real one."""
    real = time.sleep
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(SerializationError, match=r"not the same object as time\.sleep"):
        parent.dumps(real)


# ---------------------------------------------------------------- objects that pickle as a name


class Marker:
    """Compared by `is`, and pickled as the name of the global that it is."""

    def __init__(self, why):
        self.why = why

    def __reduce__(self):
        return "LEFT_OUT"


@pytest.fixture
def left_out(monkeypatch):
    """A global of ``__main__``: a worker has another ``__main__``."""
    marker = Marker("nobody said")
    vars(marker)["__module__"] = "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "LEFT_OUT", marker, raising=False)
    return marker


def test_a_global_of_main_is_one_object_per_call_there_and_comes_back_as_itself(
    left_out, parent, worker
):
    one, two = worker.loads(parent.dumps([left_out, left_out]))
    assert one is two
    assert one is not left_out
    assert one.why == "nobody said"
    assert worker.loads_inline(parent.dumps_inline(left_out)) is one

    assert parent.loads(worker.dumps(one)) is left_out


def test_it_comes_back_as_itself_also_by_another_way_than_its_calls(left_out, parent, worker):
    """As the failure of an initializer does, which ends calls that have not sent anything yet."""
    there = worker.loads(parent.dumps(left_out))
    sent = worker.dumps(there)

    assert Codec("to worker").loads(sent) is left_out


def test_one_that_was_made_there_arrives_as_a_copy(left_out, parent, worker):
    """Only what came from the caller is known to be the caller's."""
    worker.loads(parent.dumps(left_out))
    made = Marker("made there")
    vars(made)["__module__"] = "__main__"

    back = Codec("to worker").loads(worker.dumps(made))

    assert back is not left_out
    assert back.why == "made there"

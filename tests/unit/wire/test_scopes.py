"""Classes and globals of one call: known by their ids, forgotten when they are gone."""

from __future__ import annotations

import gc
import os
import pickle

import pytest

from parmap._wire import scopes
from parmap._wire.payload import pack_values, unpack
from parmap._wire.pickling import Codec
from parmap._wire.scopes import Loading, Scope, adopt_class, id_of
from support.handles import Handle


def sent(obj, codec):
    """One item on its way."""
    return pack_values([obj], codec, "args[{}]".format)


def arrives(payload, codec):
    (item,) = unpack(payload.whole(), payload.fds, payload.block, codec)
    return item.load()


def test_two_threads_that_ask_for_the_id_of_a_class_at_once_hear_the_same(monkeypatch):
    """Else the items of one call would have two classes in a worker."""

    class Shared:
        pass

    heard = []

    def while_another_asks(count):
        monkeypatch.undo()
        heard.append(id_of(Shared))
        return bytes(count)

    monkeypatch.setattr(os, "urandom", while_another_asks)
    heard.append(id_of(Shared))

    assert heard == [id_of(Shared)] * 2


def adopted(kept, class_id, scope):
    """Unpickle a class by value with a metaclass that hands out the one it has kept."""
    return Loading(scope, {}).run(
        lambda class_id, buffers: adopt_class(class_id, lambda: kept[0], ()), class_id
    )


def test_a_class_that_arrived_twice_is_forgotten_in_both_calls():
    """A metaclass that a worker imports may hand out a class that it has made before."""
    kept = [type("Kept", (), {})]
    gc.collect()  # what other tests have left
    known = len(scopes._ids), len(scopes._classes)
    for class_id in (b"in one call", b"in another"):
        scope = Scope(joins=True)
        assert adopted(kept, class_id, scope) is kept[0]
        assert scope.knows(kept[0]) == class_id
    assert len(scopes._classes) == known[1] + 2

    kept.clear()
    del scope
    gc.collect()

    assert (len(scopes._ids), len(scopes._classes)) == known


def test_a_function_that_is_unpickled_by_others_than_parmap_says_so(parent):
    with pytest.raises(LookupError, match="unpickled outside of parmap"):
        pickle.loads(parent.dumps(lambda: 0).data)


def test_an_object_whose_class_is_gone_says_so(parent, worker):
    """It came back after the call had ended, to a process that has dropped the class."""

    class Passing:
        pass

    there = worker.loads(parent.dumps(Passing()))
    back = worker.dumps(there)
    parent.scope.classes.clear()
    del Passing
    gc.collect()

    with pytest.raises(LookupError, match="does not exist any more in this process"):
        parent.loads(back)


def test_a_class_is_sent_as_it_was_when_the_call_first_needed_it(parent, worker):
    class Tuned:
        level = 1

    first = sent(Tuned(), parent)
    Tuned.level = 2
    second = sent(Tuned(), parent)

    for each in (first, second):  # each by itself: a worker may get the second alone
        assert arrives(each, Codec("to caller")).level == 1
    assert type(arrives(first, worker)) is type(arrives(second, worker))


def test_a_class_that_holds_a_handle_brings_it_along_to_each_worker(parent):
    read, write = os.pipe()

    class Logger:
        to = Handle(write)

    try:
        for text in (b"first", b"second"):
            there = arrives(sent(Logger(), parent), Codec("to caller"))
            os.write(there.to.fd, text)
            os.close(there.to.fd)
            assert os.read(read, 100) == text
    finally:
        os.close(read)
        os.close(write)

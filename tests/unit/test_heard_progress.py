"""Somebody else than a terminal is told how far work is."""

import threading

import pytest

from ibd.distributed import heard_by, progress


def test_every_part_is_told():
    told = []
    with heard_by(lambda *said: told.append(said)):
        assert list(progress([10, 20], "adding")) == [10, 20]
        list(progress(iter("a"), "unknown"))
        list(progress(iter("ab"), "known", total=2))
    assert told == [("adding", 0, 2), ("adding", 1, 2), ("adding", 2, 2), ("unknown", 0, 0), ("unknown", 1, 0),
                    ("known", 0, 2), ("known", 1, 2), ("known", 2, 2)]  # fmt: skip
    list(progress([1], "after"))
    assert len(told) == 8


def test_what_it_raises_ends_the_work():
    done = []

    def stop(title, count, total):
        if count == 1:
            raise KeyError("enough")

    with heard_by(stop):
        work = progress(range(5), "counting")
        with pytest.raises(KeyError):
            done.extend(work)
    assert done == [0]


def test_other_threads_are_not_told():
    told = []
    with heard_by(lambda *said: told.append(said)):
        other = threading.Thread(target=lambda: list(progress([1, 2], "elsewhere")))
        other.start()
        other.join()
    assert told == []

"""Batches made ahead: their order, their errors, and an end of the threads that make them."""

from __future__ import annotations

import random
import threading
import time

import pytest

from reid_train.data.prefetch import prefetch


def at_work() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_order_is_kept_and_errors_are_raised_in_place():
    def faulty():
        yield from range(5)
        raise ValueError("damaged image")

    items = prefetch(faulty())
    assert [next(items) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="damaged image"):
        next(items)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_order_is_kept_whoever_is_faster(threads: int):
    pauses = random.Random(threads)
    waits = [pauses.uniform(0, 0.004) for _ in range(40)]
    asking, made = threading.Lock(), set()

    def given():
        for number in range(40):
            assert asking.acquire(blocking=False), "asked by two at once"
            time.sleep(0.0005)
            asking.release()
            yield number

    def make(number: int) -> int:
        time.sleep(waits[number])
        made.add(threading.current_thread())
        return number * number

    assert list(prefetch(given(), make, threads=threads)) == [n * n for n in range(40)]
    assert len(made) == threads and not at_work()


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_one_comes_after_what_was_before_it(threads: int):
    def make(number: int) -> int:
        if number == 4:
            raise ValueError("damaged image")
        time.sleep(0.005 if number < 4 else 0)
        return number

    found = []
    with pytest.raises(ValueError, match="damaged image"):
        for item in prefetch(range(100), make, threads=threads):
            found.append(item)
    assert found == [0, 1, 2, 3] and not at_work()


@pytest.mark.parametrize("threads", [1, 4])
def test_it_stops_when_nobody_listens(threads: int):
    begun = []

    def endless():
        number = 0
        while True:
            begun.append(number)
            yield number
            number += 1

    items = prefetch(endless(), threads=threads, depth=2)
    next(items)
    time.sleep(0.02)
    items.close()
    assert not at_work()
    assert len(begun) <= 4  # one was taken, two are ahead, and the end let one more begin


def test_work_overlaps():
    def slow():
        for number in range(5):
            time.sleep(0.05)
            yield number

    begin = time.monotonic()
    for _ in prefetch(slow()):
        time.sleep(0.05)
    assert time.monotonic() - begin < 0.45  # 0.5 one after the other, 0.3 overlapped

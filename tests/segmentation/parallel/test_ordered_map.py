import gc
import itertools
import threading
import time

import cv2
import pytest
import torch

from seg_pipeline.segmentation.parallel.ordered_map import MAX_WORKERS, map_in_threads, num_threads

WORKERS = pytest.mark.parametrize("workers", [0, 1, 3])


@WORKERS
def test_results_come_in_order(workers):
    def slow_if_even(number):
        time.sleep(0.002 * (number % 2 == 0))
        return number * 10

    assert list(map_in_threads(slow_if_even, range(20), workers=workers)) == list(range(0, 200, 10))
    assert list(map_in_threads(slow_if_even, [], workers=workers)) == []


@pytest.mark.parametrize(("workers", "ahead", "most"), [(0, None, 1), (2, None, 4), (2, 3, 3)])
def test_items_are_taken_as_far_ahead_as_was_said(workers, ahead, most):
    taken = []
    found = map_in_threads(
        lambda number: number, (taken.append(n) or n for n in range(50)), workers=workers, ahead=ahead
    )
    assert next(found) == 0
    assert len(taken) == most
    assert next(found) == 1
    assert len(taken) == most + 1
    assert list(found) == list(range(2, 50))


@WORKERS
def test_an_error_is_raised_in_place_of_its_result(workers):
    def refuse_three(number):
        if number == 3:
            raise ValueError("image 3 is damaged")
        return number

    found = map_in_threads(refuse_three, range(9), workers=workers)
    assert list(itertools.islice(found, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="image 3 is damaged"):
        next(found)


@WORKERS
def test_an_error_of_the_items_is_raised_too(workers):
    def items():
        yield 0
        raise OSError("disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        list(map_in_threads(int, items(), workers=workers))


def test_nothing_runs_on_when_the_consumer_stops():
    results = map_in_threads(lambda number: number, range(50), workers=3)
    next(results)
    results.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("image")]


def test_the_garbage_collector_waits_for_no_task():
    """It may close an abandoned map in a thread that holds a lock which the end of a thread takes."""
    begun, may_end = threading.Event(), threading.Event()
    numbers = []

    def task(number):
        numbers.append(number)
        if number:
            begun.set()
            assert may_end.wait(60)

    abandoned = [map_in_threads(task, range(50), workers=1)]
    abandoned.append(abandoned)  # a cycle, which the collector alone frees
    next(abandoned[0])
    assert begun.wait(60)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("image")]
    del abandoned
    gc.collect()
    assert any(thread.is_alive() for thread in threads)
    may_end.set()
    for thread in threads:
        thread.join(60)
    assert numbers == [0, 1]


def test_opencv_and_torch_use_one_thread_in_workers_and_as_many_as_before_elsewhere():
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(2)
    torch.set_num_threads(2)
    try:
        numbers = lambda _: (cv2.getNumThreads(), torch.get_num_threads())  # noqa: E731
        inner = map_in_threads(numbers, range(9), workers=2)
        outer = map_in_threads(lambda one: (one, numbers(0)), inner, workers=2)
        assert next(outer) == ((1, 1), (1, 1))
        outer.close()  # before the inner one
        inner.close()
        assert numbers(0) == (2, 2)
        fresh = []
        thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert fresh == [2]
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def test_the_default_number_of_workers():
    assert 1 <= num_threads(None) <= MAX_WORKERS
    assert [num_threads(number) for number in (0, 1, 40)] == [0, 1, 40]

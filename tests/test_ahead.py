import threading

import pytest
import torch

from glc_toolkit.ahead import ahead, share_cores


def test_the_next_result_is_computed_while_the_last_one_is_used():
    done = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            done.set()
        return 10 * item

    results = ahead(work, range(4))
    assert next(results) == 0
    assert done.wait(10)  # nobody has asked for it yet
    assert list(results) == [10, 20, 30]
    assert list(ahead(work, [])) == []


def test_work_runs_in_one_other_thread_and_items_are_read_in_this_one_one_ahead():
    here, read, threads = threading.get_ident(), [], set()

    def items():
        for item in range(5):
            assert threading.get_ident() == here
            read.append(item)
            yield item

    for i, result in enumerate(ahead(lambda item: threads.add(threading.get_ident()) or item, items())):
        assert result == i and len(read) <= i + 2
    assert len(threads) == 1 and here not in threads


def test_an_error_is_raised_in_its_turn():
    results = ahead(lambda item: 6 // item, [3, 2, 0, 1])
    assert next(results) == 2 and next(results) == 3
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_was_read_before_an_interruption_is_not_lost():
    def items():
        yield from (1, 2)
        raise KeyboardInterrupt

    results = ahead(str, items())
    assert next(results) == "1" and next(results) == "2"
    with pytest.raises(KeyboardInterrupt):
        next(results)


def test_an_iterator_that_is_left_early_ends_its_thread():
    before = threading.active_count()
    results = ahead(str, range(100))
    assert next(results) == "0" and threading.active_count() == before + 1
    results.close()
    assert threading.active_count() == before


def test_frames_that_are_in_work_at_once_share_the_cores():
    before = torch.get_num_threads()
    try:
        for threads, share in ((5, 2), (1, 1)):
            torch.set_num_threads(threads)
            share_cores()
            assert torch.get_num_threads() == share
    finally:
        torch.set_num_threads(before)

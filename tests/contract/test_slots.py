"""Inference slots are handed over in the order of asking."""

import threading

from cachesvc.adapters.slots import Slots


def test_slots_are_bounded() -> None:
    """There are as many as were made, and a released one can be had again."""
    slots = Slots(2)
    assert slots.acquire(0)
    assert slots.acquire(0)
    assert not slots.acquire(0)
    assert not slots.acquire(0.01)
    slots.release()
    assert slots.acquire(0)


def test_who_waits_goes_before_who_comes_back() -> None:
    """A thread that takes and gives a slot in a loop does not keep others from it, in their order."""
    slots, order, waiting = Slots(1), [], []
    assert slots.acquire(0)

    def wait_for_it(n: int) -> None:
        assert slots.acquire(30)
        order.append(n)
        slots.release()

    for n in range(5):
        waiting.append(threading.Thread(target=wait_for_it, args=(n,)))
        waiting[-1].start()
        while len(slots._waiting) <= n:
            threading.Event().wait(0.001)
    slots.release()
    assert slots.acquire(30)
    order.append(99)
    for thread in waiting:
        thread.join()
    assert order == [0, 1, 2, 3, 4, 99]

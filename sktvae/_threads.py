"""How processors are used: by several threads, in each of which torch computes with one thread.

The operations on a batch, or on a block of rows, are so small that threads which share an operation
would mostly wait for each other, above all while other processes use the processors.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_STARTING = threading.Lock()


def in_threads(
    function: Callable[[_Item], _Result], items: Sequence[_Item], device: torch.device
) -> list[_Result]:
    """Apply a function to items, in as many threads as torch would use for one operation.

    In each of these threads torch's operations use a single thread, also if there is one item, so
    that results do not depend on the number of threads.

    Parameters
    ----------
    function : callable
    items : sequence
    device : torch.device
        On other devices than CPUs there are no threads.

    Returns
    -------
    results : list
        In the order of the items.
    """
    n_threads = own_number()
    if device.type != "cpu" or n_threads == 1:
        return [function(item) for item in items]
    n_workers = max(1, min(n_threads, len(items)))
    pool = ThreadPoolExecutor(n_workers, thread_name_prefix="sktvae")
    try:
        _limit_to_one_thread_each(pool, n_workers, n_threads)
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)  # what is left after an error or Ctrl-C


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the context, torch computes with one thread in the thread of the caller.

    What is computed then depends neither on the number of threads nor on other processes.
    """
    n_threads = own_number()
    _use(1, n_threads)
    try:
        yield
    finally:
        _use(n_threads, n_threads)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Within the context, numbers below 1e-38 (float32) or 1e-308 are 0 in the caller's thread.

    With such numbers, an operation takes up to a hundred times as long. In long trainings there
    are more and more of them among weights that have no use, and the averages of their gradients.
    """
    before = sys.float_info.min * 0.5 == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def own_number() -> int:
    """Return how many threads torch uses in this thread.

    A thread adopts the number for all when it first asks for it, which is 1 for a moment while
    another thread limits itself. So a thread that torch is to use calls this function first.
    """
    with _STARTING:
        return torch.get_num_threads()


def _use(n_own: int, n_threads: int) -> None:
    """Let torch use `n_own` threads in this thread, and `n_threads` in threads to come."""
    with _STARTING:
        torch.set_num_threads(n_own)
        if n_own != n_threads:
            other = threading.Thread(target=torch.set_num_threads, args=(n_threads,))
            other.start()
            other.join()


def _limit_to_one_thread_each(pool: ThreadPoolExecutor, n_workers: int, n_threads: int) -> None:
    """Let torch use a single thread in each of the workers.

    `torch.set_num_threads` changes the number of the thread that calls it, and that of threads
    which have not used torch yet. So the workers call it, and the caller puts back the second.
    """
    started = threading.Barrier(n_workers)

    def limit(_: int) -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread adopts the number for all when it first asks for it
        started.wait()

    with _STARTING:
        try:
            list(pool.map(limit, range(n_workers)))
        finally:
            torch.set_num_threads(n_threads)

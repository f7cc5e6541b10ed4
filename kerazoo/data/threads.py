"""Map over items in threads of this process."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from typing import TypeVar

T = TypeVar("T")


def in_threads(function: Callable[[int], T], items: Iterable[int]) -> Iterable[T]:
    """Map in order, a few items ahead; Pillow and NumPy release the interpreter lock while they decode."""
    threads = min(16, 2 * (cpu_count() or 1))
    with ThreadPoolExecutor(max_workers=threads) as pool:
        ahead: deque[Future[T]] = deque()
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > 4 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

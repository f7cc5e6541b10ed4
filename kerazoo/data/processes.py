"""Map over items in other processes, which start from a clean interpreter and end when this one does."""

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, BinaryIO, cast

_CHILD = "from kerazoo.data.processes import serve; serve()"


@contextmanager
def in_processes(function: Callable[[int], Any], items: Sequence[int], workers: int) -> Iterator[Iterator[Any]]:
    """Results of `function` for `items`, in order, computed a few ahead by `workers` processes.

    Unlike those of `multiprocessing`, the processes do not run the caller's script again, so that it needs no
    `if __name__ == "__main__":`, and none is left when this process is killed.

    Args:
        function: Pickled once for each process. What it raises is raised here.
        items: What it is called with.
        workers: Number of processes; 1 calls the function in this one.

    Raises:
        ValueError: the function cannot be pickled, or not be made again in another process.
        RuntimeError: a process was killed.
    """
    if workers == 1 or len(items) < 2:
        yield map(function, items)
        return
    try:
        pickled = pickle.dumps(function)
    except Exception as error:
        raise ValueError(f"The source cannot be sent to other processes ({error}). Pass workers=1.") from error
    children = [_Child(pickled) for _ in range(min(workers, len(items)))]
    idle: SimpleQueue[_Child] = SimpleQueue()
    for child in children:
        idle.put(child)

    def ask(item: int) -> Any:
        child = idle.get()
        try:
            return child.ask(item)
        finally:
            idle.put(child)

    pool = ThreadPoolExecutor(len(children))
    try:
        yield _ahead(pool, ask, items, 4 * len(children))
    finally:
        for child in children:
            child.stop()
        pool.shutdown(cancel_futures=True)


def serve() -> None:
    """What a child does: read the function, then items, and answer each with (True, result) or (False, error)."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # nobody reads them any more: end, without a word
    try:
        function = pickle.loads(pickle.load(requests))
        _answer(answers, (True, None))
    except Exception as error:
        advice = "Define its classes in a module that can be imported, or pass workers=1."
        _answer(answers, (False, ValueError(f"The source cannot be made in other processes ({error}). {advice}")))
        return
    while True:
        try:
            item = pickle.load(requests)
        except EOFError:
            return
        try:
            result = (True, function(item))
        except Exception as error:
            result = (False, error)
        _answer(answers, result)


def _answer(answers: BinaryIO, result: tuple[bool, Any]) -> None:
    try:
        content = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
        pickle.loads(content) if not result[0] else None  # some errors cannot be made again
    except Exception:
        content = pickle.dumps((False, RuntimeError(f"{type(result[1]).__name__}: {result[1]}")))
    answers.write(content)
    answers.flush()


class _Child:
    """A process that has the function."""

    def __init__(self, pickled: bytes):
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,  # an interrupt from the keyboard is for the parent
        )
        self._pickled: bytes | None = pickled

    def ask(self, item: int) -> Any:
        """The function's result."""
        if self._pickled is not None:
            self._exchange(self._pickled)
            self._pickled = None
        return self._exchange(item)

    def _exchange(self, message: Any) -> Any:
        try:
            pickle.dump(message, cast(BinaryIO, self._process.stdin), pickle.HIGHEST_PROTOCOL)
            cast(BinaryIO, self._process.stdin).flush()
            good, result = pickle.load(cast(BinaryIO, self._process.stdout))
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise RuntimeError(
                f"A process that decodes images ended with exit code {self._process.wait()}. If memory ran out, pass "
                "fewer `workers`."
            ) from error
        if not good:
            raise result
        return result

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # something is left that was not sent
                cast(BinaryIO, pipe).close()


def _ahead(pool: ThreadPoolExecutor, ask: Callable[[int], Any], items: Sequence[int], most: int) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    for item in items:
        waiting.append(pool.submit(ask, item))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()

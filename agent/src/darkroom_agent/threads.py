"""Threads that run for as long as a context lasts. Touches nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import getLogger

from darkroom_agent.clock import Clock

log = getLogger(__name__)


@contextmanager
def repeating(name: str, clock: Clock, seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call something regularly, in a thread of its own. When it raises, that is logged, and it is called again."""
    ended = threading.Event()

    def repeat() -> None:
        while not clock.wait(ended, seconds):
            try:
                call()
            except Exception:
                log.exception("%s failed", name)

    with running(name, repeat):
        try:
            yield
        finally:
            ended.set()


@contextmanager
def running(name: str, call: Callable[[], None]) -> Iterator[None]:
    """Call something in a thread, and wait for its end at the end of the context."""
    thread = threading.Thread(target=call, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()

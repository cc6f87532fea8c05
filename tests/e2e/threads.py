"""Threads in which nothing goes wrong unnoticed. It starts threads, and nothing else."""

import logging
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


class Threads:
    """The threads of ``owner``: what is raised in one is kept, until they are told to stop."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._errors: list[Exception] = []
        #: Set when they are to end: what is raised from then on is their end's.
        self.stopping = threading.Event()

    def run(self, name: str, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        """Start one."""

        def guarded() -> None:
            try:
                work(*arguments)
            except Exception as error:
                if not self.stopping.is_set():
                    logger.exception("%s failed", name)
                    self._errors.append(error)

        thread = threading.Thread(target=guarded, name=f"{self._owner} {name}", daemon=True)
        thread.start()
        return thread

    def check(self) -> None:
        """Raise what was raised in one of them."""
        if self._errors:
            raise RuntimeError(f"the stand-in of the {self._owner} failed") from self._errors[0]

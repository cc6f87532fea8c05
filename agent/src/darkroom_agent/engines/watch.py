"""Whether an engine can be trusted with another job: one that fails job after job has to be restarted.

The engine's liveness probe asks for it: Kubernetes restarts the engine, and the agent sees it go away and come back.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger

from darkroom_agent.engines.base import RuntimeEngine
from darkroom_agent.errors import EngineFailedError, EngineLostError, TimedOutError

log = getLogger(__name__)

_MOST_FAILURES = 3
#: After this time the engine is tried again: where no probe restarts it, somebody may have mended it.
_DISTRUST_SECONDS = 600


class EngineWatch:
    """Counts the failures of an engine since its last success."""

    def __init__(self, engine: RuntimeEngine) -> None:
        self._engine = engine
        self._failed_jobs: list[str] = []
        self._last_failure = 0.0
        #: Whether jobs may be received, as of the last ``look``.
        self.is_ready = False

    @property
    def is_trusted(self) -> bool:
        """Whether it does not fail job after job. One job alone that fails again and again may itself be at fault."""
        return len(self._failed_jobs) < _MOST_FAILURES or len(set(self._failed_jobs)) == 1

    def look(self) -> bool:
        """Ask the engine whether it takes jobs. Once it has been away, its failures are those of another."""
        answers = self._engine.is_ready()
        is_over = not self.is_trusted and time.monotonic() - self._last_failure > _DISTRUST_SECONDS
        if not answers or is_over:
            self._failed_jobs.clear()
        was_ready, self.is_ready = self.is_ready, answers and self.is_trusted
        if not self.is_ready:
            log.info("waiting for the runtime", extra={"answers": answers, "trusted": self.is_trusted})
        elif not was_ready:
            log.info("runtime ready")
        return self.is_ready

    @contextmanager
    def generating(self, job_id: str) -> Iterator[None]:
        """Note what comes of a job."""
        try:
            yield
        except (EngineFailedError, EngineLostError, TimedOutError):
            self._failed_jobs.append(job_id)
            self._last_failure = time.monotonic()
            raise
        self._failed_jobs.clear()

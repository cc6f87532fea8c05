"""Whether an engine can be trusted with another job: one that hangs, or fails job after job, has to be restarted.

The engine's liveness probe asks for it: Kubernetes restarts the engine, and the agent sees it go away and come back.
Jobs that no engine could do, pictures too large for its GPU say, are no reason for that: a web UI that answers job
after job with an error is tried out first. ComfyUI is not: it might answer from its cache.
"""

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger

from pydantic import JsonValue

from darkroom_agent.clock import Clock
from darkroom_agent.engines.base import Presence, Run, RuntimeEngine
from darkroom_agent.errors import (
    AgentError,
    EngineFailedError,
    EngineLostError,
    HandedBackError,
    PermanentError,
    TimedOutError,
)
from darkroom_agent.settings import Settings
from darkroom_contract.job import Api, Job
from darkroom_contract.types import DEFAULT_TENANT, Engine, Task, utcnow

log = getLogger(__name__)

#: Of different jobs, or of the warm-up: one or two jobs that fail again and again may themselves be at fault.
_MOST_FAILURES = 3
_WARM_UP = "warm-up"
#: After so many trials without a job that was done, the jobs are not the only ones at fault.
_MOST_TRIALS = 3
#: What every web UI with a model can do.
_TRIAL: dict[str, JsonValue] = {"prompt": "", "steps": 1, "width": 512, "height": 512}
_REMEMBERED = 20
#: After this time the engine is tried again: where no probe restarts it, somebody may have mended it.
_DISTRUST_SECONDS = 600
#: How long an engine may be silent that has nothing to do: as long as a large model takes to load.
_SILENCE_SECONDS = 300
_SAY_SECONDS = 60
#: A good answer holds so long.
_GOOD_SECONDS = 1.0


class EngineWatch:
    """Knows how an engine fares. ``look`` is for one thread; ``generating`` for any."""

    def __init__(self, engine: RuntimeEngine, settings: Settings, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._timeout = settings.job_timeout_seconds
        self._warmup = _own_job(_WARM_UP, settings.warmup, settings)
        self._trial = _own_job("trial", _TRIAL if settings.engine is Engine.SDWEBUI else None, settings)
        #: The warm-up or the trial that runs.
        self._own_run: Run | None = None
        self._is_warm = False
        self._url = settings.runtime_url
        self._why: tuple[str, bool, bool] | None = None
        self._say_again_at = 0.0
        self._failed_jobs: deque[str] = deque(maxlen=_REMEMBERED)
        #: Whether it answered each of them: none took too long, or was lost.
        self._has_answered = True
        #: Trials that it passed since it did a job; all that it may have, once it failed one.
        self._trials = 0
        self._last_failure = 0.0
        self._good_until = 0.0
        #: Since when the engine has been there, with nothing to do, and has given no good answer.
        self._silent_since = math.inf
        #: Whether jobs may be received, as of the last ``look``.
        self.is_ready = False

    @property
    def is_trusted(self) -> bool:
        """Whether it should have another job: it neither hangs nor fails job after job."""
        return not self._is_doubted and not self.needs_restart

    @property
    def needs_restart(self) -> bool:
        """Whether it hangs, or fails job after job and cannot be tried out any more."""
        silent_for = self._clock.now() - self._silent_since
        hangs = silent_for > _SILENCE_SECONDS or self._engine.is_hung
        return hangs or (self._is_doubted and not self._may_be_tried)

    @property
    def _is_doubted(self) -> bool:
        return max(len(set(self._failed_jobs)), self._failed_jobs.count(_WARM_UP)) >= _MOST_FAILURES

    @property
    def _may_be_tried(self) -> bool:
        has_answered = self._has_answered and _WARM_UP not in self._failed_jobs
        return self._trial is not None and has_answered and self._trials < _MOST_TRIALS

    def look(self, *, is_busy: bool) -> bool:
        """Whether the engine takes jobs. It is not asked while it works, as long as nothing fails.

        Once it has been away, its failures are those of another, and it has to warm up. One that is doubted is tried
        out as soon as it has nothing to do, and nothing waits for it.
        """
        if self.is_ready and self._good_until and (is_busy or self._clock.now() < self._good_until):
            return True
        presence = self._engine.presence()
        if presence is not Presence.BUSY:
            self._silent_since = math.inf
        elif self._silent_since == math.inf and not is_busy:
            self._silent_since = self._clock.now()
        is_over = self.needs_restart and self._clock.now() - self._last_failure > _DISTRUST_SECONDS
        if presence is Presence.AWAY or is_over:
            self._forgive()
            self._trials = 0
            self._is_warm = False
        was_ready = self.is_ready
        # It is once not ready before a trial, so that the jobs that wait for it go back, and not into it.
        self.is_ready = (
            presence is Presence.READY
            and not self.needs_restart
            and (not self._is_doubted or (not was_ready and not is_busy and self._passes_trial()))
            and (self._is_warm or self._warm_up())
        )
        self._good_until = self._clock.now() + _GOOD_SECONDS
        if self.is_ready and not was_ready:
            self._why = None
            log.info("runtime ready")
        elif not self.is_ready:
            self._say_why(presence)
        return self.is_ready

    def _say_why(self, presence: Presence) -> None:
        """Log why nothing is received: when that changes, and every minute."""
        why = (presence.name, self.is_trusted, self.needs_restart)
        if why == self._why and self._clock.now() < self._say_again_at:
            return
        self._why, self._say_again_at = why, self._clock.now() + _SAY_SECONDS
        extra = {
            "presence": presence.name,
            "trusted": self.is_trusted,
            "needs_restart": self.needs_restart,
            "failed_jobs": sorted(set(self._failed_jobs)) or None,
        }
        log.warning("waiting for the runtime", extra={"runtime_url": self._url, **extra})

    @contextmanager
    def generating(self, job: str) -> Iterator[None]:
        """Note what comes of a job, whose name no other has."""
        try:
            yield
        except (EngineFailedError, EngineLostError, TimedOutError) as error:
            self._failed_jobs.append(job)
            self._has_answered &= isinstance(error, EngineFailedError)
            self._last_failure = self._clock.now()
            self._good_until = 0.0
            if isinstance(error, EngineLostError):
                self._is_warm = False
            raise
        except AgentError:
            self._good_until = 0.0
            raise
        self._forgive()
        self._trials = 0

    def _forgive(self) -> None:
        self._failed_jobs.clear()
        self._has_answered = True

    def stop(self) -> None:
        """End the warm-up or the trial, should one run."""
        run = self._own_run
        if run is not None:
            run.abort(HandedBackError())

    def _warm_up(self) -> bool:
        """Run the warm-up job, so that the first client does not wait for the model; whether the engine is warm."""
        if self._warmup is None:
            return True
        began = self._clock.now()
        try:
            with self.generating(_WARM_UP):
                self._generate(self._warmup, self._timeout)
        except PermanentError as error:
            log.error("the warm-up job is wrong", extra={"reason": error.message})  # noqa: TRY400 - no fault of the code
        except AgentError as error:
            log.warning("warm-up failed", extra={"reason": str(error)})
            return False
        except Exception:
            log.exception("warm-up failed")
            return False
        self._is_warm = True
        log.info("runtime warm", extra={"seconds": round(self._clock.now() - began, 3)})
        return True

    def _passes_trial(self) -> bool:
        """Whether the engine does the trial, so that the jobs that failed were at fault. If not, it needs a restart."""
        if self._trial is None:
            return False
        try:
            self._generate(self._trial, min(self._timeout, _SILENCE_SECONDS))
        except HandedBackError:
            return False
        except PermanentError as error:
            # It has no checkpoint of its own, say, and is none the worse for it.
            log.warning("trial refused", extra={"reason": error.message})
        except Exception as error:  # noqa: BLE001 - whatever it was, it was no picture
            log.warning("trial failed", extra={"reason": str(error)})
            self._trials, self._last_failure = _MOST_TRIALS, self._clock.now()
            return False
        else:
            log.warning("trial passed", extra={"failed_jobs": sorted(set(self._failed_jobs))})
        self._trials += 1
        self._forgive()
        return True

    def _generate(self, job: Job, seconds: float) -> None:
        """Have the engine do a job of the agent's own."""
        run = self._own_run = Run(self._clock, seconds)
        try:
            self._engine.generate(job, run)
        finally:
            self._own_run = None


def _own_job(name: str, content: dict[str, JsonValue] | None, settings: Settings) -> Job | None:
    if content is None:
        return None
    return Job(
        api=Api.DIRECT,
        job_id=name,
        tenant=DEFAULT_TENANT,
        label=name,
        runtime=settings.runtime_name,
        task=Task.PIPELINE if settings.engine is Engine.COMFYUI else Task.TEXT_TO_IMAGE,
        content=content,
        submitted_at=utcnow(),
    )

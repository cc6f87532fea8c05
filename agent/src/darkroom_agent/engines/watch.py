"""Whether an engine can be trusted with another job: one that hangs, or fails job after job, has to be restarted.

The engine's liveness probe asks for it: Kubernetes restarts the engine, and the agent sees it go away and come back.
Jobs that no engine could do, pictures too large for its GPU say, are no reason: one that fails them is tried out.
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

#: Of different jobs, or of the trial: one or two jobs that fail again and again may themselves be at fault.
_MOST_FAILURES = 3
_TRIAL = "warm-up"
#: What every web UI can do, where the runtime has no warm-up job. What nodes and models a ComfyUI has, nobody knows.
_WEB_UI_TRIAL: dict[str, JsonValue] = {"prompt": "", "steps": 1, "width": 512, "height": 512}
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
        #: A job that a sound engine can do.
        self._trial = _trial_job(settings)
        self._trial_run: Run | None = None
        #: Whether the engine has to warm up by it, whenever it comes.
        self._begins_with_trial = settings.warmup is not None
        self._is_tried = not self._begins_with_trial
        self._url = settings.runtime_url
        self._why: tuple[str, bool] | None = None
        self._say_again_at = 0.0
        self._failed_jobs: deque[str] = deque(maxlen=_REMEMBERED)
        self._last_failure = 0.0
        self._good_until = 0.0
        #: Since when the engine has been there, with nothing to do, and has given no good answer.
        self._silent_since = math.inf
        #: Whether jobs may be received, as of the last ``look``.
        self.is_ready = False

    @property
    def is_trusted(self) -> bool:
        """Whether it needs no restart: it neither hangs nor fails its trial, or job after job where it has none."""
        silent_for = self._clock.now() - self._silent_since
        if silent_for > _SILENCE_SECONDS or self._engine.is_hung:
            return False
        has_failed = self.is_doubted if self._trial is None else self._failed_jobs.count(_TRIAL) >= _MOST_FAILURES
        return not has_failed

    @property
    def is_doubted(self) -> bool:
        """Whether it has failed so many different jobs in a row that no job should go to it before it is tried out."""
        return len(set(self._failed_jobs)) >= _MOST_FAILURES

    def look(self, *, is_busy: bool) -> bool:
        """Whether the engine takes jobs. It is not asked while it works, as long as nothing fails.

        Once it has been away, its failures are those of another, and it has to warm up. One that is doubted is tried
        out, by the same job.
        """
        if self.is_ready and self._good_until and (is_busy or self._clock.now() < self._good_until):
            return True
        presence = self._engine.presence()
        if presence is not Presence.BUSY:
            self._silent_since = math.inf
        elif self._silent_since == math.inf and not is_busy:
            self._silent_since = self._clock.now()
        is_over = not self.is_trusted and self._clock.now() - self._last_failure > _DISTRUST_SECONDS
        if presence is Presence.AWAY or is_over:
            self._failed_jobs.clear()
            self._is_tried = not self._begins_with_trial
        was_ready = self.is_ready
        is_sound = presence is Presence.READY and self.is_trusted
        needs_trial = self.is_doubted or not self._is_tried
        self.is_ready = is_sound and (not needs_trial or (not is_busy and self._try_out()))
        self._good_until = self._clock.now() + _GOOD_SECONDS
        if self.is_ready and not was_ready:
            self._why = None
            log.info("runtime ready")
        elif not self.is_ready:
            self._say_why(presence)
        return self.is_ready

    def _say_why(self, presence: Presence) -> None:
        """Log why nothing is received: when that changes, and every minute."""
        why = (presence.name, self.is_trusted)
        if why == self._why and self._clock.now() < self._say_again_at:
            return
        self._why, self._say_again_at = why, self._clock.now() + _SAY_SECONDS
        extra = {
            "presence": presence.name,
            "trusted": self.is_trusted,
            "failed_jobs": sorted(set(self._failed_jobs)) or None,
        }
        log.warning("waiting for the runtime", extra={"runtime_url": self._url, **extra})

    @contextmanager
    def generating(self, job_id: str) -> Iterator[None]:
        """Note what comes of a job."""
        try:
            yield
        except (EngineFailedError, EngineLostError, TimedOutError) as error:
            self._failed_jobs.append(job_id)
            self._last_failure = self._clock.now()
            self._good_until = 0.0
            if isinstance(error, EngineLostError):
                self._is_tried = not self._begins_with_trial
            raise
        except AgentError:
            self._good_until = 0.0
            raise
        self._failed_jobs.clear()

    def stop(self) -> None:
        """End the trial, should one run."""
        if self._trial_run is not None:
            self._trial_run.abort(HandedBackError())

    def _try_out(self) -> bool:
        """Run the trial, so that the first client does not wait for the model; whether the engine can do it."""
        if self._trial is None:
            return True
        run = self._trial_run = Run(self._clock, self._timeout)
        began, blamed = self._clock.now(), sorted(set(self._failed_jobs) - {_TRIAL})
        try:
            with self.generating(_TRIAL):
                self._engine.generate(self._trial, run)
        except PermanentError as error:
            log.error("the warm-up job is wrong", extra={"reason": error.message})  # noqa: TRY400 - no fault of the code
            self._trial, self._is_tried = None, True
            return not self.is_doubted
        except AgentError as error:
            log.warning("warm-up failed", extra={"reason": str(error)})
            return False
        except Exception:
            log.exception("warm-up failed")
            return False
        finally:
            self._trial_run = None
        self._is_tried = True
        log.info("runtime warm", extra={"seconds": round(self._clock.now() - began, 3)})
        if blamed:
            log.warning("the runtime works: the jobs that failed are at fault", extra={"failed_jobs": blamed})
        return True


def _trial_job(settings: Settings) -> Job | None:
    content = settings.warmup
    if content is None and settings.engine is Engine.SDWEBUI:
        content = _WEB_UI_TRIAL
    if content is None:
        return None
    return Job(
        api=Api.DIRECT,
        job_id=_TRIAL,
        tenant=DEFAULT_TENANT,
        label=_TRIAL,
        runtime=settings.runtime_name,
        task=Task.PIPELINE if settings.engine is Engine.COMFYUI else Task.TEXT_TO_IMAGE,
        content=content,
        submitted_at=utcnow(),
    )

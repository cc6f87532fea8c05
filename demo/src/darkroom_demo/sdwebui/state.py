"""What the web UI's /progress reports about the running request: modules/shared_state.py."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from typing import Any

from darkroom_demo.drawing import Preview


@dataclass
class State:
    """Where the running request is, and whether it is to end early; times are seconds of the monotonic clock."""

    skipped: bool = False
    interrupted: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0
    time_start: float = 0.0
    preview: Preview | None = None
    # Ends the running batch between two steps, for either reason.
    stop: Event = field(default_factory=Event)

    def begin(self, job: str) -> None:
        """Start a request; what was asked of the one before is forgotten."""
        self.skipped = self.interrupted = False
        self.stop.clear()
        self.job, self.job_count, self.job_no, self.sampling_step = job, -1, 0, 0
        self.job_timestamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        self.time_start = time.monotonic()
        self.preview = None

    def end(self) -> None:
        """Be idle again."""
        self.job, self.job_count, self.preview = "", 0, None

    def interrupt(self) -> None:
        """End the request between two steps."""
        self.interrupted = True
        self.stop.set()

    def skip(self) -> None:
        """End the batch between two steps; the request goes on."""
        self.skipped = True
        self.stop.set()

    def stepped(self, number: int, preview: Preview) -> None:
        """Note that a step is done; the first is 1."""
        # The sampler's callback counts from 0.
        self.sampling_step, self.preview = number - 1, preview

    def snapshot(self) -> dict[str, Any]:
        """Return what /progress calls `state`."""
        names = ("skipped", "interrupted", "job", "job_count", "job_timestamp", "job_no")
        values = {name: getattr(self, name) for name in (*names, "sampling_step", "sampling_steps")}
        return values | {"stopping_generation": False}

    def done(self) -> float:
        """Return the share that is done, 0 to 1."""
        # A thread changes it meanwhile.
        count, steps = self.job_count, self.sampling_steps
        if count <= 0:
            return 0.0
        return min((self.job_no + (self.sampling_step / steps if steps > 0 else 0.0)) / count, 1.0)

    def progress(self) -> tuple[float, float]:
        """Return the share that is done, 0 to 1, and the seconds that remain, as /sdapi/v1/progress does."""
        if self.job_count == 0:
            return 0.0, 0.0
        done = self.done() + 0.01
        elapsed = time.monotonic() - self.time_start
        return min(done, 1.0), elapsed / done - elapsed

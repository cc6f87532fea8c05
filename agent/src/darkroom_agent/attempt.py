"""One attempt at one job by this agent. Pure."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from darkroom_agent.aws import Patience
from darkroom_agent.engines.base import Run
from darkroom_agent.records import Claim
from darkroom_agent.tracing import JobTrace
from darkroom_agent.transport import QueueMessage
from darkroom_contract.job import Api, Job
from darkroom_contract.types import utcnow


@dataclass(eq=False)
class Attempt:
    """A job that the agent has taken hold of."""

    message: QueueMessage
    #: As the client asked for it.
    job: Job
    claim: Claim
    run: Run
    patience: Patience
    trace: JobTrace
    #: As the engine is sent it, with its input pictures; from when it is prepared until the engine has it.
    request: Job | None = None
    #: Of the input pictures, as the engine is sent them.
    input_bytes: int = 0
    #: What each stage took, in seconds.
    seconds: dict[str, float] = field(default_factory=dict)

    def take_request(self) -> Job:
        """What the engine is sent. It is not kept: its pictures may be large, and the run long."""
        request, self.request = self.request or self.job, None
        return request

    @property
    def submitted_at(self) -> datetime:
        """When the client sent it: to the API, or else to the queue."""
        return (
            self.job.submitted_at if self.job.api is not Api.DIRECT else self.message.sent_at or self.job.submitted_at
        )

    @property
    def begun_at(self) -> datetime | None:
        """When the engine began it, if it did."""
        return utcnow() - timedelta(seconds=self.run.seconds) if self.run.begun_at is not None else None

    @property
    def is_anothers(self) -> bool:
        """Whether another agent may have the job now, and nothing would keep both from delivering it."""
        return self.claim.is_lost and not self.claim.stops_second_result

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Take the time of a stage."""
        began = self.run.clock.now()
        with self.trace.stage(name):
            try:
                yield
            finally:
                self.seconds[name] = round(self.run.clock.now() - began, 3)

    def note_stage(self, name: str, begun_at: float, ended_at: float) -> None:
        """Note a stage that is over, by the agent's clock."""
        self.seconds[name] = round(ended_at - begun_at, 3)
        self.trace.add_stage(name, begun_at, ended_at)

"""One attempt at one job by this agent. Pure."""

from dataclasses import dataclass, field
from datetime import datetime

from darkroom_agent.aws import Patience
from darkroom_agent.engines.base import Run
from darkroom_agent.records import Claim
from darkroom_agent.tracing import JobTrace
from darkroom_agent.transport import QueueMessage
from darkroom_contract.job import Api, Job


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

    @property
    def submitted_at(self) -> datetime:
        """When the client sent it: to the API, or else to the queue."""
        return (
            self.job.submitted_at if self.job.api is not Api.DIRECT else self.message.sent_at or self.job.submitted_at
        )

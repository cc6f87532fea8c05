"""What can go wrong with a job, and what that means for it.

AgentError
├── HandedBackError             the agent stops or lost its hold: the message goes back, and the start counts not
├── CancelledError              the client wants the job no more
└── JobFailedError
    ├── PermanentError          no retry would help: the job is answered as failed
    │   ├── InvalidTaskError
    │   ├── InputRefusedError       an input that no agent would fetch, or that is no picture
    │   ├── InputMissingError       an input that is not there
    │   ├── EngineRefusedError      the engine calls the request wrong
    │   ├── WorkflowFailedError     a node of the workflow raised
    │   └── NoPicturesError
    ├── ExhaustedError          the tries are used up: the job is answered as failed, with the last one's reason
    └── TransientError          the message goes back, until the job's starts are used up
        ├── InputUnavailableError   an input's server does not answer now: the start does not count
        ├── EngineFailedError       the engine's own trouble, or its machine's; out of memory included
        ├── EngineUnavailableError  the engine did not get the job: the start does not count
        ├── EngineLostError         the engine went away with the job
        ├── TimedOutError
        ├── AwsUnavailableError     AWS did not take the result for minutes
        ├── RecordsUnavailableError the job's records cannot be read: the start does not count
        └── UnexpectedError         a fault of the agent's own
"""

from typing import ClassVar

from pydantic import JsonValue

from darkroom_contract.errors import JobError, JobErrorCode


class AgentError(Exception):
    """Anything that the agent itself raises."""


class HandedBackError(AgentError):
    """The agent stops before the job can be finished, or the job is no longer its own."""


class CancelledError(AgentError):
    """The client wants the job no more."""


class JobFailedError(AgentError):
    """A job failed; the message says what would be right."""

    code: ClassVar[JobErrorCode]
    #: Whether another try may succeed.
    retryable: ClassVar[bool]
    #: Whether the try counts as one of the job's starts.
    counts: ClassVar[bool] = True
    #: How much longer than usual the pauses between the tries are.
    patience: ClassVar[int] = 1

    def __init__(
        self, message: str, *, node: str | None = None, field: str | None = None, reason: JsonValue = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.node = node
        self.field = field
        #: The engine's own words, as JSON.
        self.reason = reason

    @property
    def error(self) -> JobError:
        """The failure as the client is told it."""
        return JobError(
            code=self.code, message=self.message, node=self.node, field=self.field, retryable=self.retryable
        )


class PermanentError(JobFailedError):
    """No retry would help."""

    retryable = False


class TransientError(JobFailedError):
    """Another try may succeed."""

    retryable = True


class ExhaustedError(JobFailedError):
    """The tries are used up."""

    def __init__(self, error: JobError) -> None:
        """``error`` is the last one's."""
        super().__init__(error.message)
        self._error = error

    @property
    def error(self) -> JobError:
        """The last try's failure."""
        return self._error


class InvalidTaskError(PermanentError):
    """The job is one that this runtime, or no runtime, can do."""

    code = JobErrorCode.INVALID_TASK


class InputRefusedError(PermanentError):
    """An input that no agent would fetch, or that is no picture."""

    code = JobErrorCode.INPUT_REFUSED


class InputMissingError(PermanentError):
    """An input that is not where its URL says."""

    code = JobErrorCode.INPUT_UNAVAILABLE


class EngineRefusedError(PermanentError):
    """The engine calls the request wrong."""

    code = JobErrorCode.ENGINE_REFUSED


class WorkflowFailedError(PermanentError):
    """A node of the workflow raised an exception."""

    code = JobErrorCode.ENGINE_FAILED


class NoPicturesError(PermanentError):
    """The engine finished without a picture."""

    code = JobErrorCode.NO_PICTURES


class InputUnavailableError(TransientError):
    """The server of an input does not answer, or not now. No GPU was used, and only time helps."""

    code = JobErrorCode.INPUT_UNAVAILABLE
    counts = False
    patience = 5


class EngineFailedError(TransientError):
    """The engine failed for a reason of its own or of its machine, lack of memory included."""

    code = JobErrorCode.ENGINE_FAILED


class EngineUnavailableError(TransientError):
    """The engine did not even get the job."""

    code = JobErrorCode.ENGINE_UNAVAILABLE
    counts = False


class EngineLostError(TransientError):
    """The engine went away, and the job with it."""

    code = JobErrorCode.ENGINE_UNAVAILABLE


class TimedOutError(TransientError):
    """The job ran longer than it may."""

    code = JobErrorCode.TIMED_OUT


class AwsUnavailableError(TransientError):
    """AWS did not take the job's result for minutes."""

    code = JobErrorCode.AWS_UNAVAILABLE


class RecordsUnavailableError(TransientError):
    """What is kept of the job cannot be read now."""

    code = JobErrorCode.AWS_UNAVAILABLE
    counts = False


class UnexpectedError(TransientError):
    """A fault of the agent's own."""

    code = JobErrorCode.INTERNAL

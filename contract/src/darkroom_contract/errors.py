"""What went wrong, as data: the API's error answers and the error of a failed job. Pure."""

from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

from pydantic import AfterValidator

from darkroom_contract.types import Fact

MAX_MESSAGE_LENGTH = 2000
#: A field and a node may be called by the client's own text, of any length.
MAX_NAME_LENGTH = 200


def _cut(limit: int) -> AfterValidator:
    return AfterValidator(lambda text: text if len(text) <= limit else text[: limit - 1] + "…")


#: Texts that are cut to fit every answer, record and notification: an engine's own message has no limit.
_Text = Annotated[str, _cut(MAX_MESSAGE_LENGTH)]
_Name = Annotated[str, _cut(MAX_NAME_LENGTH)]


class ErrorCode(StrEnum):
    """The API's error codes. They are stable: clients may branch on them."""

    INVALID_JSON = "invalid_json"
    INVALID_FIELD = "invalid_field"
    FORBIDDEN = "forbidden"
    UNKNOWN_ROUTE = "unknown_route"
    UNKNOWN_RUNTIME = "unknown_runtime"
    UNKNOWN_WORKFLOW = "unknown_workflow"
    UNKNOWN_JOB = "unknown_job"
    ID_IN_USE = "id_in_use"
    RUNTIME_NOT_ACCEPTING = "runtime_not_accepting"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    TOO_MANY_REQUESTS = "too_many_requests"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status that the code is answered with."""
        return _STATUSES[self]


_STATUSES = {
    ErrorCode.INVALID_JSON: HTTPStatus.BAD_REQUEST,
    ErrorCode.INVALID_FIELD: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.UNKNOWN_ROUTE: HTTPStatus.NOT_FOUND,
    ErrorCode.UNKNOWN_RUNTIME: HTTPStatus.NOT_FOUND,
    ErrorCode.UNKNOWN_WORKFLOW: HTTPStatus.NOT_FOUND,
    ErrorCode.UNKNOWN_JOB: HTTPStatus.NOT_FOUND,
    ErrorCode.ID_IN_USE: HTTPStatus.CONFLICT,
    ErrorCode.RUNTIME_NOT_ACCEPTING: HTTPStatus.CONFLICT,
    ErrorCode.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
}


class ApiError(Fact):
    """Why a request was refused."""

    code: ErrorCode
    #: A sentence that says what would be right.
    message: _Text
    #: The field of the request that is wrong, written as ``task.metadata.id``.
    field: _Name | None = None


class ErrorResponse(Fact):
    """The body of every answer that is not a success."""

    error: ApiError


class JobErrorCode(StrEnum):
    """Why a job failed. Stable: clients may branch on it."""

    INVALID_TASK = "invalid_task"
    INPUT_UNAVAILABLE = "input_unavailable"
    INPUT_REFUSED = "input_refused"
    ENGINE_REFUSED = "engine_refused"
    ENGINE_FAILED = "engine_failed"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    NO_PICTURES = "no_pictures"
    TIMED_OUT = "timed_out"
    RUNTIME_REMOVED = "runtime_removed"
    AWS_UNAVAILABLE = "aws_unavailable"
    INTERNAL = "internal"


class JobError(Fact):
    """Why a job failed."""

    code: JobErrorCode
    message: _Text
    #: The workflow's node at fault, for ComfyUI: its id.
    node: _Name | None = None
    #: The field of the request at fault.
    field: _Name | None = None
    #: Whether the same job may succeed when it is submitted again.
    retryable: bool = False

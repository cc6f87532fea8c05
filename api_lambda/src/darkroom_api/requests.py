"""The requests of each API version: from bytes to a job, or to a refusal that says what would be right. Pure."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from darkroom_api.errors import Refused
from darkroom_contract import v1, v1alpha1, v1alpha2
from darkroom_contract.errors import ErrorCode
from darkroom_contract.job import Api, FieldError, Job, new_job_id
from darkroom_contract.rules import WITHIN
from darkroom_contract.types import NEEDLESS, Identifier, OutputFormat, PictureFormat, Task

#: Objects and arrays in each other. Records and messages add some, and no JSON parser reads more than it likes.
MAX_DEPTH = 100

_IDENTIFIER = "1 to 128 letters, digits, '-' and '_'"
_RUNTIME = "a runtime's name: 1 to 32 lower-case letters, digits and '-', a letter first and no '-' last"
_PREFIX = (
    "1 to 512 letters, digits and any of !_.*'()=@+- in segments joined by single slashes; "
    "no segment is empty, '.' or '..'"
)
_TASK = f"one of {', '.join(Task)}"
_CONTENT = "an object: the engine's own request"
_OUTPUT = {
    "output": "an object with format and perhaps quality",
    "output.format": f"one of {', '.join(PictureFormat)}",
    "output.quality": "a whole number from 1 to 100",
    "notify_running": "true or false",
}

#: What each field of a request must be, in words.
_EXPECTED: Mapping[Api, Mapping[str, str]] = {
    Api.V1ALPHA1: {
        "alwayson_scripts": "an object with task, sd_model_checkpoint, id_task and save_dir",
        "alwayson_scripts.task": _TASK,
        "alwayson_scripts.sd_model_checkpoint": "the file name of a model: 1 to 256 characters",
        "alwayson_scripts.id_task": _IDENTIFIER,
        "alwayson_scripts.save_dir": _PREFIX,
    },
    Api.V1ALPHA2: {
        "task": "an object with metadata and content",
        "task.metadata": "an object with id, runtime, tasktype and prefix",
        "task.metadata.id": _IDENTIFIER,
        "task.metadata.runtime": _RUNTIME,
        "task.metadata.tasktype": _TASK,
        "task.metadata.prefix": _PREFIX,
        "task.content": _CONTENT,
        **{f"task.metadata.{field}": expected for field, expected in _OUTPUT.items()},
    },
    Api.V1: {
        "id": _IDENTIFIER,
        "runtime": _RUNTIME,
        "task": _TASK,
        "prefix": _PREFIX,
        "content": _CONTENT,
        "workflow": "the name of one of the runtime's workflows: 1 to 32 lower-case letters, digits and '-'",
        "inputs": "an object: the workflow's inputs by their names",
        **_OUTPUT,
    },
}

_JOB_ID: TypeAdapter[str] = TypeAdapter(Identifier)


class Fields(NamedTuple):
    """How a version of the API calls what every request has."""

    runtime: str
    prefix: str
    context: str
    #: Empty: the body itself.
    content: str


FIELDS: Mapping[Api, Fields] = {
    Api.V1ALPHA1: Fields("alwayson_scripts.sd_model_checkpoint", "alwayson_scripts.save_dir", "", ""),
    Api.V1ALPHA2: Fields("task.metadata.runtime", "task.metadata.prefix", "task.metadata.context", "task.content"),
    Api.V1: Fields("runtime", "prefix", "context", "content"),
}


class JobRequest(NamedTuple):
    """A job that is asked for, and the fingerprint of the request, where repeating it is safe.

    The content of a job that is to run a named workflow is empty: only its runtime knows the workflow.
    """

    job: Job
    fingerprint: str | None = None
    #: The workflow that the job's content is made of, when the request has none itself.
    workflow: str | None = None
    inputs: Mapping[str, JsonValue] = {}


def check_media_type(api: Api, headers: Mapping[str, str]) -> None:
    """Refuse a body that is no plain JSON by its headers, whose names are in lower case.

    v1alpha clients never had to say what they send (curl calls it a form), so they may call it anything but multipart.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    json = media_type in ("", "application/json") or media_type.endswith("+json")
    if media_type.startswith("multipart/") or (api is Api.V1 and not json):
        raise Refused(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the content type application/json")
    if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise Refused(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the body without a content encoding")


def read_body(body: bytes) -> dict[str, JsonValue]:
    """The JSON object that a body is."""
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refused(ErrorCode.INVALID_JSON, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused(ErrorCode.INVALID_JSON, "the body must be a JSON object")
    level: list[dict[str, JsonValue] | list[JsonValue]] = [value]
    for _ in range(MAX_DEPTH):
        children = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
        if any(isinstance(child, float) and not math.isfinite(child) for child in children):
            raise Refused(ErrorCode.INVALID_JSON, "the body has a number that is too large")
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return value
    raise Refused(ErrorCode.INVALID_JSON, f"the body has more than {MAX_DEPTH} objects and arrays in each other")


def read_job(api: Api, body: dict[str, JsonValue], tenant: str) -> JobRequest:
    """The job that a body asks for."""
    try:
        if api is Api.V1ALPHA1:
            return JobRequest(v1alpha1.Request.model_validate(body).to_job(tenant=tenant, job_id=new_job_id()))
        if api is Api.V1ALPHA2:
            return JobRequest(v1alpha2.Request.model_validate(body).to_job(tenant=tenant, job_id=new_job_id()))
        request = v1.SubmitRequest.model_validate(body)
        return JobRequest(request.to_job(tenant=tenant), request.fingerprint(), request.workflow, request.inputs)
    except ValidationError as error:
        raise _field_error(api, error.errors(include_url=False, include_input=False)[0]) from None


def read_job_id(text: str) -> str:
    """The id of a job, as a path names it."""
    try:
        return _JOB_ID.validate_python(text)
    except ValidationError:
        raise FieldError("id", f"a job's id is {_IDENTIFIER}") from None


def _field_error(api: Api, error: ErrorDetails) -> FieldError:
    field = ".".join(map(str, error["loc"]))
    expected = _EXPECTED[api].get(field)
    if error["type"] == WITHIN:
        return FieldError(error["ctx"]["path"], error["ctx"]["words"])
    if error["type"] == "missing":
        return FieldError(field, f"{field} is missing: it must be {expected}")
    if error["type"] == "extra_forbidden":
        model = OutputFormat if len(error["loc"]) > 1 else v1.SubmitRequest
        return FieldError(field, f"there is no such field; there are {', '.join(model.model_fields)}")
    has_own_words = error["type"] == NEEDLESS or not expected
    return FieldError(field, error["msg"] if has_own_words else f"{field} must be {expected}")

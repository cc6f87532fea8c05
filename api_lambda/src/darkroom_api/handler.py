"""The Lambda function behind API Gateway: the only module that knows the event of its proxy integration.

Source of the event's and the answer's shape: API Gateway developer guide, "Lambda proxy integrations".
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from darkroom_api import requests
from darkroom_api.errors import Refused, refusal
from darkroom_api.service import service
from darkroom_api.telemetry import count, logger
from darkroom_api.trace import traceparent
from darkroom_contract import v1alpha1, v1alpha2
from darkroom_contract.errors import ErrorCode, ErrorResponse
from darkroom_contract.job import Api, Job
from darkroom_contract.types import Fact
from darkroom_contract.v1 import JobView

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

#: How long the repeat of a request waits for the first, and what it leaves of the function's time. Seconds.
_PATIENCE_SECONDS = 2.0
_RESERVE_SECONDS = 1.0

_SUBMISSIONS = {
    ("POST", "/v1alpha1"): Api.V1ALPHA1,
    ("POST", "/v1alpha2"): Api.V1ALPHA2,
    ("POST", "/v1/jobs"): Api.V1,
}
_STATUS = ("GET", "/v1/jobs/{id}")
_CANCEL = ("POST", "/v1/jobs/{id}/cancel")

_Event = Mapping[str, Any]
_Answer = dict[str, Any]

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # Lambda gives the first seconds of an environment more processor than requests get.
    service()


def handler(event: _Event, context: LambdaContext) -> _Answer:
    """Answer one request; whatever happens, the answer is JSON."""
    began = time.monotonic()
    log: dict[str, object] = {"request_id": context.aws_request_id}
    try:
        answer = _respond(event, context.get_remaining_time_in_millis() / 1000, log)
    except Exception as error:  # noqa: BLE001 - clients get JSON whatever happens
        answer = _refuse(error, log)
    log["milliseconds"] = round((time.monotonic() - began) * 1000)
    logger.info("answered", extra=log)
    return answer


def _respond(event: _Event, seconds: float, log: dict[str, object]) -> _Answer:
    route = (event.get("httpMethod", ""), event.get("resource", ""))
    api = _SUBMISSIONS.get(route)
    if api is None and route not in (_STATUS, _CANCEL):
        known = ", ".join(f"{method} {path}" for method, path in (*_SUBMISSIONS, _STATUS, _CANCEL))
        raise Refused(ErrorCode.UNKNOWN_ROUTE, f"there is no such method and path; there are {known}")
    log["api"] = api or Api.V1
    log["tenant"] = tenant = _tenant(event)
    if api is not None:
        return _submit(api, event, tenant, seconds, log)
    return _about(event, tenant, log, cancel=route == _CANCEL)


def _submit(api: Api, event: _Event, tenant: str, seconds: float, log: dict[str, object]) -> _Answer:
    headers = {name.lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    requests.check_media_type(api, headers)
    raw = _body(event)
    log["bytes"] = len(raw)
    request = requests.read_job(api, requests.read_body(raw), tenant)
    log |= {"job_id": request.job.job_id, "runtime": request.job.runtime, "task": request.job.task}
    if request.workflow is not None:
        log["workflow"] = request.workflow
    patience = min(_PATIENCE_SECONDS, seconds - _RESERVE_SECONDS)
    accepted = service().submissions.submit(request, patience, traceparent(headers, os.environ))
    job, view = accepted.facts.request.job, service().jobs.view(accepted.facts)
    log |= {"runtime": job.runtime, "outcome": "accepted" if accepted.published else "repeated"}
    if accepted.published:
        count("JobsAccepted", runtime=job.runtime)
    if api is Api.V1:
        # As the client wrote it, with the stage or whatever a custom domain has in its place.
        path = (event.get("requestContext") or {}).get("path") or event["resource"]
        return _json(202, view, {"Location": f"{path.rstrip('/')}/{job.job_id}"})
    return _json(200, _alpha_response(job, view), {"x-darkroom-job": job.job_id})


def _alpha_response(job: Job, view: JobView) -> Fact:
    """What the AWS guidance's own API answers."""
    if job.api is Api.V1ALPHA2:
        return v1alpha2.Response(id=job.label, runtime=job.runtime, output_location=view.output_location)
    return v1alpha1.Response(
        id_task=job.label, sd_model_checkpoint=job.checkpoint or "", output_location=view.output_location
    )


def _about(event: _Event, tenant: str, log: dict[str, object], *, cancel: bool) -> _Answer:
    """Where a job stands, after it was cancelled if so."""
    job_id = requests.read_job_id((event.get("pathParameters") or {}).get("id", ""))
    jobs = service().jobs
    facts = jobs.cancel(tenant, job_id) if cancel else jobs.find(tenant, job_id)
    view = jobs.view(facts)
    log |= {"job_id": job_id, "runtime": view.runtime, "task": view.task, "outcome": view.status}
    return _json(202 if cancel and facts.result is None else 200, view)


def _tenant(event: _Event) -> str:
    """Whose key API Gateway found the request to carry."""
    identity = (event.get("requestContext") or {}).get("identity") or {}
    key = identity.get("apiKey") or ""
    for prefix, tenant in service().tenants.items():
        if key.startswith(prefix):
            return tenant
    raise Refused(ErrorCode.FORBIDDEN, "the API key belongs to no tenant; send another in the header x-api-key")


def _body(event: _Event) -> bytes:
    text = event.get("body") or ""
    try:
        return base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode()
    except ValueError as error:
        raise Refused(ErrorCode.INVALID_JSON, f"the body cannot be decoded: {error}") from None


def _refuse(error: Exception, log: dict[str, object]) -> _Answer:
    refused = refusal(error)
    code = refused.error.code
    log["outcome"] = code
    if code is ErrorCode.INTERNAL:
        logger.error("unexpected", extra=log, exc_info=error)
    elif code is ErrorCode.UNAVAILABLE:
        logger.warning("unavailable", extra=log, exc_info=error)
    count("RequestsRefused", code=code)
    headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after else {}
    return _json(code.status, ErrorResponse(error=refused.error), headers)


def _json(status: int, body: Fact, headers: Mapping[str, str] | None = None) -> _Answer:
    return {
        "statusCode": int(status),
        "headers": {"Content-Type": "application/json", **(headers or {})},
        "body": body.to_json(),
        "isBase64Encoded": False,
    }

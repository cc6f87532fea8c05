"""The events that API Gateway hands to the function, and its answers."""

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from darkroom_api.handler import handler
from darkroom_contract.names import api_key_prefix

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

#: A key's beginning names the tenant; the rest is the secret.
SECRET = "5ecre7-0f-the-key"

V1ALPHA1 = "/v1alpha1"
V1ALPHA2 = "/v1alpha2"
V1 = "/v1/jobs"


def key(tenant: str = "default") -> str:
    return api_key_prefix(tenant) + SECRET


@dataclass(frozen=True)
class Context:
    """What Lambda says of an invocation."""

    aws_request_id: str = "an-invocation"
    remaining_milliseconds: int = 10_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_milliseconds


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def error(self) -> Any:
        return self.body["error"]


def event(
    method: str,
    resource: str,
    body: str | None = None,
    *,
    headers: dict[str, str] | None = None,
    api_key: str | None = key(),
    job_id: str | None = None,
    is_base64: bool = False,
) -> dict[str, Any]:
    """An event of API Gateway's proxy integration for a REST API."""
    return {
        "resource": resource,
        "path": resource.replace("{id}", job_id or ""),
        "httpMethod": method,
        "headers": headers,
        "queryStringParameters": None,
        "pathParameters": {"id": job_id} if job_id is not None else None,
        "requestContext": {"identity": {"apiKey": api_key}, "path": f"/prod{resource}"},
        "body": body,
        "isBase64Encoded": is_base64,
    }


def invoke(given: dict[str, Any], context: Context = Context()) -> Answer:
    """The function's answer to an event."""
    answer = handler(given, cast("LambdaContext", context))
    assert answer["headers"]["Content-Type"] == "application/json"
    assert answer["isBase64Encoded"] is False
    return Answer(answer["statusCode"], answer["headers"], json.loads(answer["body"]))


def post(resource: str, body: object, *, tenant: str = "default", context: Context = Context()) -> Answer:
    """The answer to a body of JSON."""
    return invoke(event("POST", resource, json.dumps(body), api_key=key(tenant)), context)


def post_bytes(resource: str, body: bytes) -> Answer:
    """The answer to a body that API Gateway takes for binary."""
    return invoke(event("POST", resource, base64.b64encode(body).decode(), is_base64=True))


def get(job_id: str, *, tenant: str = "default") -> Answer:
    """The answer to the question where a job stands."""
    return invoke(event("GET", "/v1/jobs/{id}", job_id=job_id, api_key=key(tenant)))


def cancel(job_id: str, *, tenant: str = "default") -> Answer:
    """The answer to the wish that a job be stopped."""
    return invoke(event("POST", "/v1/jobs/{id}/cancel", job_id=job_id, api_key=key(tenant)))


def v1alpha1_body(**routing: object) -> dict[str, Any]:
    return {
        "prompt": "a lighthouse",
        "steps": 20,
        "alwayson_scripts": {
            "task": "text-to-image",
            "sd_model_checkpoint": "v1-5-pruned.safetensors",
            "id_task": "order-1",
            "save_dir": "shop/a",
        }
        | routing,
    }


def v1alpha2_body(content: dict[str, Any] | None = None, **metadata: object) -> dict[str, Any]:
    return {
        "task": {
            "metadata": {"id": "order-1", "runtime": "sdxl", "tasktype": "text-to-image", "prefix": "shop/a"}
            | metadata,
            "content": {"prompt": "a lighthouse"} if content is None else content,
        }
    }


def v1_body(**fields: object) -> dict[str, Any]:
    return {"runtime": "sdxl", "content": {"prompt": "a lighthouse"}} | fields

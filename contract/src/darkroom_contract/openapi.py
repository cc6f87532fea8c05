"""The OpenAPI document of the API: what clients read, and the part of it that API Gateway is given. Pure.

API Gateway's own words in it (``x-amazon-apigateway-…``): developer guide, "OpenAPI extensions for API Gateway".
"""

import json
from typing import Any

from pydantic import BaseModel

from darkroom_contract import v1, v1alpha1, v1alpha2
from darkroom_contract.dialects import Components, components
from darkroom_contract.errors import ApiError, ErrorCode, ErrorResponse

#: API Gateway's own limit on the time of an integration.
INTEGRATION_TIMEOUT_SECONDS = 29

#: What API Gateway answers by itself: the type of its response, our code, and what would be right. The local gateway
#: answers from the same document, for the types that can happen there: no key or a wrong one, no such path, a body that
#: is too large, a tenant's rate or quota, a function that is busy, late, or fails.
_GATEWAY_RESPONSES: tuple[tuple[str, ErrorCode, str], ...] = (
    ("INVALID_API_KEY", ErrorCode.FORBIDDEN, "Send a valid API key in the header x-api-key."),
    ("ACCESS_DENIED", ErrorCode.FORBIDDEN, "This API key may not do that."),
    ("MISSING_AUTHENTICATION_TOKEN", ErrorCode.UNKNOWN_ROUTE, "There is no such path and method in this API."),
    ("RESOURCE_NOT_FOUND", ErrorCode.UNKNOWN_ROUTE, "There is no such path in this API."),
    (
        "REQUEST_TOO_LARGE",
        ErrorCode.TOO_LARGE,
        "The request is too large; pass pictures by their https:// or s3:// URL.",
    ),
    ("UNSUPPORTED_MEDIA_TYPE", ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the content type application/json."),
    ("THROTTLED", ErrorCode.TOO_MANY_REQUESTS, "Too many requests at once; send it again a little later."),
    ("QUOTA_EXCEEDED", ErrorCode.TOO_MANY_REQUESTS, "The quota of this API key is used up."),
    ("INTEGRATION_FAILURE", ErrorCode.UNAVAILABLE, "The API did not answer; send it again a little later."),
    ("INTEGRATION_TIMEOUT", ErrorCode.TIMEOUT, "The API did not answer in time; send it again a little later."),
    ("DEFAULT_4XX", ErrorCode.INVALID_FIELD, "The request is not one that this API takes."),
    ("DEFAULT_5XX", ErrorCode.INTERNAL, "Something went wrong; send it again a little later."),
)


def document(invoke_arn: str, title: str) -> dict[str, Any]:
    """The API's document, whole; ``invoke_arn`` is the URI by which API Gateway invokes the function behind it."""
    known = components(
        [
            (v1alpha1.Request, "validation"),
            (v1alpha1.Response, "serialization"),
            (v1alpha2.Request, "validation"),
            (v1alpha2.Response, "serialization"),
            (v1.SubmitRequest, "validation"),
            (v1.JobView, "serialization"),
            (ErrorResponse, "serialization"),
        ]
    )

    def operation(
        name: str, answer: type[BaseModel], answers: dict[str, str], request: type[BaseModel] | None = None
    ) -> dict[str, Any]:
        described: dict[str, Any] = {"operationId": name, "security": [{"apiKey": []}]}
        if request is not None:
            described["requestBody"] = {"required": True, "content": _json(known, request)}
        described["responses"] = {
            **{status: {"description": words, "content": _json(known, answer)} for status, words in answers.items()},
            "default": {"description": "Refused", "content": _json(known, ErrorResponse)},
        }
        described["x-amazon-apigateway-integration"] = {
            "type": "aws_proxy",
            "httpMethod": "POST",
            "uri": invoke_arn,
            "passthroughBehavior": "when_no_match",
            "timeoutInMillis": INTEGRATION_TIMEOUT_SECONDS * 1000,
        }
        return described

    job_id = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]}
    return {
        "openapi": "3.0.1",
        "info": {"title": title, "version": "1", "description": "Prompts to pictures, asynchronously."},
        "paths": {
            "/v1alpha1": {
                "post": operation("submitV1alpha1", v1alpha1.Response, {"200": "Accepted"}, v1alpha1.Request)
            },
            "/v1alpha2": {
                "post": operation("submitV1alpha2", v1alpha2.Response, {"200": "Accepted"}, v1alpha2.Request)
            },
            "/v1/jobs": {"post": operation("submitJob", v1.JobView, {"202": "Accepted"}, v1.SubmitRequest)},
            "/v1/jobs/{id}": {"get": {**job_id, **operation("getJob", v1.JobView, {"200": "Found"})}},
            "/v1/jobs/{id}/cancel": {
                "post": {**job_id, **operation("cancelJob", v1.JobView, {"202": "Cancelled", "200": "Ended before"})}
            },
        },
        "components": {
            "schemas": known.schemas,
            "securitySchemes": {"apiKey": {"type": "apiKey", "name": "x-api-key", "in": "header"}},
        },
        "x-amazon-apigateway-api-key-source": "HEADER",
        "x-amazon-apigateway-gateway-responses": {
            kind: _gateway_response(kind, code, message) for kind, code, message in _GATEWAY_RESPONSES
        },
    }


def gateway_document(invoke_arn: str, title: str) -> dict[str, Any]:
    """The part of the document that API Gateway acts on: paths, keys, integrations and its own responses.

    The models stay out. The function validates, with better messages; API Gateway knows only some of JSON Schema
    (developer guide, "Important notes for REST APIs": no anyOf, oneOf, additionalProperties, …) and no response without
    a status; and a change of words would be another deployment.
    """
    whole = document(invoke_arn, title)
    return {
        **whole,
        "info": {"title": whole["info"]["title"], "version": whole["info"]["version"]},
        "paths": {
            path: {method: _without_models(operation) for method, operation in operations.items()}
            for path, operations in whole["paths"].items()
        },
        "components": {"securitySchemes": whole["components"]["securitySchemes"]},
    }


def text(invoke_arn: str, title: str) -> str:
    """API Gateway's document as text: canonical, so that equal documents are equal texts."""
    return json.dumps(gateway_document(invoke_arn, title), sort_keys=True, separators=(",", ":"))


def _without_models(operation: dict[str, Any]) -> dict[str, Any]:
    responses = {
        status: {"description": response["description"]}
        for status, response in operation["responses"].items()
        if status != "default"
    }
    kept = {word: value for word, value in operation.items() if word != "requestBody"}
    return {**kept, "responses": responses}


def _json(known: Components, model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": known.references[model]}}


def _gateway_response(kind: str, code: ErrorCode, message: str) -> dict[str, Any]:
    body = ErrorResponse(error=ApiError(code=code, message=message)).to_json()
    response: dict[str, Any] = {"responseTemplates": {"application/json": body}}
    if not kind.startswith("DEFAULT_"):  # a default keeps the status of the response that it stands in for
        response["statusCode"] = str(code.status.value)
    if code in (ErrorCode.TOO_MANY_REQUESTS, ErrorCode.UNAVAILABLE):
        response["responseParameters"] = {"gatewayresponse.header.Retry-After": "'1'"}
    return response

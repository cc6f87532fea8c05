"""What IAM sees of an HTTP request to AWS: actions on resources, and what it depends on. Pure.

Sources: the service authorization reference; S3 user guide, "Required permissions for Amazon S3 API operations" and
"How to prevent object overwrites with conditional writes".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from werkzeug.wrappers import Request, Response

_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")


class UnmappedRequest(Exception):  # noqa: N818 - it says what the request is
    """Nobody said which permissions a request needs."""


@dataclass(frozen=True)
class Credential:
    """Who signed a request, and for which service."""

    access_key: str
    region: str
    service: str

    @classmethod
    def of(cls, request: Request) -> Credential:
        """The credential in the header or, of a presigned URL, in the query; raises ``UnmappedRequest``."""
        presigned = f"Credential={request.args.get('X-Amz-Credential', '')}"
        found = _CREDENTIAL.search(request.headers.get("Authorization", presigned))
        if found is None:
            raise UnmappedRequest(f"not signed: {request.method} {request.path}")
        return cls(*found.groups())


@dataclass(frozen=True)
class Permission:
    """What a request needs."""

    action: str
    resource: str
    #: The condition keys of the action, beside those that every request has.
    keys: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a request's resources are."""

    account: str
    region: str

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource with a region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


def needed(request: Request, service: str, place: Place) -> list[Permission]:
    """The permissions that a request needs, all of them; raises ``UnmappedRequest``."""
    if service not in _SERVICES:
        raise UnmappedRequest(f"the service {service}")
    return _SERVICES[service](request, place)


# S3

#: By method, and by what the query has.
_OBJECT_ACTIONS = {
    ("GET", ""): "s3:GetObject",
    ("HEAD", ""): "s3:GetObject",
    ("PUT", ""): "s3:PutObject",
    ("DELETE", ""): "s3:DeleteObject",
    ("POST", "uploads"): "s3:PutObject",
    ("PUT", "uploadId"): "s3:PutObject",
    ("POST", "uploadId"): "s3:PutObject",
    ("DELETE", "uploadId"): "s3:AbortMultipartUpload",
    ("GET", "uploadId"): "s3:ListMultipartUploadParts",
}
#: What the query may have that asks for nothing else.
_HARMLESS = {"x-id", "list-type", "prefix", "encoding-type", "partNumber", "continuation-token", "max-keys"}


def _s3(request: Request, place: Place) -> list[Permission]:
    bucket, _, key = request.path.removeprefix("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    asked = {name for name in request.args if name not in _HARMLESS and not name.startswith("X-Amz-")}
    if not key:
        if request.method not in ("GET", "HEAD") or asked or not bucket:
            raise UnmappedRequest(f"s3: {request.method} {request.url}")
        return [list_bucket(arn, request.args.get("prefix"))]
    action = _OBJECT_ACTIONS.get((request.method, ",".join(asked)))
    if action is None or "x-amz-copy-source" in request.headers:
        raise UnmappedRequest(f"s3: {request.method} {request.url}")
    permissions = [Permission(action, f"{arn}/{key}")]
    if "If-Match" in request.headers and request.method in ("PUT", "DELETE"):
        permissions.append(Permission("s3:GetObject", f"{arn}/{key}"))
    return permissions


def list_bucket(arn: str, prefix: str | None = None) -> Permission:
    """What it takes to list a bucket, or to be told that a key is not there."""
    return Permission("s3:ListBucket", arn, (("s3:prefix", prefix),))


def s3_key_is_missing(request: Request, answer_status: int) -> str | None:
    """The ARN of the bucket, when S3 finds no object at a key."""
    bucket, _, key = request.path.removeprefix("/").partition("/")
    return f"arn:aws:s3:::{bucket}" if key and answer_status == 404 else None


# The others


def _sqs(request: Request, place: Place) -> list[Permission]:
    operation = request.headers.get("X-Amz-Target", "").removeprefix("AmazonSQS.")
    body = json.loads(request.get_data())
    queue = body.get("QueueName") or body.get("QueueUrl", "").rpartition("/")[2]
    if not queue or operation == "CreateQueue":
        raise UnmappedRequest(f"sqs: {operation}")
    # IAM knows no batches.
    return [Permission(f"sqs:{operation.removesuffix('Batch')}", place.arn("sqs", queue))]


def _sns(request: Request, place: Place) -> list[Permission]:
    (operation,), (topic,) = (form(request).get(name, [""]) for name in ("Action", "TopicArn"))
    if operation != "Publish":
        raise UnmappedRequest(f"sns: {operation}")
    return [Permission("sns:Publish", topic)]


def _logs(request: Request, place: Place) -> list[Permission]:
    operation = request.headers.get("X-Amz-Target", "").removeprefix("Logs_20140328.")
    if operation not in ("CreateLogStream", "PutLogEvents"):
        raise UnmappedRequest(f"logs: {operation}")
    body = json.loads(request.get_data())
    stream = f"log-group:{body['logGroupName']}:log-stream:{body['logStreamName']}"
    return [Permission(f"logs:{operation}", place.arn("logs", stream))]


def _xray(request: Request, place: Place) -> list[Permission]:
    operations = {"/TraceSegments": "PutTraceSegments", "/TelemetryRecords": "PutTelemetryRecords"}
    if request.path not in operations:
        raise UnmappedRequest(f"xray: {request.path}")
    return [Permission(f"xray:{operations[request.path]}", "*")]


_SERVICES: Mapping[str, Callable[[Request, Place], list[Permission]]] = {
    "s3": _s3,
    "sqs": _sqs,
    "sns": _sns,
    "logs": _logs,
    "xray": _xray,
}


# SNS messages


@dataclass(frozen=True)
class Published:
    """A message that goes to a topic."""

    topic: str
    body: str
    #: By name, as the emulator's filters take them.
    attributes: dict[str, dict[str, str]]

    @classmethod
    def of(cls, request: Request) -> Published:
        """The message of a request that publishes one."""
        fields = {name: values[0] for name, values in form(request).items()}
        prefix = "MessageAttributes.entry."
        attributes: dict[str, dict[str, str]] = {}
        while f"{prefix}{len(attributes) + 1}.Name" in fields:
            entry = f"{prefix}{len(attributes) + 1}."
            value = {"Type": fields[f"{entry}Value.DataType"], "Value": fields[f"{entry}Value.StringValue"]}
            attributes[fields[f"{entry}Name"]] = value
        return cls(fields["TopicArn"], fields["Message"], attributes)


def form(request: Request) -> dict[str, list[str]]:
    """The fields of a request of the query protocol."""
    return parse_qs(request.get_data().decode(), keep_blank_values=True, strict_parsing=True)


# Refusals


def refusal(request: Request, service: str, message: str) -> Response:
    """The service's own answer to a call that is not allowed."""
    if service == "s3":
        body = f"<Error><Code>AccessDenied</Code><Message>{escape(message)}</Message></Error>"
        return Response("" if request.method == "HEAD" else body, 403, content_type="application/xml")
    if service == "sns":
        error = f"<Type>Sender</Type><Code>AuthorizationError</Code><Message>{escape(message)}</Message>"
        return Response(f"<ErrorResponse><Error>{error}</Error></ErrorResponse>", 403, content_type="text/xml")
    error_body: dict[str, Any] = {"__type": "com.amazon.coral.service#AccessDeniedException", "message": message}
    headers = {"x-amzn-query-error": "AccessDenied;Sender"} if service == "sqs" else {}
    status = 403 if service == "sqs" else 400
    return Response(json.dumps(error_body), status, headers, content_type="application/x-amz-json-1.0")

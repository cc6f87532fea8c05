"""API Gateway on loopback: routed by the OpenAPI document that the composition deploys, with the service's limits.

It serves HTTP and invokes the function; it reads the composed RestAPI, stage, keys and usage plans, and nothing else.
Sources: API Gateway developer guide, "Quotas for REST APIs", "Input format of a Lambda function for proxy integration"
and "Output format of a Lambda function for proxy integration".
"""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from darkroom.local.http import QuietHandler
from darkroom.local.lambda_service import InvocationFailed, LambdaService, PayloadTooLarge, TooManyRequests

#: API Gateway's limit on a request, in bytes.
MAX_REQUEST_BYTES = 10 * 1024 * 1024
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class UsagePlan:
    """What one API key may ask for."""

    key_id: str
    key_value: str
    rate_limit: float
    burst_limit: int
    #: Requests per day.
    quota: int | None = None


class _Refused(Exception):  # noqa: N818 - API Gateway's own word is response
    """API Gateway answers by itself, by the gateway response of this type."""


class _Bucket:
    """A token bucket: ``rate`` tokens a second, at most ``burst`` at once; and the day's quota."""

    def __init__(self, plan: UsagePlan) -> None:
        self.plan = plan
        self._tokens = float(plan.burst_limit)
        self._used = 0
        self._day = time.gmtime().tm_yday
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> None:
        with self._lock:
            now, today = time.monotonic(), time.gmtime().tm_yday
            if today != self._day:
                self._used, self._day = 0, today
            self._tokens = min(self.plan.burst_limit, self._tokens + (now - self._at) * self.plan.rate_limit)
            self._at = now
            if self._tokens < 1:
                raise _Refused("THROTTLED")
            if self.plan.quota is not None and self._used >= self.plan.quota:
                raise _Refused("QUOTA_EXCEEDED")
            self._tokens -= 1
            self._used += 1


class Gateway:
    """One stage of one REST API. Attribute ``function``: what it invokes."""

    def __init__(
        self,
        document: Mapping[str, Any],
        stage: str,
        plans: Iterable[UsagePlan],
        function: LambdaService,
    ) -> None:
        self._document = document
        self._stage = stage
        self._buckets = {plan.key_value: _Bucket(plan) for plan in plans}
        self.function = function
        self._binary = frozenset(document.get("x-amazon-apigateway-binary-media-types", ()))
        self._routes = Map(
            [
                Rule(path.replace("{", "<").replace("}", ">"), endpoint=(path, method), methods=[method.upper()])
                for path, operations in document["paths"].items()
                for method in operations
            ],
            strict_slashes=False,
        )
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=QuietHandler)
        threading.Thread(target=self._server.serve_forever, name="API Gateway", daemon=True).start()

    @property
    def url(self) -> str:
        """Where the stage is served, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_port}/{self._stage}"

    def stop(self) -> None:
        """Answer no more requests."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        body = _read(request)
        try:
            answer = self._proxy(request, body)
        except _Refused as refusal:
            answer = self._gateway_response(str(refusal))
        return answer(environ, start_response)

    def _proxy(self, request: Request, body: bytes | None) -> Response:
        path, operation, parameters = self._route(request)
        if body is None:
            raise _Refused("REQUEST_TOO_LARGE")
        plan = self._authorise(request, operation)
        integration = operation["x-amazon-apigateway-integration"]
        event = self._event(request, path, parameters, plan, body)
        try:
            answer = self.function.invoke(event, within=integration["timeoutInMillis"] / 1000)
        except PayloadTooLarge:
            raise _Refused("REQUEST_TOO_LARGE") from None
        except TooManyRequests:
            raise _Refused("INTEGRATION_FAILURE") from None
        except TimeoutError:
            raise _Refused("INTEGRATION_TIMEOUT") from None
        except InvocationFailed:
            # What Lambda says of an error is no answer in the format of a proxy integration.
            raise _Refused("DEFAULT_5XX") from None
        return _response(answer)

    def _route(self, request: Request) -> tuple[str, Mapping[str, Any], dict[str, str]]:
        # Clients of the AWS guidance put two slashes before the version and one after it.
        segments = [segment for segment in request.path.split("/") if segment]
        if not segments or segments[0] != self._stage:
            raise _Refused("MISSING_AUTHENTICATION_TOKEN")
        try:
            (path, method), values = self._routes.bind("gateway").match("/" + "/".join(segments[1:]), request.method)
        except HTTPException:
            raise _Refused("MISSING_AUTHENTICATION_TOKEN") from None
        if method.upper() != request.method:  # werkzeug answers HEAD by GET's rule
            raise _Refused("MISSING_AUTHENTICATION_TOKEN")
        return path, self._document["paths"][path][method], {name: str(value) for name, value in values.items()}

    def _authorise(self, request: Request, operation: Mapping[str, Any]) -> UsagePlan | None:
        if not operation.get("security"):
            return None
        bucket = self._buckets.get(request.headers.get("x-api-key", ""))
        if bucket is None:
            raise _Refused("INVALID_API_KEY")
        bucket.take()
        return bucket.plan

    def _event(
        self, request: Request, path: str, parameters: dict[str, str], plan: UsagePlan | None, body: bytes
    ) -> dict[str, Any]:
        binary = request.mimetype in self._binary
        return {
            "resource": path,
            "path": request.path.removeprefix(f"/{self._stage}"),
            "httpMethod": request.method,
            "headers": dict(request.headers),
            "multiValueHeaders": {name: request.headers.getlist(name) for name in dict(request.headers)},
            "queryStringParameters": request.args.to_dict() or None,
            "multiValueQueryStringParameters": request.args.to_dict(flat=False) or None,
            "pathParameters": parameters or None,
            "stageVariables": None,
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "resourcePath": path,
                "httpMethod": request.method,
                "stage": self._stage,
                "path": request.path,
                "requestTimeEpoch": int(time.time() * 1000),
                "identity": {
                    "apiKey": plan.key_value if plan else None,
                    "apiKeyId": plan.key_id if plan else None,
                    "sourceIp": request.remote_addr,
                    "userAgent": request.headers.get("User-Agent"),
                },
            },
            "body": base64.b64encode(body).decode() if binary else body.decode(errors="replace") or None,
            "isBase64Encoded": binary,
        }

    def _gateway_response(self, kind: str) -> Response:
        response = self._document["x-amazon-apigateway-gateway-responses"][kind]
        headers = {
            name.removeprefix("gatewayresponse.header."): value.strip("'")
            for name, value in response.get("responseParameters", {}).items()
        }
        ((content_type, template),) = response["responseTemplates"].items()
        # Of the defaults, which have no status of their own, only the one for a malformed answer is met.
        status = int(response.get("statusCode", HTTPStatus.BAD_GATEWAY))
        return Response(template, status, headers, content_type=content_type)


def _response(answer: Any) -> Response:
    """The function's answer as a response; refused when it is malformed."""
    try:
        text = answer.get("body") or ""
        content = base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()
        headers = {name: [value] for name, value in (answer.get("headers") or {}).items()}
        headers |= answer.get("multiValueHeaders") or {}
        pairs = [(name, str(value)) for name, values in headers.items() for value in values]
        return Response(content, int(answer["statusCode"]), pairs)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _Refused("DEFAULT_5XX") from None


def _read(request: Request) -> bytes | None:
    """The body; None when it is larger than API Gateway takes, read to its end all the same."""
    chunks, size = [], 0
    while chunk := request.stream.read(_CHUNK):
        size += len(chunk)
        if size <= MAX_REQUEST_BYTES:
            chunks.append(chunk)
    return b"".join(chunks) if size <= MAX_REQUEST_BYTES else None

"""An AWS endpoint that decides by policies before it forwards to the emulator: over TLS, and over plain HTTP.

Who calls is told by the access key. Every decision is recorded. A request that nobody mapped to permissions is answered
with 501 and kept in ``unmapped``, for a test to fail on.

The emulator delivers from SNS to SQS by itself, so a publish is looked at here: whether each matching subscription's
queue lets SNS send. When one does not, the message is not forwarded; SNS would give it to the subscription's
dead-letter queue, if that lets SNS send, and so does the proxy.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import boto3
import trustme
import urllib3
from moto.sns.utils import FilterPolicyMatcher
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from darkroom.local.http import QuietHandler
from tests.permissions import aws_requests
from tests.permissions.aws_requests import Credential, Permission, Place, Published, UnmappedRequest
from tests.permissions.evaluator import Call, Decision, Policies, decide

SNS = "sns.amazonaws.com"
#: Headers of one connection, and what the client at the other end counts anew.
_OF_CONNECTION = {"connection", "content-length", "expect", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Decided:
    """A call, and what was decided about it."""

    call: Call
    decision: Decision


class PolicyProxy:
    """It runs inside a ``with`` statement, before the emulator at ``target``."""

    def __init__(
        self, target: str, policies: Policies, principals: Mapping[str, str], session: boto3.Session, folder: Path
    ) -> None:
        """``principals``: roles' ARNs by access key; ``session`` is one that the emulator takes."""
        self.policies = policies
        self.decided: list[Decided] = []
        self.unmapped: list[str] = []
        self._target = target
        self._principals = principals
        self._sns = session.client("sns", endpoint_url=target)
        self._sqs = session.client("sqs", endpoint_url=target)
        self._account = session.client("sts", endpoint_url=target).get_caller_identity()["Account"]
        self._subscriptions: dict[str, dict[str, str]] = {}
        self._http = urllib3.PoolManager(maxsize=32)
        authority = trustme.CA()
        self.ca_bundle = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_bundle))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._servers = [
            make_server("127.0.0.1", 0, self._serve, True, request_handler=QuietHandler, ssl_context=ssl_context)
            for ssl_context in (context, None)
        ]
        self.url, self.plain_url = (
            f"{scheme}://127.0.0.1:{server.server_port}"
            for scheme, server in zip(("https", "http"), self._servers, strict=True)
        )

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), name="policy proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @contextmanager
    def under(self, policies: Policies) -> Iterator[None]:
        """Decide by other policies, for as long as the context lasts."""
        before, self.policies = self.policies, policies
        try:
            yield
        finally:
            self.policies = before

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        request.get_data()  # read once: the mapping looks at it, and it is forwarded
        try:
            response = self._answer(request)
        except UnmappedRequest as unmapped:
            self.unmapped.append(str(unmapped))
            response = Response(str(unmapped), 501)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        credential = Credential.of(request)
        if credential.access_key not in self._principals:
            raise UnmappedRequest(f"the access key {credential.access_key}")
        principal, service = self._principals[credential.access_key], credential.service
        needed = aws_requests.needed(request, service, Place(self._account, credential.region))
        is_secure = request.scheme == "https"
        refused = self._refused(principal, needed, is_secure)
        if refused is None and service == "sns" and not self._delivers(Published.of(request)):
            answer = "<PublishResponse><PublishResult><MessageId>{0}</MessageId></PublishResult></PublishResponse>"
            return Response(answer.format("0" * 36), content_type="text/xml")
        if refused is None:
            response = self._forwarded(request)
            bucket = aws_requests.s3_key_is_missing(request, response.status_code) if service == "s3" else None
            # S3 tells that a key is not there to those alone who may list the bucket.
            refused = self._refused(principal, [aws_requests.list_bucket(bucket)], is_secure) if bucket else None
        if refused is None:
            return response
        call = refused.call
        message = f"User: {call.principal} is not authorized to perform: {call.action} on resource: {call.resource}"
        return aws_requests.refusal(request, service, f"{message}, because of {refused.decision}")

    def _refused(self, principal: str, needed: list[Permission], is_secure: bool) -> Decided | None:
        """The first of the permissions that the principal lacks."""
        for permission in needed:
            keys = {"aws:SecureTransport": str(is_secure).lower(), "aws:SourceArn": None, **dict(permission.keys)}
            decided = self._decided(Call(principal, permission.action, permission.resource, frozenset(keys.items())))
            if decided.decision is not Decision.ALLOWED:
                return decided
        return None

    def _decided(self, call: Call) -> Decided:
        decided = Decided(call, decide(call, self.policies))
        self.decided.append(decided)
        return decided

    def _forwarded(self, request: Request) -> Response:
        answer = self._http.request(
            request.method,
            self._target + request.environ["REQUEST_URI"],
            body=request.get_data(),
            headers={name: value for name, value in request.headers if name.lower() not in _OF_CONNECTION},
            retries=False,
            decode_content=False,
        )
        kept = _OF_CONNECTION - ({"content-length"} if request.method == "HEAD" else set())
        headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in kept]
        return Response(answer.data or None, answer.status, headers)

    # SNS

    def _delivers(self, message: Published) -> bool:
        """Whether every queue that a message is for lets SNS send it; else it has gone where SNS puts it then."""
        found = self._sns.list_subscriptions_by_topic(TopicArn=message.topic)["Subscriptions"]
        refused = [
            subscription
            for subscription in map(self._subscription, (each["SubscriptionArn"] for each in found))
            if _is_for(subscription, message) and not self._may_send(message.topic, subscription["Endpoint"])
        ]
        for subscription in refused:
            dead_letters = json.loads(subscription.get("RedrivePolicy", "{}")).get("deadLetterTargetArn")
            if dead_letters and self._may_send(message.topic, dead_letters):
                url = self._sqs.get_queue_url(QueueName=dead_letters.rpartition(":")[2])["QueueUrl"]
                self._sqs.send_message(QueueUrl=url, MessageBody=message.body)
        return not refused

    def _subscription(self, arn: str) -> dict[str, str]:
        if arn not in self._subscriptions:
            self._subscriptions[arn] = self._sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
        return self._subscriptions[arn]

    def _may_send(self, topic: str, queue: str) -> bool:
        keys = {"aws:SecureTransport": "true", "aws:SourceArn": topic}
        call = Call(SNS, "sqs:SendMessage", queue, frozenset(keys.items()))
        return self._decided(call).decision is Decision.ALLOWED


def _is_for(subscription: Mapping[str, str], message: Published) -> bool:
    """Whether a message passes a subscription's filter."""
    matcher = FilterPolicyMatcher(
        json.loads(subscription.get("FilterPolicy", "{}")), subscription.get("FilterPolicyScope")
    )
    return matcher.matches(message.attributes, message.body)

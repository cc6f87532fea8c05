"""AWS clients that fail as they are told to: real ones against the emulator, with botocore's own hook before a send."""

import math
import re
from dataclasses import dataclass
from enum import Enum, auto
from threading import Lock
from typing import Any

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError
from botocore.httpsession import URLLib3Session
from moto.core.botocore_stubber import MockRawResponse

from tests.unit.agent.support import same_clients

_SESSION = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
_CONFIG = Config(retries={"total_max_attempts": 1}, max_pool_connections=32)


class Fault(Enum):
    """What may become of a call."""

    #: It never gets there.
    UNREACHABLE = auto()
    #: AWS does it, and its answer gets lost.
    ANSWER_LOST = auto()
    #: AWS answers with 500 or 503, and has done nothing.
    ERROR = auto()
    #: The agent may not do it.
    DENIED = auto()


@dataclass
class _Rule:
    #: The beginning of the call's name and URL.
    what: re.Pattern[str]
    fault: Fault
    left: float


class FaultyAws:
    """The clients of one agent."""

    def __init__(self, endpoint: str) -> None:
        sqs = _SESSION.client("sqs", endpoint_url=endpoint, config=_CONFIG)
        sns = _SESSION.client("sns", endpoint_url=endpoint, config=_CONFIG)
        s3 = _SESSION.client("s3", endpoint_url=endpoint, config=_CONFIG)
        self.clients = same_clients(sqs, sns, s3)
        #: The operations that were tried, as ``s3.PutObject``.
        self.calls: list[str] = []
        #: How many of them failed.
        self.failed = 0
        self._rules: list[_Rule] = []
        self._lock = Lock()
        self._http = URLLib3Session(max_pool_connections=32)
        for client in (sqs, sns, s3):
            # Its stubs know of no handler that answers.
            client.meta.events.register("before-send", self._send)  # type: ignore[arg-type]

    def fail(self, what: str, fault: Fault, times: float = math.inf) -> None:
        """Let the next ``times`` calls fail that begin so: ``s3``, ``sqs.DeleteMessage``, ``s3.PutObject .*[.]png``."""
        with self._lock:
            self._rules.append(_Rule(re.compile(what), fault, times))

    def vanish(self) -> None:
        """Let nothing get to AWS ever again."""
        self.fail("", Fault.UNREACHABLE)

    def mend(self) -> None:
        """Let calls pass again."""
        with self._lock:
            self._rules.clear()

    def _send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse | None:
        operation = event_name.removeprefix("before-send.")
        self.calls.append(operation)
        fault = self._fault(f"{operation} {request.url}")
        if fault is None:
            return None
        self.failed += 1
        if fault is Fault.UNREACHABLE:
            raise EndpointConnectionError(endpoint_url=request.url)
        if fault is Fault.ANSWER_LOST:
            self._http.send(request)
            raise ConnectionClosedError(endpoint_url=request.url)
        return _answer(request.url, operation.partition(".")[0], fault)

    def _fault(self, call: str) -> Fault | None:
        with self._lock:
            for rule in self._rules:
                if rule.left > 0 and rule.what.match(call):
                    rule.left -= 1
                    return rule.fault
        return None


def _answer(url: str, service: str, fault: Fault) -> AWSResponse:
    """An error in the words and the protocol of a service."""
    is_denied = fault is Fault.DENIED
    headers = HTTPHeaders()
    if service == "s3":
        status, code = (403, "AccessDenied") if is_denied else (503, "SlowDown")
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
    elif service == "sns":
        status, code = (403, "AuthorizationError") if is_denied else (500, "InternalFailure")
        body = f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
    else:
        status, code = (403, "AccessDeniedException") if is_denied else (500, "InternalFailure")
        body = f'{{"__type": "com.amazon.coral.service#{code}", "message": "no"}}'
        headers["x-amzn-query-error"] = f"{code.removesuffix('Exception')};Sender"
    return AWSResponse(url, status, headers, MockRawResponse(body))

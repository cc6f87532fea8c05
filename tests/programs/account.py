"""An AWS account on loopback: moto, what moto lacks, and a record of every call that was to change something.

What moto lacks of EKS, add-ons and the identities of pods, is remembered; quotas are what a test sets. IAM lets an
identity provider have another audience.
"""

from __future__ import annotations

import io
import json
import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import boto3
from moto.iam.models import iam_backends
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from darkroom.local.http import QuietHandler
from tests.programs.effects import Refused, play

ACCOUNT = "123456789012"
#: Calls that change nothing, by how their names begin.
_READS = ("BatchCheck", "BatchGet", "Describe", "Get", "Head", "List", "Lookup", "Simulate")


@dataclass(eq=False)
class Account:
    """The account, as its WSGI application."""

    url: str = ""
    quotas: dict[str, float] = field(default_factory=dict)
    """EC2's, by their codes; a thousand where none is set."""
    quotas_are_defaults: bool = False
    """Whether nobody ever had one changed; they are known as AWS's defaults alone then."""
    unseen_roles: int = 0
    """How often EKS does not know a role yet that IAM has just made."""
    changes: list[tuple[str, str]] = field(default_factory=list)
    """The service and the name of each call that was to change something."""
    _pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    _addons: dict[str, dict[str, Any]] = field(default_factory=dict)
    _countdown: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _moto: Any = None

    @cache  # noqa: B019 - there is one account at a time
    def client(self, service: Any, region: str = "eu-west-1") -> Any:
        """A client of the account."""
        return boto3.Session("testing", "testing", region_name=region).client(service, endpoint_url=self.url)

    def fail_change(self, number: int) -> None:
        """Let the call with that number, from 1, of those from now on that are to change something, fail, once."""
        self._countdown = number

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/player":
            return self._played(environ)(environ, start_response)
        service, action = _asked(environ)
        is_player = "Credential=player/" in environ.get("HTTP_AUTHORIZATION", "")
        is_change = not is_player and service != "" and not action.startswith(_READS) and service != "sts"
        with self._lock:
            if is_change:
                self.changes.append((service, action))
                if self._countdown is not None:
                    self._countdown -= 1
                    if self._countdown == 0:
                        self._countdown = None
                        return _refusal(service, "it was to fail")(environ, start_response)
            answer = self._lacking(environ, service, action)
        if answer is not None:
            return answer(environ, start_response)
        if service == "eks" and re.fullmatch("Get /clusters/[^/]+", action):
            return self._eks_cluster(environ)(environ, start_response)
        found: Iterable[bytes] = self._moto(environ, start_response)
        return found

    def _played(self, environ: dict[str, Any]) -> Response:
        try:
            play(self._as_player, json.loads(_body(environ)))
        except Refused as refused:
            return Response(str(refused), 400)
        return Response()

    @cache  # noqa: B019 - there is one account at a time
    def _as_player(self, service: Any, region: str) -> Any:
        """By the access key the account tells a player's calls: they are not counted as the command's own."""
        return boto3.Session("player", "player", region_name=region).client(service, endpoint_url=self.url)

    def _eks_cluster(self, environ: dict[str, Any]) -> Response:
        """A cluster with what EKS itself makes: of its security groups the first."""
        response = Response.from_app(self._moto, environ)
        found = json.loads(response.get_data())
        if response.status_code == 200:
            network = found["cluster"]["resourcesVpcConfig"]
            network["clusterSecurityGroupId"] = next(iter(network.get("securityGroupIds", [])), "")
            response.set_data(json.dumps(found))
        return response

    def _lacking(self, environ: dict[str, Any], service: str, action: str) -> Response | None:
        """What moto has not."""
        if service == "servicequotas":
            return self._quota(json.loads(_body(environ)), action)
        if action == "AddClientIDToOpenIDConnectProvider":
            asked = parse_qs(_body(environ).decode())
            provider = iam_backends[ACCOUNT]["aws"].get_open_id_connect_provider(asked["OpenIDConnectProviderArn"][0])
            provider.client_id_list.append(asked["ClientID"][0])
            return Response(f"<{action}Response/>", content_type="text/xml")
        if service != "eks":
            return None
        parts = environ["PATH_INFO"].strip("/").split("/")
        if parts[0] != "clusters" or len(parts) < 3 or parts[2] not in ("addons", "pod-identity-associations"):
            return None
        _body(environ)
        request = Request(environ)
        if parts[2] == "addons":
            return self._addon(request, parts[1], parts[3:])
        return self._pod_identity(request, parts[1], parts[3:])

    def _quota(self, asked: dict[str, Any], action: str) -> Response | None:
        if action == "GetServiceQuota" and self.quotas_are_defaults:
            return _json({"__type": "NoSuchResourceException", "message": "never set"}, 400)
        if asked["ServiceCode"] != "ec2" and not self.quotas_are_defaults:
            return None
        code = asked["QuotaCode"]
        return _json({"Quota": {"QuotaCode": code, "Value": self.quotas.get(code, 1000)}})

    def _addon(self, request: Request, cluster: str, rest: list[str]) -> Response:
        if not rest and request.method == "GET":
            return _json(
                {"addons": [each["addonName"] for each in self._addons.values() if each["cluster"] == cluster]}
            )
        if not rest:
            name = json.loads(request.get_data())["addonName"]
            self._addons[f"{cluster}/{name}"] = {"addonName": name, "cluster": cluster, "status": "ACTIVE"}
            return _json({"addon": {"addonName": name}})
        key = f"{cluster}/{rest[0]}"
        if key not in self._addons:
            return _missing("No addon")
        addon = self._addons.pop(key) if request.method == "DELETE" else self._addons[key]
        return _json({"addon": {"addonName": addon["addonName"], "status": addon["status"]}})

    def _pod_identity(self, request: Request, cluster: str, rest: list[str]) -> Response:
        if not rest and request.method == "GET":
            asked = [(name, request.args.get(name)) for name in ("namespace", "serviceAccount")]
            there = [
                {name: value for name, value in each.items() if name != "roleArn"}
                for each in self._pods.values()
                if each["clusterName"] == cluster and all(value in (None, each[name]) for name, value in asked)
            ]
            return _json({"associations": there})
        if not rest:
            body = json.loads(request.get_data())
            if self.unseen_roles:
                self.unseen_roles -= 1
                words = "Role provided in the request does not exist."
                return _json({"message": words}, 400, "InvalidParameterException")
            name = f"a-{uuid.uuid4().hex[:17]}"
            arn = f"arn:aws:eks:eu-west-1:{ACCOUNT}:podidentityassociation/{cluster}/{name}"
            kept = {field: body.get(field) for field in ("namespace", "serviceAccount", "roleArn", "tags")}
            if any(
                each["clusterName"] == cluster
                and all(each[part] == kept[part] for part in ("namespace", "serviceAccount"))
                for each in self._pods.values()
            ):
                return _json({"message": "Association already exists"}, 409, "ResourceInUseException")
            self._pods[name] = {"clusterName": cluster, "associationArn": arn, "associationId": name, **kept}
            return _json({"association": self._pods[name]})
        if rest[0] not in self._pods:
            return _missing("No association")
        found = self._pods.pop(rest[0]) if request.method == "DELETE" else self._pods[rest[0]]
        if request.method == "POST":
            found.update(json.loads(request.get_data()))
        return _json({"association": found})


def _asked(environ: dict[str, Any]) -> tuple[str, str]:
    """The service that a request is for, and the name of what it asks; of REST's the method stands for it."""
    headers = Request(environ).headers
    found = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request", headers.get("Authorization", ""))
    if found is None:
        return "", ""
    if target := headers.get("X-Amz-Target"):
        return found[1], target.rpartition(".")[2]
    if headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return found[1], parse_qs(_body(environ).decode())["Action"][0]
    method = environ["REQUEST_METHOD"]
    return found[1], f"{method.capitalize()} {environ['PATH_INFO']}"


def _body(environ: dict[str, Any]) -> bytes:
    """What a request carries, which can be read again afterwards."""
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _json(body: Any, status: int = 200, error: str | None = None) -> Response:
    headers = {"x-amzn-errortype": error} if error else {}
    return Response(json.dumps(body), status, headers, content_type="application/json")


def _missing(words: str) -> Response:
    return _json({"message": words}, 404, "ResourceNotFoundException")


def _refusal(service: str, words: str) -> Response:
    """A refusal that no client tries again."""
    if service in ("iam", "ec2", "cloudformation"):
        inner = f"<Error><Code>AccessDenied</Code><Message>{words}</Message></Error>"
        body = (
            f"<Response><Errors>{inner}</Errors></Response>"
            if service == "ec2"
            else f"<ErrorResponse>{inner}</ErrorResponse>"
        )
        return Response(body, 403, content_type="text/xml")
    return _json({"__type": "AccessDeniedException", "message": words}, 403, "AccessDeniedException")


@contextmanager
def account() -> Iterator[Account]:
    """An empty account for as long as the context lasts. There is one at a time in a process."""
    aws = Account()
    aws._moto = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, aws, threaded=True, request_handler=QuietHandler)
    aws.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="AWS account", daemon=True)
    thread.start()
    try:
        yield aws
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        moto_api_backend.reset()

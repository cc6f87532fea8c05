"""What a container registry has: manifests by tag or digest, read by the OCI distribution API. It changes nothing.

ECR is logged in to with the AWS SDK's own credentials; a registry on loopback is spoken to over HTTP and without a
login; any other one anonymously, with the token that it hands to everyone (``ghcr.io``, say).

Own code, since the library for it, oras, gives a manifest as parsed JSON: the bytes that a digest is of are gone, and
with them its check; it knows no ECR in China, and brings a second HTTP client.
"""

import hashlib
import ipaddress
import json
import re
from collections.abc import Generator
from dataclasses import dataclass

import boto3
import httpx
from botocore.exceptions import BotoCoreError, ClientError

from darkroom.trouble import Trouble, UsageError

#: An index names other manifests, one for a platform each.
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
#: As the distribution specification has them, with the host that it leaves out.
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<host>[a-z0-9.-]+(:[0-9]{{1,5}})?)/(?P<repository>{_PART}(/{_PART})*)"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))"
)
_ECR = re.compile(r"[0-9]{12}\.dkr\.ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")
_TIMEOUT_SECONDS = 30


class RegistryTrouble(Trouble):
    """A registry cannot be reached, does not let in who asks, or says what cannot be."""


@dataclass(frozen=True)
class Manifest:
    """What a tag or a digest stands for."""

    digest: str
    media_type: str

    @property
    def is_index(self) -> bool:
        """Whether it names manifests of several platforms, instead of being one: Lambda takes none such."""
        return self.media_type in _INDEXES


def digest_of(reference: str) -> str | None:
    """The digest, ``sha256:…``, behind ``<registry>/<repository>:<tag>`` or ``…@<digest>``; None if it is not there.

    Raises ``RegistryTrouble``, and ``UsageError`` for what is no such reference.
    """
    manifest = manifest_of(reference)
    return manifest.digest if manifest else None


def manifest_of(reference: str) -> Manifest | None:
    """The manifest behind a reference; None if the registry does not have it, or has no such repository.

    Its digest is computed from its bytes, and nothing else that the registry says of it is believed. Raises as
    ``digest_of``.
    """
    parts = _REFERENCE.fullmatch(reference)
    if parts is None:
        raise UsageError(f"{reference} is no image: say <registry>/<repository>:<tag> or …@sha256:<64 hex digits>")
    host, wanted = parts["host"], parts["tag"] or parts["digest"]
    response = _get(host, f"/v2/{parts['repository']}/manifests/{wanted}")
    if response.status_code == 404:
        return None
    if response.status_code in (401, 403):
        raise RegistryTrouble(f"{host} does not let you read {reference}: {_reason(response)}. {_login_remedy(host)}")
    if response.status_code != 200:
        raise RegistryTrouble(f"{host} has no answer for {reference}: {_reason(response)}. Try again later")
    digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
    # ECR sends no Docker-Content-Digest.
    said = {parts["digest"] or digest, response.headers.get("Docker-Content-Digest", digest)}
    if said != {digest}:
        raise RegistryTrouble(
            f"{host} says that {reference} is {', '.join(said - {digest})}, but it sends {digest}: do not use it"
        )
    return Manifest(digest, _media_type(reference, response))


def _media_type(reference: str, response: httpx.Response) -> str:
    """The type by which a manifest is to be read: what its bytes say, since those are what the digest is of."""
    try:
        content = json.loads(response.content)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise RegistryTrouble(f"{reference} is no image: it has no manifest")
    found = content.get("mediaType", response.headers.get("Content-Type", "").partition(";")[0])
    if found not in _INDEXES + _MANIFESTS:
        raise RegistryTrouble(f"{reference} is no image: its manifest is of the type {found}")
    return str(found)


def _get(host: str, path: str) -> httpx.Response:
    is_local = _is_loopback(host)
    url = f"{'http' if is_local else 'https'}://{host}{path}"
    transport = httpx.HTTPTransport(retries=2) if is_local else None  # None: by the environment's proxy
    try:
        with httpx.Client(transport=transport, timeout=_TIMEOUT_SECONDS, follow_redirects=True) as client:
            return client.get(url, headers={"Accept": ", ".join(_INDEXES + _MANIFESTS)}, auth=_login(host))
    except httpx.HTTPError as error:
        raise RegistryTrouble(
            f"{host} cannot be reached: {error}. Check the name, the network and its proxy"
        ) from error


def _login(host: str) -> httpx.Auth | None:
    if _is_loopback(host):
        return None
    return _Ecr(ecr["region"]) if (ecr := _ECR.fullmatch(host)) else _PublicToken()


class _Ecr(httpx.Auth):
    """ECR's login: a password that lasts twelve hours, for whoever has credentials of AWS."""

    def __init__(self, region: str) -> None:
        try:
            client = boto3.Session(region_name=region).client("ecr")
            self._password = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        except (BotoCoreError, ClientError) as error:
            raise RegistryTrouble(
                f"AWS gives no login for ECR in {region}: {error}. Log in (aws sso login), or set AWS_PROFILE"
            ) from error

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Basic {self._password}"
        yield request


class _PublicToken(httpx.Auth):
    """The token that a registry hands to everyone who asks (distribution, "Token Authentication Specification")."""

    requires_response_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield request
        scheme, _, challenge = response.headers.get("WWW-Authenticate", "").partition(" ")
        told = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = told.get("realm", "")
        if response.status_code != 401 or scheme.lower() != "bearer" or not realm.startswith("https://"):
            return
        answer = yield httpx.Request(
            "GET", realm, params={name: told[name] for name in told.keys() & {"service", "scope"}}
        )
        if answer.status_code == 200 and (token := _token(answer)):
            request.headers["Authorization"] = f"Bearer {token}"
            yield request


def _token(answer: httpx.Response) -> str:
    """The token of an answer, in either of its two names."""
    try:
        return str(answer.json().get("token") or answer.json().get("access_token") or "")
    except (ValueError, AttributeError):
        return ""


def _is_loopback(host: str) -> bool:
    name = host.partition(":")[0]
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _reason(response: httpx.Response) -> str:
    """What a registry says went wrong (distribution specification, "Error Codes")."""
    try:
        said = response.json()["errors"][0]
        return f"HTTP {response.status_code}, {said.get('message') or said['code']}"
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"HTTP {response.status_code}"


def _login_remedy(host: str) -> str:
    if _ECR.fullmatch(host):
        return "Its repository's policy or your role's has to allow ecr:BatchGetImage"
    return "It has to be readable by everyone: make it public, or have the image in ECR"

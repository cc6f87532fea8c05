"""Fetches an input picture over HTTPS from a public host, and from nothing else.

The name is resolved once; every address is checked, and the connection goes to a checked address, so that a name that
resolves to another address the next time (DNS rebinding) gains nothing. The certificate is checked for the name.
"""

import ipaddress
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeAlias

import httpcore
import httpx

from darkroom_agent.errors import InputMissingError, InputRefusedError, InputUnavailableError
from darkroom_contract import urls

MAX_BYTES = 32 * 1024 * 1024
MAX_REDIRECTS = 3
#: For one input, redirects included.
TOTAL_SECONDS = 60.0
#: For a connection, and between two reads.
_STEP_SECONDS = 10.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Client errors that may pass: Request Timeout, Too Early, Too Many Requests.
_PASSING = frozenset({408, 425, 429})

Address: TypeAlias = IPv4Address | IPv6Address
Resolve: TypeAlias = Callable[[str, int], Sequence[Address]]
#: How many seconds are left; raises what is to end the work at once.
SecondsLeft: TypeAlias = Callable[[], float]


def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host, by the system's resolver; raises ``socket.gaierror``."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(item[4][0]) for item in found]


class Fetcher:
    """Fetches pictures by their ``https://`` URLs. Errors carry no URL: it may be a presigned one."""

    def __init__(
        self,
        *,
        resolve: Resolve = resolve,
        is_allowed: Callable[[Address], bool] = urls.is_public,
        ssl_context: ssl.SSLContext | None = None,
        hosts: Sequence[str] = (),
    ) -> None:
        """``hosts``: patterns such as ``*.example.com``, of the only hosts that are asked; none for any public host."""
        self._hosts = hosts
        self._resolve = resolve
        self._is_allowed = is_allowed
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)

    def fetch(self, url: str, seconds_left: SecondsLeft = lambda: math.inf) -> bytes:
        """What is at a URL, up to ``MAX_BYTES``, in no more than ``TOTAL_SECONDS`` and no more than are left.

        Raises ``InputRefusedError``, ``InputMissingError`` or ``InputUnavailableError``, and what ``seconds_left``
        raises, which is asked before every step.
        """
        deadline = time.monotonic() + TOTAL_SECONDS

        def step() -> float:
            left = min(seconds_left(), deadline - time.monotonic())
            if left <= 0:
                raise httpcore.ReadTimeout("the time for the input is used up")
            return min(left, _STEP_SECONDS)

        try:
            for _ in range(MAX_REDIRECTS + 1):
                target = self._checked(url)
                with self._pool(step) as pool, pool.stream("GET", _wire(target), headers=_HEADERS) as response:
                    if response.status not in _REDIRECTS:
                        _check_status(response.status)
                        return _read(response)
                    url = str(target.join(_header(response, b"location")))
        except httpx.InvalidURL:
            raise InputRefusedError("the URL is malformed") from None
        except httpcore.TimeoutException as error:
            raise InputUnavailableError("the input's host does not answer in time") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            if error.args and isinstance(error.args[0], ssl.SSLCertVerificationError):  # httpcore keeps the cause there
                raise InputMissingError("the certificate of the input's host is not valid for it") from error
            raise InputUnavailableError("the connection to the input's host failed") from error
        raise InputRefusedError(f"the URL redirects more than {MAX_REDIRECTS} times")

    def _checked(self, url: str) -> httpx.URL:
        try:
            urls.check_url(url)
        except ValueError as error:
            raise InputRefusedError(str(error)) from None
        target = httpx.URL(url)
        if target.scheme != "https":
            raise InputRefusedError("the URL redirects to something that is not https://")
        if self._hosts and not any(fnmatchcase(target.host, pattern.lower()) for pattern in self._hosts):
            raise InputRefusedError("the URL's host is not one that this runtime takes inputs from")
        return target

    def _pool(self, step: SecondsLeft) -> httpcore.ConnectionPool:
        backend = _CheckedBackend(self._resolve, self._is_allowed, step)
        return httpcore.ConnectionPool(ssl_context=self._ssl_context, network_backend=backend)


_HEADERS = [(b"User-Agent", b"darkroom"), (b"Accept", b"image/*"), (b"Accept-Encoding", b"identity")]


def _wire(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _check_status(status: int) -> None:
    if status >= 500 or status in _PASSING:
        raise InputUnavailableError(f"the input's host answers {status}")
    if status != 200:
        raise InputMissingError(f"the input's host answers {status}")


def _read(response: httpcore.Response) -> bytes:
    data = bytearray()
    for chunk in response.iter_stream():
        data += chunk
        if len(data) > MAX_BYTES:
            raise InputRefusedError(f"the input is larger than {MAX_BYTES} bytes")
    return bytes(data)


def _header(response: httpcore.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")


class _CheckedBackend(httpcore.SyncBackend):
    """Connects to checked addresses only; ``step`` says how long each step may take."""

    def __init__(self, resolve: Resolve, is_allowed: Callable[[Address], bool], step: SecondsLeft) -> None:
        self._resolve = resolve
        self._is_allowed = is_allowed
        self._step = step

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - ``step`` says
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failed: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError("no address")
        for address in self._addresses(host, port):
            try:
                stream = super().connect_tcp(str(address), port, self._step(), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
            else:
                return _TimedStream(stream, self._step)
        raise failed

    def _addresses(self, host: str, port: int) -> Sequence[Address]:
        try:
            addresses = self._resolve(host, port)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise InputUnavailableError("the name of the input's host cannot be resolved now") from error
            raise InputMissingError("the input's host does not exist") from error
        except ValueError as error:  # an empty label, or one of more than 63 characters
            raise InputRefusedError("the URL's host is no name that could exist") from error
        if not all(self._is_allowed(address) for address in addresses):
            raise InputRefusedError("the URL's host has a private, loopback, link-local or reserved address")
        return addresses


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every step takes no longer than it may, however slowly the other side drips."""

    def __init__(self, stream: httpcore.NetworkStream, step: SecondsLeft) -> None:
        self._stream = stream
        self._step = step

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - ``step`` says
        return self._stream.read(max_bytes, self._step())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - ``step`` says
        self._stream.write(buffer, self._step())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - ``step`` says
    ) -> httpcore.NetworkStream:
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, self._step()), self._step)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

"""An HTTPS host on the loopback that is called ``pictures.test``, with a certificate for that name."""

import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from socket import EAI_NONAME, gaierror
from typing import Self

import trustme

from darkroom_agent.fetcher import Address, Fetcher
from tests.unit.agent.support import picture

LOOPBACK = IPv4Address("127.0.0.1")


@dataclass
class Answer:
    """What is at a path."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class PicturesHost:
    """Serves what `answers` has; `requests` are the paths that were asked for."""

    def __init__(self) -> None:
        self.answers = {"/a.png": Answer(picture())}
        self.requests: list[str] = []
        self._authority = trustme.CA()
        handler = type("Handler", (_Handler,), {"host": self})
        self._server = ThreadingHTTPServer((str(LOOPBACK), 0), handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert("pictures.test").configure_cert(context)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str, name: str = "pictures.test") -> str:
        """The URL of a path."""
        return f"https://{name}:{self._server.server_port}{path}"

    def redirects(self, path: str, target: str) -> str:
        """The URL of a path that redirects."""
        self.answers[path] = Answer(status=302, headers={"Location": target})
        return self.url(path)

    def serves(self, path: str, body: bytes = b"", status: int = 200) -> str:
        """The URL of a path that answers so."""
        self.answers[path] = Answer(body, status)
        return self.url(path)

    def fetcher(self, *, loopback_is_allowed: bool = True, hosts: Sequence[str] = ()) -> Fetcher:
        """A fetcher that knows the host's name and trusts its certificate."""

        def resolve(name: str, port: int) -> list[Address]:
            if name not in {"pictures.test", "other.test"}:
                raise gaierror(EAI_NONAME, "Name or service not known")
            return [LOOPBACK]

        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        if loopback_is_allowed:
            return Fetcher(resolve=resolve, is_allowed=LOOPBACK.__eq__, ssl_context=context, hosts=hosts)
        return Fetcher(resolve=resolve, ssl_context=context)


class _Handler(BaseHTTPRequestHandler):
    host: PicturesHost

    def do_GET(self) -> None:
        self.host.requests.append(self.path)
        answer = self.host.answers.get(self.path, Answer(status=404))
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(answer.body)
        except OSError:
            self.close_connection = True  # the other side has had enough

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
        pass

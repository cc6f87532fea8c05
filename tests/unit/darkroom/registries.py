"""A registry of a test's own, as an OCI client sees it: over HTTP on loopback, or over TLS under any name."""

from __future__ import annotations

import hashlib
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from darkroom.local.http import QuietHandler

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def manifest(media_type: str = MANIFEST) -> bytes:
    """A manifest, as much of it as its readers look at."""
    return f'{{"schemaVersion": 2, "mediaType": "{media_type}"}}'.encode()


def digest(content: bytes) -> str:
    """The digest of a manifest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class FakeRegistry:
    """What it answers by path, and what it was asked, as a WSGI application."""

    manifests: dict[str, bytes] = field(default_factory=dict)
    """By ``<repository>/<tag or digest>``."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of every manifest."""
    login: str | None = None
    """The header ``Authorization`` that it wants."""
    challenge: str = "Basic"
    """How it says so."""
    token: str = ""
    """What it hands to everyone who asks for a token."""
    status: int = 200
    asked: list[Request] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        self.asked.append(request)
        return self._answer(request)(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.path == "/token":
            return Response(f'{{"token": "{self.token}"}}', content_type="application/json")
        if self.login and request.headers.get("Authorization") != self.login:
            errors = '{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}'
            return Response(errors, 401, {"WWW-Authenticate": self.challenge})
        repository, _, wanted = request.path.removeprefix("/v2/").rpartition("/manifests/")
        content = self.manifests.get(f"{repository}/{wanted}")
        if content is None:
            return Response('{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', 404)
        return Response(content, self.status, self.headers, content_type=MANIFEST)


@contextmanager
def serving(registry: FakeRegistry, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Its host and port."""
    server = make_server("127.0.0.1", 0, registry, True, request_handler=QuietHandler, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def named(registry: FakeRegistry, folder: Path, *names: str) -> Iterator[dict[str, str]]:
    """Serve a registry over TLS under names; the environment of whoever is to meet it there."""
    authority, bundle = trustme.CA(), folder / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    with serving(registry, context) as host, _proxy_to(host) as proxy:
        yield {"HTTPS_PROXY": proxy, "https_proxy": proxy, "SSL_CERT_FILE": str(bundle)}


@contextmanager
def _proxy_to(host: str) -> Iterator[str]:
    """The URL of a proxy by which every name is that host."""

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            name, _, port = host.partition(":")
            with socket.create_connection((name, int(port))) as there:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                _join(self.connection, there)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _join(one: socket.socket, other: socket.socket) -> None:
    """Hand over what each end sends, until one closes."""
    ends = {one: other, other: one}
    while True:
        for end in select.select(list(ends), [], [])[0]:
            data = end.recv(65536)
            if not data:
                return
            ends[end].sendall(data)

"""The health and the metrics of the agent and its engine over HTTP, for probes and Prometheus."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from logging import getLogger
from types import MappingProxyType
from typing import TypeAlias

log = getLogger(__name__)

#: A page for what a request's Accept header says: its content and its content type.
Page: TypeAlias = Callable[[str], tuple[bytes, str]]


class _Server(ThreadingHTTPServer):
    """Listens on all addresses, IPv6 and IPv4: which of them probes come to is the cluster's choice."""

    daemon_threads = True
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


@contextmanager
def serving_health(
    port: int, checks: Mapping[str, Callable[[], bool]], pages: Mapping[str, Page] = MappingProxyType({})
) -> Iterator[int]:
    """Answer the path of each check with 200 or 503, and that of each page with the page, while the context lasts.

    It does so in threads. Port 0 takes a free one; the port is what the context gives.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                status, content, content_type = self._look(self.path.partition("?")[0])
            except Exception:
                log.exception("the health is not known")
                status, content, content_type = 500, b"", "text/plain"
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _look(self, path: str) -> tuple[int, bytes, str]:
            if page := pages.get(path):
                return 200, *page(self.headers.get("Accept", ""))
            check = checks.get(path)
            return 404 if check is None else 200 if check() else 503, b"", "text/plain"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
            pass  # probes are not news

    server = _Server(("", port), Handler)
    threading.Thread(target=server.serve_forever, args=(0.1,), name="health", daemon=True).start()
    log.info("health server listens", extra={"port": server.server_port})
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()

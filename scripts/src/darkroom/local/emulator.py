"""The AWS emulator: moto's server on a free port of loopback. ``python -m darkroom.local.emulator``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from darkroom.local.http import QuietHandler

_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")


class _Atomic:
    """Conditional writes one at a time: S3 decides each atomically, moto looks first and writes later."""

    def __init__(self, app: DomainDispatcherApplication) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT" and any(name in environ for name in _CONDITIONS):
            with self._lock:
                return list(self._app(environ, start_response))
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


def main() -> None:
    """Serve until SIGTERM; says where in a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m darkroom.local.emulator")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    host = parser.parse_args().host
    app = _Atomic(DomainDispatcherApplication(create_backend_app))
    server = make_server(host, 0, app, threaded=True, request_handler=QuietHandler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    line = {"event": "listening", "url": f"http://{host}:{server.server_port}"}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()

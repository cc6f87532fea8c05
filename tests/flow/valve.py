"""A TCP forwarder that can be shut: who calls it then waits for an answer that never comes."""

import contextlib
import socket
import threading
from typing import Self
from urllib.parse import urlsplit


class Valve:
    """Forwards connections on a free port of loopback to the host of a URL, those that come once it is open."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (str(parts.hostname), int(parts.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._called = threading.Event()
        self._opened = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._opened.set()
        self._listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def wait_for_caller(self) -> None:
        assert self._called.wait(60), "nobody called"

    def open(self) -> None:
        self._opened.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                self._called.set()
                threading.Thread(target=self._forward, args=(caller,), daemon=True).start()

    def _forward(self, caller: socket.socket) -> None:
        if not self._opened.is_set():
            self._opened.wait()
            caller.close()
            return
        with contextlib.suppress(OSError), caller, socket.create_connection(self._target) as target:
            back = threading.Thread(target=_pump, args=(target, caller), daemon=True)
            back.start()
            _pump(caller, target)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

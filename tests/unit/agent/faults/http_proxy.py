"""A small HTTP proxy that fails as it is told to. Its port stays the same, whatever comes and goes behind it.

It reads one request a connection, and forwards whatever comes back, websockets included.
"""

import json
import math
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto

#: As the web UI answers when PyTorch gets no more memory, and when something else is wrong.
_OUT_OF_MEMORY = {
    "error": "OutOfMemoryError",
    "detail": "",
    "body": "",
    "errors": "CUDA out of memory. Tried to allocate 2.25 GiB",
}
_ERROR = {"error": "RuntimeError", "detail": "", "body": "", "errors": "cannot reshape tensor of 0 elements"}


class Fault(Enum):
    """What may become of a request."""

    #: Answered with 500; the server never sees it.
    ERROR = auto()
    OUT_OF_MEMORY = auto()
    #: The server gets it; the client's connection ends at once, before the answer, or in its middle.
    CUT_AT_ONCE = auto()
    CUT_BEFORE_ANSWER = auto()
    CUT_MID_ANSWER = auto()
    #: Answered with 200; the server never sees it.
    IGNORED = auto()
    #: Forwarded only when the proxy is mended.
    HELD = auto()


@dataclass
class _Rule:
    #: Of the request's head.
    pattern: re.Pattern[str]
    fault: Fault
    left: float
    #: Set with the first request that matches.
    has_come: threading.Event = field(default_factory=threading.Event)
    #: Set when the requests that it holds may pass.
    is_over: threading.Event = field(default_factory=threading.Event)


class HttpProxy:
    """A proxy before whatever listens at ``upstream``, if anything does."""

    upstream: tuple[str, int] | None = None

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._listener: socket.socket | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The same for all the proxy's life."""
        return f"http://127.0.0.1:{self._port}"

    def fail(self, fault: Fault, pattern: str, times: float = math.inf) -> threading.Event:
        """Let the next ``times`` requests fail whose head matches; the event is set when the first of them has come."""
        rule = _Rule(re.compile(pattern), fault, times)
        with self._lock:
            self._rules.append(rule)
        return rule.has_come

    def mend(self) -> None:
        """Let requests pass again, those included that are held or hang."""
        with self._lock:
            rules, self._rules = self._rules, []
        for rule in rules:
            rule.is_over.set()
        self._flows.set()

    def hang(self) -> None:
        """Take connections, and neither forward nor answer anything."""
        self._flows.clear()

    def listen(self) -> None:
        """Take connections."""
        listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="proxy", daemon=True).start()

    def refuse(self) -> None:
        """Take no connections, and end those that there are."""
        if self._listener is not None:
            _end(self._listener)
            self._listener = None
        with self._lock:
            for connection in self._connections:
                _end(connection)
            self._connections.clear()

    def failed(self, head: str, body: bytes, fault: Fault) -> None:
        """Hear of a request that fails."""

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), name="proxied", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        upstream = self.upstream
        with suppress(OSError), client:
            self._note(client)
            head, body = _request(client)
            self._flows.wait()
            rule = self._rule(head)
            fault = rule.fault if rule else None
            if rule is not None:
                self.failed(head, body, rule.fault)
                rule.has_come.set()
            if fault in (Fault.ERROR, Fault.OUT_OF_MEMORY):
                client.sendall(_answer(500, _ERROR if fault is Fault.ERROR else _OUT_OF_MEMORY))
            elif fault is Fault.IGNORED:
                client.sendall(_answer(200, {}))
            elif upstream is not None:
                if rule is not None and fault is Fault.HELD:
                    rule.is_over.wait()
                    fault = None
                self._forward(client, head, body, upstream, fault)
        with self._lock:
            self._connections.discard(client)

    def _forward(
        self, client: socket.socket, head: str, body: bytes, address: tuple[str, int], fault: Fault | None
    ) -> None:
        with socket.create_connection(address) as upstream:
            self._note(upstream)
            is_websocket = re.search(r"(?mi)^upgrade: *websocket", head) is not None
            if not is_websocket:
                head = re.sub(r"(?mi)^(connection|expect):.*\r\n", "", head)
                head = head.replace("\r\n", "\r\nConnection: close\r\n", 1)
            upstream.sendall(head.encode("latin-1") + body)
            if fault is Fault.CUT_AT_ONCE:
                _end(client)
            if is_websocket:
                threading.Thread(target=self._relay, args=(client, upstream), name="proxied", daemon=True).start()
            if fault is None:
                self._relay(upstream, client)
            else:
                answer = b"".join(iter(lambda: upstream.recv(65536), b""))
                if fault is Fault.CUT_MID_ANSWER:
                    client.sendall(answer[: len(answer) - 8])
                _end(client)

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                target.sendall(data)
        _end(source)
        _end(target)

    def _note(self, connection: socket.socket) -> None:
        with self._lock:
            if self._listener is None:
                _end(connection)
            self._connections.add(connection)

    def _rule(self, head: str) -> _Rule | None:
        with self._lock:
            for rule in self._rules:
                if rule.left > 0 and rule.pattern.search(head):
                    rule.left -= 1
                    return rule
        return None


def _request(client: socket.socket) -> tuple[str, bytes]:
    """A request's head, with the empty line that ends it, and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(client)
    head, _, body = data.partition(b"\r\n\r\n")
    if re.search(rb"(?mi)^expect: *100-continue", head):
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = re.search(rb"(?mi)^content-length: *(\d+)", head)
    while length is not None and len(body) < int(length[1]):
        body += _received(client)
    return head.decode("latin-1") + "\r\n\r\n", body


def _received(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ConnectionResetError
    return data


def _answer(status: int, body: dict[str, str]) -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + content


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()

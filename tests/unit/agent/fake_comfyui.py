"""A ComfyUI over real HTTP that does as a test says: what is in its queue, in its history and on its disk."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Entry = dict[str, Any]


def finished(**outputs: Any) -> Entry:
    """What the history says of a prompt that ended well; `outputs` by node."""
    return {"outputs": outputs, "status": {"status_str": "success", "completed": True, "messages": []}}


def interrupted() -> Entry:
    """What the history says of a prompt that was interrupted."""
    messages = [["execution_interrupted", {"node_id": "3"}]]
    return {"outputs": {}, "status": {"status_str": "error", "completed": False, "messages": messages}}


class FakeComfyUI:
    """It runs nothing: prompts stay where they are until a test, or a call, moves them. There is no websocket."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.waiting: list[str] = []
        self.history: dict[str, Entry] = {}
        self.files: dict[str, bytes] = {}
        #: Every call that changes something, with its body.
        self.calls: list[tuple[str, Any]] = []
        #: What comes of a prompt when it is posted, interrupted, or taken out of the queue.
        self.on_prompt: Callable[[str], None] = self.running.append
        self.on_interrupt: Callable[[str], None] = lambda prompt_id: self.end(prompt_id, interrupted())
        self.on_delete: Callable[[str], None] = self.waiting.remove
        self.answers_the_queue = True

    def end(self, prompt_id: str, entry: Entry) -> None:
        """Let a running prompt end."""
        self.history[prompt_id] = entry
        self.running.remove(prompt_id)

    def begin(self, prompt_id: str) -> None:
        """Let a waiting prompt begin."""
        self.running.append(prompt_id)
        self.waiting.remove(prompt_id)

    def called(self, path: str) -> list[Any]:
        """The bodies of the calls of a path."""
        return [body for called, body in self.calls if called == path]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*fake._get(self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.calls.append((self.path, body))
                self._answer(200, json.dumps(fake._post(self.path, body)).encode())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _get(self, path: str) -> tuple[int, bytes]:
        parts = urlsplit(path)
        if parts.path == "/view":
            found = self.files.get(parse_qs(parts.query)["filename"][0])
            return (404, b"") if found is None else (200, found)
        if parts.path == "/queue":
            queue = {
                name: [[number, prompt_id, {}, {}, []] for number, prompt_id in enumerate(prompts)]
                for name, prompts in (("queue_running", self.running), ("queue_pending", self.waiting))
            }
            return (200, json.dumps(queue).encode()) if self.answers_the_queue else (500, b"")
        if parts.path.startswith("/history/"):
            prompt_id = parts.path.rpartition("/")[2]
            return 200, json.dumps({key: self.history[key] for key in [prompt_id] if key in self.history}).encode()
        return (200, b"{}") if parts.path == "/system_stats" else (404, b"")

    def _post(self, path: str, body: Any) -> Any:
        if path == "/prompt":
            self.on_prompt(body["prompt_id"])
            return {"prompt_id": body["prompt_id"], "node_errors": {}}
        if path == "/interrupt" and body["prompt_id"] in self.running:
            self.on_interrupt(body["prompt_id"])
        if path == "/queue" and body["delete"][0] in self.waiting:
            self.on_delete(body["delete"][0])
        return {}

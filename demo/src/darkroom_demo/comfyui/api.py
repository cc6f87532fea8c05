"""ComfyUI's HTTP API and websocket: routes, the queue, the history.

Follows server.py and execution.py of ComfyUI. Queue and history live on the event loop; one prompt at a time runs in a
thread. Files are in the given folder only.
"""

import asyncio
import bisect
import json
import os
import resource
import sys
import time
import uuid
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
from aiohttp import web

from darkroom_demo import catalog
from darkroom_demo.comfyui.files import Files
from darkroom_demo.comfyui.graph import Executor
from darkroom_demo.comfyui.nodes import NODE_TYPES, Folders, node_info
from darkroom_demo.comfyui.validation import validate
from darkroom_demo.drawing import Tempo

# number, prompt id, prompt, extra data, outputs to execute
Item: TypeAlias = tuple[float, str, dict[str, Any], dict[str, Any], list[str]]

LARGEST_UPLOAD = 100 * 1024 * 1024  # bytes, ComfyUI's default
MODELS = {"checkpoints": catalog.CHECKPOINTS, "loras": catalog.LORAS, "vae": (), "embeddings": ()}
FEATURES = {"supports_preview_metadata": False, "max_upload_size": LARGEST_UPLOAD}


class ComfyUI:
    """One ComfyUI: its queue, its history, its sockets and its executor."""

    def __init__(self, tempo: Tempo, folder: Path) -> None:
        self.folders = Folders(folder / "input", folder / "output", folder / "temp")
        for path in (self.folders.input, self.folders.output, self.folders.temp):
            path.mkdir(parents=True)
        self.files = Files(self.folders)
        self.executor = Executor(self.folders, tempo, self._send_from_thread)
        self.queue: list[Item] = []
        self.queued = asyncio.Event()
        self.running: Item | None = None
        self.history: dict[str, dict[str, Any]] = {}
        self.number = 0
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.messages: asyncio.Queue[tuple[str, dict[str, Any], str | None]] = asyncio.Queue()
        self.executing: tuple[str, str] | None = None  # client id and node

    def application(self) -> web.Application:
        """Return the aiohttp application; every route is there with the prefix /api too."""
        app = web.Application(client_max_size=LARGEST_UPLOAD)
        routes = [
            ("GET", "/ws", self.websocket),
            ("GET", "/prompt", self.get_prompt),
            ("POST", "/prompt", self.post_prompt),
            ("GET", "/queue", self.get_queue),
            ("POST", "/queue", self.post_queue),
            ("POST", "/interrupt", self.interrupt),
            ("POST", "/free", self.free),
            ("GET", "/history", self.get_history),
            ("GET", "/history/{prompt_id}", self.get_history_of),
            ("POST", "/history", self.post_history),
            ("GET", "/view", self.files.view),
            ("POST", "/upload/image", self.files.upload),
            ("GET", "/system_stats", self.system_stats),
            ("GET", "/features", self.features),
            ("GET", "/embeddings", self.embeddings),
            ("GET", "/models", self.model_types),
            ("GET", "/models/{folder}", self.models),
            ("GET", "/object_info", self.object_info),
            ("GET", "/object_info/{node_class}", self.object_info_of),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
            app.router.add_route(method, f"/api{path}", handler)
        app.cleanup_ctx.append(self._tasks)
        app.on_shutdown.append(self._close)
        return app

    async def _tasks(self, _app: web.Application) -> Any:
        self.loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._publish())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self, _app: web.Application) -> None:
        self.queue.clear()
        self.executor.interrupted.set()
        for socket in list(self.sockets.values()):
            await socket.close(code=aiohttp.WSCloseCode.GOING_AWAY)

    # The queue

    async def _work(self) -> None:
        while True:
            await self.queued.wait()
            self.running = item = self.queue.pop(0)
            self._queue_changed()
            # Cleared before anyone can see the prompt running: an interrupt from then on is meant for it.
            self.executor.interrupted.clear()
            _, prompt_id, prompt, extra_data, outputs = item
            result = await asyncio.to_thread(self.executor.execute, prompt, prompt_id, extra_data, outputs)
            self.executing = None
            self.history[prompt_id] = {"prompt": list(item), **result.entry()}
            self.running = None
            self._queue_changed()
            client_id = extra_data.get("client_id")
            if client_id is not None:
                self._send("executing", {"node": None, "prompt_id": prompt_id}, client_id)

    def _queue_changed(self) -> None:
        if self.queue:
            self.queued.set()
        else:
            self.queued.clear()
        self._send("status", {"status": self._queue_info()})

    def _queue_info(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": len(self.queue) + (self.running is not None)}}

    async def get_prompt(self, _request: web.Request) -> web.Response:
        """Answer with the length of the queue."""
        return web.json_response(self._queue_info())

    async def post_prompt(self, request: web.Request) -> web.Response:
        """Validate a prompt and queue it."""
        content = await request.json()
        if "number" in content:
            number = float(content["number"])
        else:
            number = -self.number if content.get("front") else self.number
            self.number += 1
        if "prompt" not in content:
            return _refused("no_prompt", "No prompt provided", "No prompt provided")
        prompt_id = content.get("prompt_id")
        if prompt_id is None:
            prompt_id = str(uuid.uuid4())
        elif not _is_uuid(prompt_id):
            form = "prompt_id must be a UUID string in canonical lowercase hyphenated form"
            details = f"{form}; omit it to let the server generate one"
            return _refused("invalid_prompt_id", "prompt_id must be a valid UUID", details)
        validation = validate(content["prompt"], self.folders)
        if validation.error is not None:
            return web.json_response({"error": validation.error, "node_errors": validation.node_errors}, status=400)
        extra_data = dict(content.get("extra_data") or {})
        if "client_id" in content:
            extra_data["client_id"] = content["client_id"]
        extra_data["create_time"] = int(time.time() * 1000)
        item = (number, prompt_id, content["prompt"], extra_data, validation.outputs)
        bisect.insort(self.queue, item, key=lambda other: other[0])
        self._queue_changed()
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": validation.node_errors})

    async def get_queue(self, _request: web.Request) -> web.Response:
        """Answer with the running and the waiting prompts."""
        running = [] if self.running is None else [self.running]
        return web.json_response({"queue_running": running, "queue_pending": self.queue})

    async def post_queue(self, request: web.Request) -> web.Response:
        """Take waiting prompts out of the queue."""
        content = await request.json()
        if content.get("clear"):
            self.queue.clear()
        unwanted = content.get("delete", [])
        self.queue[:] = [item for item in self.queue if item[1] not in unwanted]
        self._queue_changed()
        return web.Response()

    async def interrupt(self, request: web.Request) -> web.Response:
        """End the running prompt; with a prompt id, only if it is that one."""
        try:
            content = await request.json()
        except json.JSONDecodeError:
            content = {}
        prompt_id = content.get("prompt_id")
        if not prompt_id or (self.running is not None and self.running[1] == prompt_id):
            self.executor.interrupted.set()
        return web.Response()

    async def free(self, _request: web.Request) -> web.Response:
        """Answer as if memory were freed."""
        return web.Response()

    async def get_history(self, request: web.Request) -> web.Response:
        """Answer with the finished prompts, all or a page of them."""
        ids = list(self.history)
        count = int(request.query.get("max_items", len(ids)))
        offset = int(request.query.get("offset", -1))
        if offset < 0:
            offset = max(len(ids) - count, 0)
        return web.json_response({prompt_id: self.history[prompt_id] for prompt_id in ids[offset : offset + count]})

    async def get_history_of(self, request: web.Request) -> web.Response:
        """Answer with one finished prompt, or an empty object."""
        prompt_id = request.match_info["prompt_id"]
        found = self.history.get(prompt_id)
        return web.json_response({} if found is None else {prompt_id: found})

    async def post_history(self, request: web.Request) -> web.Response:
        """Forget finished prompts."""
        content = await request.json()
        if content.get("clear"):
            self.history.clear()
        for prompt_id in content.get("delete", []):
            self.history.pop(prompt_id, None)
        return web.Response()

    # The websocket

    async def websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Keep a client's socket open and send it what concerns it."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client_id = request.query.get("clientId") or uuid.uuid4().hex
        self.sockets[client_id] = socket
        try:
            await socket.send_json({"type": "status", "data": {"status": self._queue_info(), "sid": client_id}})
            if self.executing is not None and self.executing[0] == client_id:
                await socket.send_json({"type": "executing", "data": {"node": self.executing[1]}})
            async for message in socket:
                if message.type == aiohttp.WSMsgType.TEXT and '"feature_flags"' in message.data:
                    await socket.send_json({"type": "feature_flags", "data": FEATURES})
        finally:
            # A client that came back has a newer socket under its id.
            if self.sockets.get(client_id) is socket:
                del self.sockets[client_id]
        return socket

    def _send(self, event: str, data: dict[str, Any], client_id: str | None = None) -> None:
        if event == "executing" and client_id is not None:
            self.executing = (client_id, data["node"]) if data["node"] is not None else None
        self.messages.put_nowait((event, data, client_id))

    def _send_from_thread(self, event: str, data: dict[str, Any], client_id: str | None) -> None:
        self.loop.call_soon_threadsafe(self._send, event, data, client_id)

    async def _publish(self) -> None:
        while True:
            event, data, client_id = await self.messages.get()
            if client_id is None:
                sockets = list(self.sockets.values())
            else:
                sockets = [self.sockets[client_id]] if client_id in self.sockets else []
            for socket in sockets:
                try:
                    await socket.send_json({"type": event, "data": data})
                except (aiohttp.ClientError, ConnectionError):
                    continue

    # What there is

    async def system_stats(self, _request: web.Request) -> web.Response:
        """Answer with the machine's memory; there is no GPU."""
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        free = total - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        system = {
            "os": sys.platform,
            "ram_total": total,
            "ram_free": free,
            "comfyui_version": "0.1.0+darkroom-demo",
            "python_version": sys.version,
            "pytorch_version": "none",
            "embedded_python": False,
            "argv": ["darkroom_demo"],
        }
        device = {
            "name": "cpu",
            "type": "cpu",
            "index": None,
            "vram_total": total,
            "vram_free": free,
            "torch_vram_total": total,
            "torch_vram_free": free,
        }
        return web.json_response({"system": system, "devices": [device]})

    async def features(self, _request: web.Request) -> web.Response:
        """Answer with the server's feature flags."""
        return web.json_response(FEATURES)

    async def embeddings(self, _request: web.Request) -> web.Response:
        """Answer with the embeddings: none."""
        return web.json_response([])

    async def model_types(self, _request: web.Request) -> web.Response:
        """Answer with the folders of models."""
        return web.json_response(list(MODELS))

    async def models(self, request: web.Request) -> web.Response:
        """Answer with the models of a folder."""
        names = MODELS.get(request.match_info["folder"])
        return web.Response(status=404) if names is None else web.json_response(list(names))

    async def object_info(self, _request: web.Request) -> web.Response:
        """Answer with all node types."""
        return web.json_response({name: node_info(name, self.folders) for name in NODE_TYPES})

    async def object_info_of(self, request: web.Request) -> web.Response:
        """Answer with one node type, or an empty object."""
        name = request.match_info["node_class"]
        return web.json_response({name: node_info(name, self.folders)} if name in NODE_TYPES else {})


def _refused(kind: str, message: str, details: str) -> web.Response:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return web.json_response({"error": error, "node_errors": {}}, status=400)


def _is_uuid(value: Any) -> bool:
    try:
        return bool(str(uuid.UUID(value)) == value)
    except (AttributeError, TypeError, ValueError):
        return False

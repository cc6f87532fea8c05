"""A simulated GPU behind the web UI's API, for a job that takes exactly so long: ``python -m tests.bench.gpu``.

As in the web UI, a POST waits for a lock, holds it for the GPU's time, and answers after it has let go. Every hold is
noted by the monotonic clock of the host: ``GET /bench/log`` is the truth about the GPU.
"""

import argparse
import asyncio
import base64
import json
import os
import struct
import time
import zlib
from collections import deque

from aiohttp import web

from tests.bench.processes import announce

_STEPS = 20
#: As many ended tasks as the web UI remembers.
_REMEMBERED = 16


def png(size: int) -> bytes:
    """A PNG of nearly ``size`` bytes; noise does not compress."""
    width = 512
    rows = max(1, size // (3 * width))
    data = b"".join(b"\0" + os.urandom(3 * width) for _ in range(rows))
    header = struct.pack(">IIBBBBB", width, rows, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


class Gpu:
    """One web UI on one GPU."""

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._answer = json.dumps(
            {
                "images": [base64.b64encode(png(size)).decode()],
                "parameters": {"prompt": "a lighthouse", "steps": _STEPS, "width": 512, "height": 512},
                "info": json.dumps({"all_seeds": [7], "seed": 7}),
            }
        ).encode()
        self._lock = asyncio.Lock()
        self._holds: list[tuple[float, float]] = []
        self._begun = 0.0
        self._current: str | None = None
        self._pending: set[str] = set()
        self._completed: deque[str] = deque(maxlen=_REMEMBERED)

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/sdapi/v1/txt2img", self._generate),
                web.get("/sdapi/v1/options", self._nothing),
                web.get("/sdapi/v1/progress", self._total_progress),
                web.post("/sdapi/v1/interrupt", self._nothing),
                web.post("/internal/progress", self._task_progress),
                web.get("/bench/count", self._count),
                web.get("/bench/log", self._log),
            ]
        )
        return app

    async def _generate(self, request: web.Request) -> web.Response:
        task = (await request.json()).get("force_task_id") or f"task({id(request)})"
        self._pending.add(task)
        async with self._lock:
            self._pending.discard(task)
            self._current, self._begun = task, time.monotonic()
            await asyncio.sleep(self._seconds)
            self._holds.append((self._begun, time.monotonic()))
            self._current = None
            self._completed.append(task)
        await asyncio.sleep(0)  # the next job begins before this one's answer is written
        return web.Response(body=self._answer, content_type="application/json")

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.json_response({})

    async def _total_progress(self, request: web.Request) -> web.Response:
        return web.json_response({"progress": self._progress(), "state": {"job_count": int(self._current is not None)}})

    async def _task_progress(self, request: web.Request) -> web.Response:
        task = (await request.json())["id_task"]
        active = task == self._current
        return web.json_response(
            {
                "active": active,
                "queued": task in self._pending,
                "paused": False,
                "completed": task in self._completed,
                "progress": self._progress() if active else None,
            }
        )

    def _progress(self) -> float:
        """Of the running job, step by step as a sampler goes."""
        if self._current is None:
            return 0.0
        return min(1.0, int((time.monotonic() - self._begun) / self._seconds * _STEPS) / _STEPS)

    async def _count(self, request: web.Request) -> web.Response:
        return web.json_response(len(self._holds))

    async def _log(self, request: web.Request) -> web.Response:
        return web.json_response(self._holds)


async def _serve(gpu: Gpu) -> None:
    runner = web.AppRunner(gpu.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    announce(runner.addresses[0][1])
    await asyncio.Event().wait()


def main() -> None:
    """Serve until the parent ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True, help="what a job holds the GPU for")
    parser.add_argument("--bytes", type=int, required=True, help="the size of a picture")
    options = parser.parse_args()
    asyncio.run(_serve(Gpu(options.seconds, options.bytes)))


if __name__ == "__main__":
    main()

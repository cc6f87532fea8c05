"""Starts and stops a demo runtime: as a process or, for tests, in a thread of this one.

Files are in a temporary directory that goes when the server stops.
"""

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from aiohttp import web

from darkroom_demo.comfyui.api import ComfyUI
from darkroom_demo.drawing import Tempo
from darkroom_demo.sdwebui.api import WebUI

Engine: TypeAlias = Literal["sdwebui", "comfyui"]
ENGINES = get_args(Engine)


@dataclass(frozen=True)
class Settings:
    """What a demo runtime is started with; times in seconds, port 0 for any free one."""

    engine: Engine
    host: str = "127.0.0.1"
    port: int = 7860
    seconds_per_step: float = 0.02
    load_seconds: float = 0.0
    #: As the web UI's own flag: without its pages there is no /internal/… either.
    nowebui: bool = False


@dataclass(frozen=True)
class DemoServer:
    """A demo runtime that listens."""

    engine: Engine
    url: str
    #: Of all its runs. Tests change it to hold a run for as long as they look at it.
    tempo: Tempo


async def serve(settings: Settings, stop: asyncio.Event, on_listening: Callable[[DemoServer], None]) -> None:
    """Serve until `stop` is set. Nothing listens while the model "loads", as with the real engines."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), settings.load_seconds)
    if stop.is_set():
        return
    with tempfile.TemporaryDirectory(prefix=f"darkroom-demo-{settings.engine}-", ignore_cleanup_errors=True) as folder:
        # Requests that run are interrupted at shutdown; those that wait are dropped after a second.
        tempo = Tempo(settings.seconds_per_step)
        runner = web.AppRunner(_application(settings, tempo, Path(folder)), access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, settings.host, settings.port)
            await site.start()
            port = runner.addresses[0][1]
            on_listening(DemoServer(settings.engine, f"http://{settings.host}:{port}", tempo))
            await stop.wait()
        finally:
            await runner.cleanup()


def _application(settings: Settings, tempo: Tempo, folder: Path) -> web.Application:
    if settings.engine == "comfyui":
        return ComfyUI(tempo, folder).application()
    return WebUI(tempo, folder, nowebui=settings.nowebui).application()


@contextmanager
def serving(
    engine: Engine, seconds_per_step: float = 0.0, load_seconds: float = 0.0, *, port: int = 0, nowebui: bool = False
) -> Iterator[DemoServer]:
    """Run a demo runtime, on any free port, in a background thread for as long as the context lasts."""
    settings = Settings(engine, "127.0.0.1", port, seconds_per_step, load_seconds, nowebui)
    started: Future[tuple[DemoServer, Callable[[], None]]] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        await serve(settings, stop, lambda server: started.set_result((server, lambda: _call_soon(loop, stop.set))))

    def target() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=target, name=f"darkroom-demo-{engine}", daemon=True)
    thread.start()
    server, stop_server = started.result()
    try:
        yield server
    finally:
        stop_server()
        thread.join()


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(callback)

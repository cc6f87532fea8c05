"""An engine that fails as it is told to: a demo runtime on a watched GPU, behind a proxy that outlives it."""

import asyncio
import math
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from urllib.parse import urlsplit

from darkroom_demo.drawing import Tempo
from darkroom_demo.server import DemoServer, Engine, Settings, serve
from tests.unit.agent.faults.gpu import POWER, Gpu, Power
from tests.unit.agent.faults.http_proxy import Fault, HttpProxy

#: The requests that bring a job.
JOBS = r"^POST /(sdapi/v1/(txt|img)2img|prompt) "
_SEED = re.compile(rb'"seed": ?(\d+)')


class EngineProxy(HttpProxy):
    """One engine at one address, whose runtime can be killed and started."""

    def __init__(self, engine: Engine, seconds_per_step: float = 0.0) -> None:
        super().__init__()
        self.engine = engine
        self.gpu = Gpu()
        #: The seeds of the jobs that failed on their way, by how they failed.
        self.hit: list[tuple[int, Fault]] = []
        self._settings = Settings(engine, "127.0.0.1", 0, seconds_per_step)
        self._runtime: _Runtime | None = None

    @property
    def tempo(self) -> Tempo:
        """How fast the runtime goes that there is now; the next one has its own."""
        assert self._runtime is not None
        return self._runtime.tempo

    def start(self) -> None:
        """Start a runtime with an empty disk, and listen."""
        self._runtime = _Runtime(self._settings, Power(self.gpu))
        self.upstream = self._runtime.address
        self.listen()

    def kill(self) -> None:
        """Refuse connections, and end the runtime in the middle of whatever it does."""
        self.refuse()
        self.upstream = None
        if self._runtime is not None:
            self._runtime.kill()
            self._runtime = None

    def restart(self) -> None:
        """Kill the runtime and start another, which knows nothing of the first."""
        self.kill()
        self.start()

    def fail_jobs(self, fault: Fault, times: float = math.inf) -> None:
        """Let the next ``times`` requests fail that bring a job."""
        self.fail(fault, JOBS, times)

    def failed(self, head: str, body: bytes, fault: Fault) -> None:
        """Note the job."""
        if re.search(JOBS, head) and (seed := _SEED.search(body)):
            self.hit.append((int(seed[1]), fault))


class _Runtime:
    """One life of a demo runtime."""

    def __init__(self, settings: Settings, power: Power) -> None:
        self._settings = settings
        self._power = power
        self._stop = asyncio.Event()
        self._started: Future[tuple[DemoServer, Callable[[], object]]] = Future()
        context = copy_context()
        context.run(POWER.set, power)
        threading.Thread(target=context.run, args=(self._live,), name="engine", daemon=True).start()
        server, _ = self._started.result()
        self.tempo = server.tempo
        url = urlsplit(server.url)
        self.address = (str(url.hostname), int(url.port or 0))

    def kill(self) -> None:
        """End it; it goes on for a moment, and does nothing more."""
        self._power.cut()
        self._started.result()[1]()

    def _live(self) -> None:
        def listening(server: DemoServer) -> None:
            loop = asyncio.get_running_loop()
            self._started.set_result((server, lambda: loop.call_soon_threadsafe(self._stop.set)))

        asyncio.run(serve(self._settings, self._stop, listening))


@contextmanager
def proxied(engine: Engine, seconds_per_step: float = 0.0) -> Iterator[EngineProxy]:
    """An engine that can fail, for as long as the context lasts."""
    proxy = EngineProxy(engine, seconds_per_step)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.mend()
        proxy.kill()

"""What the tests' engine images have in common: the demo runtime, and a line that says how it was started."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom_demo.server import DemoServer, Engine, Settings, serve


def run(engine: Engine, host: str, port: int, arguments: Mapping[str, Any], *, nowebui: bool = False) -> None:
    """Serve until SIGTERM; ``arguments``, as the engine understood them, are told in a line of JSON."""
    _say("started", arguments=arguments)
    seconds_per_step = float(os.environ.get("SD_DEMO_SECONDS_PER_STEP", "0"))
    load_seconds = float(os.environ.get("SD_DEMO_LOAD_SECONDS", "0"))
    asyncio.run(_serve(Settings(engine, host, port, seconds_per_step, load_seconds, nowebui)))


def write_into(*folders: Path | None) -> None:
    """Write into folders as engines do; ends the program where that cannot be."""
    for folder in folders:
        if folder:
            try:
                tempfile.TemporaryFile(dir=folder).close()
            except OSError as error:
                sys.exit(f"{folder} cannot be written into: {error.strerror}")


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve(settings, stop, _announce)
    _say("stopped")


def _announce(server: DemoServer) -> None:
    _say("listening", engine=server.engine, url=server.url)


def _say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()

"""`python -m darkroom_demo --engine sdwebui|comfyui`: one demo runtime, until SIGTERM or SIGINT.

Prints one line to standard output when it listens: {"event": "listening", "engine": …, "url": …}. Its log, with the
words of prompts that the model does not know, goes to standard error.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys

from darkroom_demo.server import ENGINES, DemoServer, Settings, serve


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m darkroom_demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", choices=ENGINES, required=True, help="whose API to speak")
    parser.add_argument("--host", default=Settings.host)
    parser.add_argument("--port", type=int, default=Settings.port, help="0 for any free port")
    parser.add_argument("--seconds-per-step", type=_seconds, default=Settings.seconds_per_step)
    parser.add_argument(
        "--load-seconds", type=_seconds, default=Settings.load_seconds, help="how long until it listens"
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(_run(Settings(**vars(parser.parse_args()))))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, stop, _announce)


def _announce(server: DemoServer) -> None:
    sys.stdout.write(json.dumps({"event": "listening", "engine": server.engine, "url": server.url}) + "\n")
    sys.stdout.flush()


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"has to be 0 or more seconds, not {text}")
    return seconds


if __name__ == "__main__":
    main()

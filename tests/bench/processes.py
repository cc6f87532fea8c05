"""What the simulators of the benchmark say once they listen: the line that ``darkroom.local.processes`` waits for."""

import json
import sys


def announce(port: int) -> None:
    """Say on which port of loopback this process listens."""
    sys.stdout.write(json.dumps({"event": "listening", "url": f"http://127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()

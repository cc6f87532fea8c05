"""``python -m tests.e2e.controlplane``: a control plane to try things on, until Ctrl-C.

``make e2e E2E=--cluster=<the kubeconfig that it names>`` runs the tests on it.
"""

import signal
import tempfile
import threading
from pathlib import Path

from tests.e2e.controlplane import binaries, cluster


def main() -> None:
    """Run it until SIGINT or SIGTERM."""
    binaries.build_missing()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder, cluster.processes(Path(folder)) as running:
        print(f"export KUBECONFIG={running.api.kubeconfig}", flush=True)  # noqa: T201 - it is to be copied
        ended.wait()


if __name__ == "__main__":
    main()

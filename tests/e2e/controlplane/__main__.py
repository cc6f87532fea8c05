"""``python -m tests.e2e.controlplane``: a control plane to try things on, until Ctrl-C.

``make e2e E2E=--cluster=<the kubeconfig that it names>`` runs the tests on it. With ``--gitops`` it has Argo CD, KEDA
and Karpenter too, and a Git repository.
"""

import argparse
import signal
import tempfile
import threading
from pathlib import Path

from tests.e2e.controlplane import binaries, cluster


def main() -> None:
    """Run it until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.controlplane")
    parser.add_argument("--gitops", action="store_true", help="with Argo CD, KEDA, Karpenter and a Git repository")
    start = cluster.gitops if parser.parse_args().gitops else cluster.processes
    binaries.build_missing()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder, start(Path(folder)) as running:
        for line in _lines(running):
            print(line, flush=True)  # noqa: T201 - it is to be copied
        ended.wait()


def _lines(running: cluster.Cluster) -> list[str]:
    lines = [f"export KUBECONFIG={running.api.kubeconfig}"]
    if isinstance(running, cluster.GitOpsCluster):
        lines += [
            f"# git clone {running.repository.url}",
            f"# Its files: {running.repository.folder}",
            f"# The logs: {running.processes.folder}/*.log",
            f"# Memory: {running.processes.memory >> 20} MiB in {len(running.processes.named)} processes",
        ]
    return lines


if __name__ == "__main__":
    main()

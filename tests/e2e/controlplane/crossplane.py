"""The real Crossplane core beside a control plane. Its package manager reads packages, and starts nothing of them.

It runs with its webhooks, and with managed resources that are activated by policy only, as the clusters' does.
"""

import base64
import sys
from dataclasses import dataclass
from pathlib import Path

import trustme
import yaml

from darkroom.local.kubelet import free_port
from darkroom_function.definitions import FUNCTION
from tests.e2e.controlplane import webhooks
from tests.e2e.controlplane.api import Api
from tests.e2e.controlplane.binaries import component, source
from tests.e2e.controlplane.certificates import Authority
from tests.e2e.controlplane.processes import Process, Processes, answers, listens

NAMESPACE = "crossplane-system"
_AUTHORITY, _CLIENT = "crossplane-root-ca", "crossplane-tls-client"
_ROOT = Path(__file__).parents[3]
#: How the clusters run the core.
VALUES = _ROOT / "crossplane" / "core" / "values.yaml"


def start(processes: Processes, api: Api) -> None:
    """Bring Crossplane up, and wait until it is ready."""
    program, cluster = component("crossplane") / "bin" / "crossplane", source("crossplane") / "cluster"
    environment = {
        "KUBECONFIG": str(api.kubeconfig),
        "POD_NAMESPACE": NAMESPACE,
        "TLS_CA_SECRET_NAME": _AUTHORITY,
        "TLS_SERVER_SECRET_NAME": "crossplane-tls-server",
        "TLS_CLIENT_SECRET_NAME": _CLIENT,
        "CRDS_PATH": str(cluster / "crds"),
    }
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    # The initialisation declares them too, and fails by asking for one of the kinds at once.
    api.declare(sorted((cluster / "crds").glob("*.yaml")))
    processes.run(
        "crossplane-init", *(program, "core", "init", "--enable-webhooks=false"), environment=environment
    ).wait()
    server = _authority(processes, api).issue("crossplane-server", "localhost")
    health, port = free_port(), free_port()
    # It does not make the folder itself, and reads no package without it.
    packages = processes.folder / "packages"
    packages.mkdir()
    core = processes.run(
        "crossplane",
        *(program, "core", "start", *yaml.safe_load(VALUES.read_text())["args"]),
        "--package-runtime=External",
        f"--cache-dir={packages}",
        f"--metrics-port={free_port()}",
        f"--health-probe-port={health}",
        f"--webhook-port={port}",
        f"--tls-server-certs-dir={server.folder}",
        f"--tls-client-certs-dir={_client(processes, api)}",
        environment=environment,
    )
    webhooks.call(api, sorted((cluster / "webhookconfigurations").glob("*.yaml")), port, server)
    core.wait_until(answers(f"http://127.0.0.1:{health}/readyz"))


@dataclass(frozen=True)
class Function:
    """The composition function as a process, and where Crossplane finds it."""

    process: Process
    endpoint: str


def start_function(
    processes: Processes, api: Api, module: str = "darkroom_function", host: str = "127.0.0.1"
) -> Function:
    """Run the composition function, a Python module, as a process."""
    port = free_port()
    server = _authority(processes, api).issue(f"{module}-{port}", host)
    process = processes.run(
        module,
        *(sys.executable, "-m", module, "--debug"),
        f"--address={host}:{port}",
        f"--tls-certs-dir={server.folder}",
        environment={"PYTHONPATH": str(_ROOT)},  # for functions of the tests
    )
    process.wait_until(listens(host, port))
    return Function(process, f"dns:///{host}:{port}")


def call_function(api: Api, endpoint: str) -> None:
    """Have Crossplane call the composition function there, as the package manager would."""
    # Paused, it leaves both alone.
    paused = {"crossplane.io/paused": "true"}
    package = f"function.invalid/{FUNCTION}:local"
    revision = f"{FUNCTION}-local"
    api.apply(
        {
            "apiVersion": "pkg.crossplane.io/v1",
            "kind": "Function",
            "metadata": {"name": FUNCTION, "annotations": paused},
            "spec": {"package": package},
        },
        {
            "apiVersion": "pkg.crossplane.io/v1",
            "kind": "FunctionRevision",
            "metadata": {
                "name": revision,
                "annotations": paused,
                "labels": {"pkg.crossplane.io/package": FUNCTION},
            },
            "spec": {"image": package, "desiredState": "Active", "revision": 1, "packagePullPolicy": "Never"},
        },
    )
    status = {"endpoint": endpoint, "capabilities": ["composition"]}
    api.patch("pkg.crossplane.io/v1", "FunctionRevision", revision, None, {"status": status})


def _authority(processes: Processes, api: Api) -> Authority:
    """Who Crossplane trusts: the authority that it made for itself."""
    secret = _secret(api, _AUTHORITY)
    return Authority(processes.folder / "certificates", trustme.CA.from_pem(secret["tls.crt"], secret["tls.key"]))


def _client(processes: Processes, api: Api) -> Path:
    """The folder with the certificate by which functions know Crossplane, as its pod would have it."""
    folder = processes.folder / "certificates" / _CLIENT
    folder.mkdir()
    for name, content in _secret(api, _CLIENT).items():
        (folder / name).write_bytes(content)
    return folder


def _secret(api: Api, name: str) -> dict[str, bytes]:
    secret = api.find("v1", "Secret", name, NAMESPACE)
    assert secret, f"Crossplane's initialisation has made no Secret {name}"
    return {key: base64.b64decode(value) for key, value in secret["data"].items()}

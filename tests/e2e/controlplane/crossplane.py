"""The real Crossplane core beside a control plane, without its package manager: there are no packages to pull.

It runs with its webhooks, and with managed resources that are activated by policy only, as the clusters' does.
"""

import base64
import sys
from pathlib import Path

import yaml

from darkroom.local.kubelet import free_port
from tests.e2e.controlplane.api import Api, is_true
from tests.e2e.controlplane.binaries import component
from tests.e2e.controlplane.kubernetes import Kubernetes
from tests.e2e.controlplane.processes import Process, answers, listens

_NAMESPACE = "crossplane-system"
_FUNCTION = "darkroom-function"
#: How the clusters run the core.
_ROOT = Path(__file__).parents[3]
_VALUES = _ROOT / "crossplane" / "core" / "values.yaml"


def start(kubernetes: Kubernetes, api: Api) -> None:
    """Bring Crossplane up, and wait until it is ready."""
    program, files = component("crossplane") / "bin" / "crossplane", component("crossplane") / "files"
    environment = {
        "KUBECONFIG": str(kubernetes.kubeconfig),
        "POD_NAMESPACE": _NAMESPACE,
        "TLS_CA_SECRET_NAME": "crossplane-root-ca",
        "TLS_SERVER_SECRET_NAME": "crossplane-tls-server",
        "TLS_CLIENT_SECRET_NAME": "crossplane-tls-client",
        "CRDS_PATH": str(files / "crds"),
    }
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}})
    # The initialisation declares them too, and fails by asking for one of the kinds at once.
    for crd in api.apply_files(sorted((files / "crds").glob("*.yaml"))):
        api.wait(crd["apiVersion"], crd["kind"], crd["metadata"]["name"], None, is_true("Established"))
    # No service leads to the process, so the webhooks get its address below.
    kubernetes.run(
        "crossplane-init", *(program, "core", "init", "--enable-webhooks=false"), environment=environment
    ).wait()
    server = kubernetes.authority.issue("crossplane-server", "localhost")
    client = kubernetes.authority.issue("crossplane-client", common_name=f"crossplane.{_NAMESPACE}")
    health, webhooks = free_port(), free_port()
    core = kubernetes.run(
        "crossplane",
        *(program, "core", "start", *yaml.safe_load(_VALUES.read_text())["args"]),
        "--package-runtime=External",
        f"--cache-dir={kubernetes.folder / 'packages'}",
        f"--metrics-port={free_port()}",
        f"--health-probe-port={health}",
        f"--webhook-port={webhooks}",
        f"--tls-server-certs-dir={server.folder}",
        f"--tls-client-certs-dir={client.folder}",
        environment=environment,
    )
    for path in (files / "webhookconfigurations").glob("*.yaml"):
        configuration = yaml.safe_load(path.read_text())
        for webhook in configuration["webhooks"]:
            url = f"https://localhost:{webhooks}{webhook['clientConfig']['service']['path']}"
            authority = base64.b64encode(server.authority.read_bytes()).decode()
            webhook["clientConfig"] = {"url": url, "caBundle": authority}
        api.apply(configuration)
    core.wait_until(answers(f"http://127.0.0.1:{health}/readyz"))


def serve_function(kubernetes: Kubernetes, api: Api, module: str = "darkroom_function") -> Process:
    """Run the composition function, a Python module, as a process, and have Crossplane call it there."""
    port = free_port()
    server = kubernetes.authority.issue(f"{module}-{port}", "127.0.0.1")
    process = kubernetes.run(
        module,
        *(sys.executable, "-m", module, "--debug"),
        f"--address=127.0.0.1:{port}",
        f"--tls-certs-dir={server.folder}",
        environment={"PYTHONPATH": str(_ROOT)},  # for functions of the tests
    )
    process.wait_until(listens(port))
    # What the package manager would make of the package. Paused, it leaves both alone.
    paused = {"crossplane.io/paused": "true"}
    package = f"function.invalid/{_FUNCTION}:local"
    revision = f"{_FUNCTION}-local"
    api.apply(
        {
            "apiVersion": "pkg.crossplane.io/v1",
            "kind": "Function",
            "metadata": {"name": _FUNCTION, "annotations": paused},
            "spec": {"package": package},
        },
        {
            "apiVersion": "pkg.crossplane.io/v1",
            "kind": "FunctionRevision",
            "metadata": {
                "name": revision,
                "annotations": paused,
                "labels": {"pkg.crossplane.io/package": _FUNCTION},
            },
            "spec": {"image": package, "desiredState": "Active", "revision": 1, "packagePullPolicy": "Never"},
        },
    )
    status = {"endpoint": f"dns:///127.0.0.1:{port}", "capabilities": ["composition"]}
    api.patch("pkg.crossplane.io/v1", "FunctionRevision", revision, None, {"status": status})
    return process

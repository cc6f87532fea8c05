"""The real KEDA beside a control plane: its operator, its metrics adapter and its admission webhooks."""

import base64
from pathlib import Path

from darkroom.local.kubelet import free_port
from tests.e2e.controlplane import webhooks
from tests.e2e.controlplane.api import Api, is_true
from tests.e2e.controlplane.binaries import component, source
from tests.e2e.controlplane.certificates import Authority, Certificate
from tests.e2e.controlplane.processes import Processes, answers

NAMESPACE = "keda"
_ADAPTER = "keda-metrics-apiserver"
_METRICS = "v1beta1.external.metrics.k8s.io"


def start(processes: Processes, api: Api) -> None:
    """Bring KEDA up, and wait until it is ready. It may use an emulated AWS alone: its credentials are made up."""
    api.declare(crds())
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    server = Authority(processes.folder / "certificates").issue("keda", "localhost", f"{_ADAPTER}.{NAMESPACE}.svc")
    environment = {
        "KUBECONFIG": str(api.kubeconfig),
        "POD_NAMESPACE": NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        "WATCH_NAMESPACE": "",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    _start_operator(processes, api, server, environment)
    _start_webhooks(processes, api, server, environment)


def crds() -> list[Path]:
    """Its kinds."""
    return sorted((source("keda") / "config" / "crd" / "bases").glob("*.yaml"))


def _start_operator(processes: Processes, api: Api, server: Certificate, environment: dict[str, str]) -> None:
    metrics, port = free_port(), free_port()
    own = (
        f"--metrics-service-bind-address=127.0.0.1:{metrics}",
        # Who calls whom, and whom to trust, is said below.
        "--enable-apiservice-patching=false",
        "--enable-webhook-patching=false",
    )
    _start_controller(processes, "keda-operator", server, environment, *own)
    processes.run(
        "keda-adapter",
        component("keda") / "bin" / "keda-adapter",
        f"--lister-kubeconfig={api.kubeconfig}",
        f"--authentication-kubeconfig={api.kubeconfig}",
        f"--authorization-kubeconfig={api.kubeconfig}",
        f"--metrics-service-address=localhost:{metrics}",
        f"--port={free_port()}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={server.folder}",
        f"--tls-cert-file={server.certificate}",
        f"--tls-private-key-file={server.key}",
        environment=environment,
    )
    _aggregate(api, port, server)


def _aggregate(api: Api, port: int, server: Certificate) -> None:
    """Have the API server ask the adapter for external metrics, and wait until it does."""
    service = {"name": _ADAPTER, "namespace": NAMESPACE}
    api.apply(
        # An EndpointSlice may not lead to a loopback address; a name may.
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": service,
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": _METRICS},
            "spec": {
                "service": {**service, "port": port},
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": base64.b64encode(server.authority.read_bytes()).decode(),
            },
        },
    )
    api.wait("apiregistration.k8s.io/v1", "APIService", _METRICS, None, is_true("Available"))


def _start_webhooks(processes: Processes, api: Api, server: Certificate, environment: dict[str, str]) -> None:
    port = free_port()
    _start_controller(processes, "keda-webhooks", server, environment, f"--port={port}")
    webhooks.call(api, [source("keda") / "config" / "webhooks" / "validation_webhooks.yaml"], port, server)


def _start_controller(
    processes: Processes, name: str, server: Certificate, environment: dict[str, str], *own: str
) -> None:
    """Start the operator or the webhooks, with arguments of its own, and wait until it is ready."""
    health = free_port()
    process = processes.run(
        name,
        component("keda") / "bin" / name,
        f"--metrics-bind-address=127.0.0.1:{free_port()}",
        f"--health-probe-bind-address=127.0.0.1:{health}",
        f"--cert-dir={server.folder}",
        *own,
        environment=environment,
    )
    process.wait_until(answers(f"http://127.0.0.1:{health}/readyz"))

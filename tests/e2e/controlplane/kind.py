"""A cluster of kind, with Crossplane and the real AWS provider, which works on an emulated AWS inside the cluster.

It needs Docker, and images and charts of their public registries. The providers are those of the packages that moto
serves well; the composition function is a process on this host.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from darkroom.local.kubelet import free_port
from tests.e2e.controlplane import crossplane
from tests.e2e.controlplane.api import Api, Object, is_true
from tests.e2e.controlplane.binaries import component
from tests.e2e.controlplane.cluster import Cluster, install_apis
from tests.e2e.controlplane.managed_kinds import PACKAGES
from tests.e2e.controlplane.processes import Processes

_NAME = "darkroom-e2e"
_CROSSPLANE_VERSION = "2.4.0"
_MOTO = "docker.io/motoserver/moto:5.2.5"
_MOTO_NODE_PORT = 30500
#: Those that work on it; kinds of others are declared, and stay as they are.
WORKING = ("iam", "s3", "sns", "sqs")


@contextmanager
def cluster(folder: Path, account: str) -> Iterator[Cluster]:
    """A cluster whose AWS is in an account; gone when the context ends."""
    kubeconfig, aws_port = folder / "kubeconfig", free_port()
    configuration = folder / "kind.yaml"
    ports = [{"containerPort": _MOTO_NODE_PORT, "hostPort": aws_port, "listenAddress": "127.0.0.1"}]
    nodes = [{"role": "control-plane", "extraPortMappings": ports}]
    configuration.write_text(
        yaml.safe_dump({"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": nodes})
    )
    named = ("--name", _NAME, "--kubeconfig", str(kubeconfig))
    _run("kind", "create", "cluster", *named, "--config", str(configuration), "--wait", "180s")
    processes = Processes(folder)
    try:
        api = Api(kubeconfig)
        _install_crossplane(kubeconfig)
        api.apply(*_moto(account))
        _install_packages(api)
        function = crossplane.start_function(processes, api, host=_gateway())
        crossplane.call_function(api, function.endpoint)
        install_apis(api)
        yield Cluster(api, processes, function, f"http://127.0.0.1:{aws_port}")
    finally:
        processes.stop()
        _run("kind", "delete", "cluster", *named)


def _gateway() -> str:
    """This host's address in the network of kind's nodes."""
    (network,) = json.loads(_run("docker", "network", "inspect", "kind"))
    return next(str(part["Gateway"]) for part in network["IPAM"]["Config"] if ":" not in part["Subnet"])


def _install_crossplane(kubeconfig: Path) -> None:
    chart = ("crossplane", "--repo", "https://charts.crossplane.io/stable", "--version", _CROSSPLANE_VERSION)
    place = ("--namespace", crossplane.NAMESPACE, "--create-namespace", "--kubeconfig", str(kubeconfig))
    _run("helm", "install", "crossplane", *chart, *place, "--values", str(crossplane.VALUES), "--wait")


def _install_packages(api: Api) -> None:
    """The packages as the chart has them, but for the function: it is no image."""
    rendered = _run("helm", "template", "packages", str(PACKAGES), "--namespace", crossplane.NAMESPACE, *_VALUES)
    objects = [item for item in yaml.safe_load_all(rendered) if item and item["kind"] != "Function"]
    for item in objects:
        if item["kind"] in ("PodDisruptionBudget", "Secret", "ServiceAccount"):
            item["metadata"]["namespace"] = crossplane.NAMESPACE
    brought = [item for item in objects if item["kind"] == "ClusterProviderConfig"]  # its kind comes with a provider
    for item in api.apply(*(item for item in objects if item not in brought)):
        if item["kind"] == "Provider":
            name = item["metadata"]["name"]
            api.wait(item["apiVersion"], "Provider", name, None, is_true("Installed", "Healthy"), seconds=900)
    api.apply(*brought)


_VALUES = (
    "--set=cluster.emulator.endpoint=http://moto.default.svc:5000",
    f"--set=images.function=registry.example.com/function@sha256:{'0' * 64}",
)


def _moto(account: str) -> Iterator[Object]:
    labels = {"app": "moto"}
    environment = [
        {"name": "MOTO_ACCOUNT_ID", "value": account},
        {"name": "MOTO_IAM_LOAD_MANAGED_POLICIES", "value": "true"},
    ]
    container = {"name": "moto", "image": _MOTO, "env": environment, "ports": [{"containerPort": 5000}]}
    metadata = {"name": "moto", "namespace": "default"}
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 5000, "nodePort": _MOTO_NODE_PORT}]},
    }


def _run(program: str, *arguments: str) -> str:
    path = "docker" if program == "docker" else str(component(program) / "bin" / program)
    return subprocess.run((path, *arguments), check=True, stdout=subprocess.PIPE, text=True).stdout

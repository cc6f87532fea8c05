"""A whole cluster that Git drives, from a push to a picture: what the tests of the story push into and look at.

The control plane is real (``controlplane``). AWS is an emulator, Crossplane's provider a stand-in (``provider``), nodes
are kwok's, and a stand-in for the kubelet (``kubelet``) runs the runtimes' pods. The repository has the project's own
``apps`` and ``crossplane``, and a cluster's folder; once the root Application is there, everything comes by commits.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from darkroom.cluster_files import load_cluster
from darkroom.local import kinds
from darkroom.local.composites import NAMESPACE
from darkroom.local.stack import Options, Stack
from darkroom_contract.names import Names
from tests.charts.helm import render
from tests.e2e.controlplane import argocd
from tests.e2e.controlplane.api import Api, Object, is_gone
from tests.e2e.controlplane.cluster import GitOpsCluster
from tests.e2e.controlplane.repository import Repository, project_files
from tests.e2e.kubelet.image import AGENT, Image, engine
from tests.e2e.kubelet.kubelet import Kubelet
from tests.e2e.provider import Provider
from tests.e2e.world import ACCOUNT, REGION, World, aws_at, emulated_aws

CLUSTER = "story"
#: Where its files are in the repository.
FOLDER = f"clusters/{CLUSTER}"
#: Far above what anything takes: reached only when it never comes.
PATIENCE_SECONDS = 180.0
#: How long the engines take for a step of a picture.
SECONDS_PER_STEP = 0.2
#: Scaling that does not let a test wait.
QUICK = {
    "maxPods": 2,
    "startWithinSeconds": 10,
    "secondsPerPicture": 5,
    "cooldownSeconds": 5,
    "pollingSeconds": 1,
}


def image(name: str, build: str = "first") -> str:
    """The reference of an image by the digest of one of its builds."""
    digest = hashlib.sha256(f"{name} {build}".encode()).hexdigest()
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/darkroom/{name}@sha256:{digest}"


@dataclass(frozen=True)
class GitOpsWorld:
    """The cluster and all around it."""

    world: World
    repository: Repository
    kubelet: Kubelet
    #: The API, and the emulated AWS.
    stack: Stack
    #: What the references of images stand for: it may grow.
    images: dict[str, Image]
    models: Path

    @property
    def api(self) -> Api:
        """The cluster's API server."""
        return self.world.cluster.api

    @property
    def names(self) -> Names:
        """The AWS names of the cluster."""
        return self.stack.names

    def push(self, message: str, files: Mapping[str, str | None]) -> str:
        """Commit files, or their removal; the commit's hash."""
        return self.repository.commit(message, files)

    def push_runtime(self, name: str, **fields: Any) -> str:
        """Push a runtime's folder, with a checkpoint of its own that is in the models volume; the commit's hash."""
        checkpoint = f"{name}.safetensors"
        (self.models / "checkpoints" / checkpoint).write_bytes(b"weights")
        runtime = {"engine": "sdwebui", "checkpoint": checkpoint, "scaling": QUICK, **fields}
        return self.push(f"Serve {name}", {runtime_file(name): yaml.safe_dump({"runtime": runtime})})

    def remove_runtime(self, name: str) -> str:
        """Push the removal of a runtime's folder; the commit's hash."""
        return self.push(f"Serve {name} no more", {runtime_file(name): None})

    def push_images(self, **builds: str) -> str:
        """Push the digests of other builds than the first; the commit's hash."""
        for name, build in builds.items():
            self.images[image(name, build)] = self.images[image(name)]
        return self.push("Other images", {f"{FOLDER}/images.yaml": _images_file(**builds)})

    def application(self, name: str) -> Object | None:
        """An Application of Argo CD."""
        return self.api.find("argoproj.io/v1alpha1", "Application", name, argocd.NAMESPACE)

    def wait_application(self, name: str, until: Callable[[Object], bool]) -> Object:
        """Wait until an Application is as it should be ({} while there is none)."""
        return self._wait("argoproj.io/v1alpha1", "Application", name, argocd.NAMESPACE, until)

    def wait(self, api_version: str, kind: str, name: str, until: Callable[[Object], bool]) -> Object:
        """Wait until an object of the runtimes' namespace is as it should be ({} while there is none)."""
        return self._wait(api_version, kind, name, NAMESPACE, until)

    def wait_ready(self, runtime: str) -> None:
        """Wait until a runtime that was pushed takes prompts."""
        self.wait_application(f"runtime-{runtime}", is_synced_and_healthy)

    def wait_removed(self, runtime: str) -> None:
        """Wait until a runtime whose folder was removed is gone, from AWS too."""
        self.wait_application(f"runtime-{runtime}", is_gone)

    def eventually(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until something holds; what it then is. Raises ``TimeoutError`` that says ``what`` is waited for."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := holds()):
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {PATIENCE_SECONDS:.0f} s: {what}")
            time.sleep(0.1)
        return found

    def check(self) -> None:
        """Raise what went wrong in the stand-ins."""
        self.kubelet.check()
        if self.world.provider:
            self.world.provider.check()

    def pods(self, runtime: str) -> list[Object]:
        """A runtime's pods."""
        return [item for item in self.api.list("v1", "Pod", NAMESPACE) if _is_of(runtime, item)]

    def node_claims(self) -> dict[str, str]:
        """Karpenter's claims of nodes: their names, by their nodes'."""
        claims = self.api.list("karpenter.sh/v1", "NodeClaim")
        return {item.get("status", {}).get("nodeName", ""): item["metadata"]["name"] for item in claims}

    def _wait(self, api_version: str, kind: str, name: str, namespace: str, until: Callable[[Object], bool]) -> Object:
        def is_so(item: Object) -> bool:
            self.check()
            return until(item)

        return self.api.wait(api_version, kind, name, namespace, is_so, PATIENCE_SECONDS)


@dataclass
class Timeline:
    """What happened when, in seconds since the first event."""

    name: str
    events: list[tuple[float, str]] = field(default_factory=list)

    def note(self, event: str) -> None:
        """Something happened just now."""
        self.events.append((time.monotonic(), event))

    def lines(self) -> list[str]:
        """To be read by people."""
        return [f"{at - self.events[0][0]:7.1f} s  {event}" for at, event in self.events]


@contextmanager
def gitops_world(cluster: GitOpsCluster, folder: Path) -> Iterator[GitOpsWorld]:
    """Everything, on a cluster that has Argo CD, KEDA and Karpenter; files are kept in a folder."""
    models = folder / "models"
    (models / "checkpoints").mkdir(parents=True)
    images = {
        image("agent"): AGENT,
        image("sdwebui"): engine("webui", seconds_per_step=SECONDS_PER_STEP),
        image("comfyui"): engine("comfyui", seconds_per_step=SECONDS_PER_STEP),
    }
    with ExitStack() as stack:
        kubelet = stack.enter_context(Kubelet(cluster.api, images=images, models=models, folder=folder / "kubelet"))
        emulator = stack.enter_context(emulated_aws(folder / "emulator.log", kubelet.host_address))
        aws = aws_at(emulator.url())
        provider = stack.enter_context(Provider(cluster.api.kubeconfig, aws))
        world = World(cluster, aws, provider=provider)
        cluster.repository.commit("A cluster", _files(cluster.repository.url, emulator.url()))
        files = load_cluster(cluster.repository.folder / FOLDER)

        def bring_up(composites: Sequence[Object], aws: kinds.Aws) -> list[Object]:
            world.namespace(NAMESPACE, {secret: value for (secret, _), value in aws.secrets.items()})
            _install(cluster)
            for name in ("root", "platform", "gpu-nodes"):
                place = "argoproj.io/v1alpha1", "Application", name, argocd.NAMESPACE
                cluster.api.wait(*place, is_synced_and_healthy, PATIENCE_SECONDS)
            return world.resolved(composites)

        options = Options(logs=folder / "stack", control_plane=bring_up, emulator=emulator)
        api = stack.enter_context(Stack(files, options))
        yield GitOpsWorld(world, cluster.repository, kubelet, api, images, models)


def is_synced_and_healthy(application: Object) -> bool:
    """Whether an Application is as Git says, and all of it is well."""
    status = application.get("status", {})
    states = (status.get(what, {}).get("status") for what in ("sync", "health"))
    return tuple(states) == ("Synced", "Healthy")


def runtime_file(name: str) -> str:
    """Where a runtime is described."""
    return f"{FOLDER}/runtimes/{name}/runtime.yaml"


def _is_of(runtime: str, pod: Object) -> bool:
    return bool(pod["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == runtime)


def _files(repository: str, endpoint: str) -> dict[str, str | None]:
    cluster = {
        "name": CLUSTER,
        "account": ACCOUNT,
        "region": REGION,
        "eksName": CLUSTER,
        "gitops": {"repository": repository},
        "gpuNodes": {"pools": [{"gpu": "g5", "maxGpus": 8}]},
        "emulator": {"endpoint": endpoint},
    }
    return {
        **project_files("apps", "crossplane"),
        f"{FOLDER}/cluster.yaml": yaml.safe_dump({"cluster": cluster}),
        f"{FOLDER}/images.yaml": _images_file(),
    }


def _images_file(**builds: str) -> str:
    names = ("agent", "api", "function", "sdwebui", "comfyui")
    return yaml.safe_dump({"images": {name: image(name, builds.get(name, "first")) for name in names}})


def _install(cluster: GitOpsCluster) -> None:
    """Apply the Application that makes all others, and the projects without which it may not."""
    files = cluster.repository.folder
    rendered = render(files / "apps" / "root", files / FOLDER / "cluster.yaml", name="root", namespace=argocd.NAMESPACE)
    first = [item for item in rendered if item["kind"] == "AppProject"]
    root = [item for item in rendered if item["kind"] == "Application" and item["metadata"]["name"] == "root"]
    cluster.api.apply(*first, *root)

"""A cluster's composites, as the objects that Kubernetes has of them. Pure.

There is no ``ClusterAccess``: that is for pods and nodes of EKS, and a local stack has neither.
"""

from collections.abc import Iterator
from typing import Any

from darkroom.cluster_files import ClusterFiles
from darkroom_contract.cluster import Images
from darkroom_contract.types import Description
from darkroom_function.apis import API_VERSION, ModelRuntimeSpec, PromptApiSpec, StorageSpec

#: The namespace of the composites, and of the runtimes' pods.
NAMESPACE = "darkroom"


def composites(files: ClusterFiles, images: Images) -> Iterator[dict[str, Any]]:
    """What the files of a cluster ask for beside its ``ClusterAccess``, what others need first."""
    cluster = files.cluster
    yield _composite("Storage", cluster.name, StorageSpec.of(cluster))
    yield _composite("PromptApi", cluster.name, PromptApiSpec.of(cluster, images))
    for name, runtime in files.runtimes.items():
        spec = ModelRuntimeSpec.of(
            name,
            runtime,
            cluster,
            namespace=NAMESPACE,
            service_account=name,
            workflows=files.workflows.get(name),
        )
        yield _composite("ModelRuntime", name, spec)


def _composite(kind: str, name: str, spec: Description) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }

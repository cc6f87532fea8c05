"""What a container runs, from its spec and its image: command, environment, user. It reads the API server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.e2e.kubelet.environment import expand_all, variables
from tests.e2e.kubelet.errors import NotStarted
from tests.e2e.kubelet.image import Image
from tests.e2e.kubelet.objects import Object, Objects


@dataclass(frozen=True)
class Program:
    """What runs in a container, and as whom."""

    command: Sequence[str]
    environment: Mapping[str, str]
    working_directory: str
    user: int
    group: int
    #: Further groups.
    groups: Sequence[int] = ()


def program(container: Object, pod: Object, images: Mapping[str, Image], objects: Objects) -> Program:
    """The program of a container; raises ``NotStarted`` when it lacks something, or may not be what it is."""
    image = images.get(container["image"])
    if image is None:
        raise NotStarted("ErrImagePull", f'image "{container["image"]}" is none of those that the test gave')
    of_pod = pod["spec"].get("securityContext", {})
    security = of_pod | container.get("securityContext", {})
    user = security.get("runAsUser", image.user)
    if security.get("runAsNonRoot") and not user:
        raise NotStarted("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")
    values = variables(container, pod, objects)
    entrypoint = expand_all(container.get("command", image.entrypoint), values)
    arguments = expand_all(container.get("args", () if "command" in container else image.command), values)
    by_runtime = {"HOSTNAME": pod["metadata"]["name"], "HOME": "/" if user else "/root"}
    groups = {*of_pod.get("supplementalGroups", ()), *([of_pod["fsGroup"]] if "fsGroup" in of_pod else ())}
    return Program(
        [*entrypoint, *arguments],
        {**by_runtime, **image.variables, **values},
        container.get("workingDir", image.working_directory),
        user,
        security.get("runAsGroup", image.group),
        sorted(groups),
    )

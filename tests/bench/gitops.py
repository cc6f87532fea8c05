"""How soon a push is served and a prompt is a picture, and what more runtimes cost: ``make bench-gitops``.

Twice the same, with Darkroom's scaling and with that of the AWS guidance: a runtime is pushed, and then gets prompts,
all at once. Then runtimes are added, 1, 20 and 50 in all, to which nobody sends anything.

Argo CD, KEDA, Karpenter, Crossplane and Kubernetes are real, with the clusters' settings. What they wait for is not:

- Nodes are kwok's. They are there at once, with the image; EC2 and the pull take most of a cold start
  (docs/cold-start.md), with either scaling the same.
- The engine is the demo's, which takes ``SECONDS_PER_PICTURE``: a third of SDXL's time on a g5, and so of
  Darkroom's ``startWithinSeconds``. Its start takes no time, either.
- AWS is an emulator, and Crossplane's provider a stand-in, whose time is in "Healthy" and not in "Synced".
- What a longer cooldown costs is not measured: a GPU for as long as it is, after each burst.

Processor time is that of each process and what it ran (Helm, Git), on however fast a machine this is.
"""

import argparse
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from tests.e2e.controlplane import cluster as clusters
from tests.e2e.controlplane.api import is_gone
from tests.e2e.controlplane.processes import Processes
from tests.e2e.gitops import SECONDS_PER_STEP, GitOpsWorld, gitops_world, is_synced_and_healthy, runtime_file
from tests.flow.flow import Flow

_COUNTS = (1, 20, 50)
_PROMPTS = 24
_ROUNDS = 1
_REST_SECONDS = 30
_ADDING_SECONDS = 1800.0
SECONDS_PER_PICTURE = 3.0
_STEPS = round(SECONDS_PER_PICTURE / SECONDS_PER_STEP)
#: The most pods that a burst may have: what ``runtime.yaml`` has by default.
_MAX_PODS = 4
#: By the name of the contestant. queueLength is startWithinSeconds by secondsPerPicture. Both count what is in flight.
_SCALING: Mapping[str, Mapping[str, float]] = {
    "darkroom": {"pollingSeconds": 5, "startWithinSeconds": 20, "cooldownSeconds": 300},  # queueLength 6
    "guidance": {"pollingSeconds": 1, "startWithinSeconds": 30, "cooldownSeconds": 60},  # queueLength 10
}
#: What is measured, by the names of the processes.
_PROCESSES = {
    "repo server": "argocd-repo-server",
    "controller": "argocd-application-controller",
    "app sets": "argocd-applicationset-controller",
    "KEDA": "keda-operator",
    "adapter": "keda-adapter",
    "API server": "kube-apiserver",
}
_TABLE_WIDTH = 112


@dataclass(frozen=True)
class Cost:
    """What it took to go from some runtimes to more."""

    runtimes: int
    added: int
    #: From the push until all are Synced, and until all are Healthy, in seconds.
    synced: float
    healthy: float
    #: By what is in ``_PROCESSES``: processor seconds for each added runtime, and for all of them in a minute at rest.
    adding: Mapping[str, float]
    resting: Mapping[str, float]
    #: Resident sets, in MiB.
    memory: Mapping[str, float]


def main() -> None:
    """Measure, and show what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtimes", type=int, nargs="*", default=_COUNTS, help="how many runtimes to go to, in steps")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="how often prompts are sent; medians are shown")
    arguments = parser.parse_args()
    console = Console(width=max(Console().width, _TABLE_WIDTH))
    with (
        tempfile.TemporaryDirectory(prefix="darkroom-") as folder,
        clusters.gitops(Path(folder)) as cluster,
        gitops_world(cluster, Path(folder) / "world") as world,
    ):
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in _SCALING}
        for number in range(arguments.rounds):
            for name in _SCALING:
                with console.status(f"{name}, round {number + 1}"):
                    rounds[name].append(_story(world, f"{name}-{number}", _SCALING[name]))
        if arguments.rounds:
            console.print(_steps(rounds))
        costs: list[Cost] = []
        for before, count in zip((0, *arguments.runtimes), arguments.runtimes, strict=False):
            with console.status(f"{count} runtimes"):
                costs.append(_grow(world, cluster.processes, before, count))
            console.print(_costs(costs))


def _story(world: GitOpsWorld, name: str, scaling: Mapping[str, float]) -> dict[str, float]:
    """The seconds from a push until it is served, and from prompts until each thing that follows."""
    seconds: dict[str, float] = {}
    stop_watch = _StopWatch(seconds)
    wanted = {**scaling, "secondsPerPicture": SECONDS_PER_PICTURE, "maxPods": _MAX_PODS}
    world.push_runtime(name, scaling=wanted)
    world.wait_application(f"runtime-{name}", _is_synced)
    stop_watch("push: Synced")
    world.wait_ready(name)
    stop_watch("push: Healthy")
    with closing(Flow(world.stack)) as flow:
        stop_watch = _StopWatch(seconds)
        jobs = [_submit(flow, name) for _ in range(_PROMPTS)]
        for step, holds in _steps_of(world, name).items():
            world.eventually(holds, step)
            stop_watch(step)
        first = flow.notifications(1, lambda it: it["id"] in jobs)
        stop_watch("prompts: the first picture")
        flow.notifications(len(jobs) - len(first), lambda it: it["id"] in jobs)
        stop_watch("prompts: all pictures")
        seconds["pods at the end"] = len(world.pods(name))
    world.remove_runtime(name)
    world.wait_removed(name)
    for claim in world.node_claims().values():  # so that the next one finds no node
        world.api.delete("karpenter.sh/v1", "NodeClaim", claim)
        world.api.wait("karpenter.sh/v1", "NodeClaim", claim, None, is_gone, 180)
    return seconds


def _steps_of(world: GitOpsWorld, name: str) -> dict[str, Callable[[], Any]]:
    return {
        "prompts: KEDA has a pod made": lambda: world.pods(name),
        "prompts: Karpenter claims a node": world.node_claims,
        "prompts: the pod is on a node": lambda: [pod for pod in world.pods(name) if pod["spec"].get("nodeName")],
    }


class _StopWatch:
    """Notes the seconds since it was made."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._began = seconds, time.monotonic()

    def __call__(self, step: str) -> None:
        self._seconds[step] = time.monotonic() - self._began


def _submit(flow: Flow, runtime: str) -> str:
    content = {"prompt": "a lighthouse", "steps": _STEPS, "width": 64, "height": 64}
    job = uuid.uuid4().hex
    flow.post(
        "v1/jobs", {"id": job, "runtime": runtime, "task": "text-to-image", "content": content}
    ).raise_for_status()
    return job


def _grow(world: GitOpsWorld, processes: Processes, before: int, count: int) -> Cost:
    names = [f"r{number}" for number in range(before, count)]
    files = {
        runtime_file(name): yaml.safe_dump({"runtime": {"engine": "sdwebui", "checkpoint": f"{name}.safetensors"}})
        for name in names
    }
    cpu, began = _cpu_seconds(processes), time.monotonic()
    world.push(f"{count} runtimes", files)
    _wait(world, names, _is_synced)
    synced = time.monotonic() - began
    _wait(world, names, is_synced_and_healthy)
    healthy = time.monotonic() - began
    added = _since(cpu, _cpu_seconds(processes))
    cpu = _cpu_seconds(processes)
    time.sleep(_REST_SECONDS)
    rested = _since(cpu, _cpu_seconds(processes))
    return Cost(
        count,
        len(names),
        synced,
        healthy,
        {name: seconds / len(names) for name, seconds in added.items()},
        {name: seconds * 60 / _REST_SECONDS for name, seconds in rested.items()},
        {name: processes.named[process].memory / 2**20 for name, process in _PROCESSES.items()},
    )


def _wait(world: GitOpsWorld, names: Iterable[str], until: Callable[[Any], bool]) -> None:
    for name in names:
        world.api.wait("argoproj.io/v1alpha1", "Application", f"runtime-{name}", "argocd", until, _ADDING_SECONDS)
        world.check()


def _is_synced(application: Any) -> bool:
    return bool(application.get("status", {}).get("sync", {}).get("status") == "Synced")


def _cpu_seconds(processes: Processes) -> dict[str, float]:
    return {name: processes.named[process].cpu_seconds for name, process in _PROCESSES.items()}


def _since(earlier: Mapping[str, float], later: Mapping[str, float]) -> dict[str, float]:
    return {name: later[name] - earlier[name] for name in earlier}


def _steps(rounds: Mapping[str, list[dict[str, float]]]) -> Table:
    table = Table(title=f"A push, and {_PROMPTS} prompts to no pod (s); medians")
    table.add_column("")
    for name in rounds:
        table.add_column(name, justify="right")
    table.add_column("x", justify="right")
    for step in next(iter(rounds.values()))[0]:
        ours, theirs = (median(seconds[step] for seconds in rounds[name]) for name in rounds)
        table.add_row(step, f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}")
    return table


def _costs(costs: list[Cost]) -> Table:
    title = "Processor time per added runtime (s), at rest (s a minute for all), and memory (MiB)"
    table = Table(title=title)
    for heading in ("runtimes", "Synced", "Healthy", "", *_PROCESSES):
        table.add_column(heading, justify="right")
    for cost in costs:
        first = (str(cost.runtimes), f"{cost.synced:.1f} s", f"{cost.healthy:.1f} s")
        table.add_row(*first, "added", *(f"{seconds:.2f}" for seconds in cost.adding.values()))
        table.add_row("", "", "", "at rest", *(f"{seconds:.1f}" for seconds in cost.resting.values()))
        table.add_row("", "", "", "memory", *(f"{size:.0f}" for size in cost.memory.values()), end_section=True)
    return table


if __name__ == "__main__":
    main()

"""How the cost of the compositions grows with the runtimes: ``make bench-compositions``.

A real control plane with Crossplane and the composition function, and an emulated AWS behind a stand-in provider, which
takes most of the time that passes: the seconds of processor time are Crossplane's and the function's own. ``x`` is the
cost of a runtime beside that of the first ones.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.e2e.controlplane import cluster as clusters
from tests.e2e.controlplane.processes import Processes
from tests.e2e.world import World, api_keys, composite, emulated_aws, provided

_COUNTS = (1, 10, 50, 200)
_CLUSTER = "bench"
_REST_SECONDS = 30
_TABLE_WIDTH = 112
#: What is measured, by the names of the processes.
_CORE, _FUNCTION, _API_SERVER = "crossplane", "darkroom_function", "kube-apiserver"


@dataclass(frozen=True)
class Usage:
    """What a process takes."""

    #: Processor time, in seconds.
    cpu: float
    #: Resident set, in MiB.
    memory: float


@dataclass(frozen=True)
class Result:
    """What it took to go from some runtimes to more."""

    runtimes: int
    added: int
    #: From the first ``apply`` until all are ready.
    seconds: float
    #: By process: processor time for each added runtime, and the memory afterwards.
    usage: Mapping[str, Usage]
    #: Processor time of Crossplane and the function while nothing changes, in seconds per minute.
    at_rest: float


def main() -> None:
    """Measure, and show what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtimes", type=int, nargs="+", default=_COUNTS, help="how many runtimes to go to, in steps")
    counts = parser.parse_args().runtimes
    console = Console(width=max(Console().width, _TABLE_WIDTH))
    results: list[Result] = []
    with (
        tempfile.TemporaryDirectory(prefix="darkroom-") as folder,
        clusters.processes(Path(folder)) as cluster,
        emulated_aws(Path(folder) / "emulator.log") as emulator,
        provided(cluster, emulator) as world,
    ):
        processes = cluster.processes
        assert processes
        _prepare(world)
        for before, count in zip((0, *counts), counts, strict=False):
            with console.status(f"{count} runtimes"):
                results.append(_measure(world, processes, before, count))
            console.print(_table(results))


def _prepare(world: World) -> None:
    """What runtimes need: the buckets and the topics."""
    world.namespace(_CLUSTER, api_keys("default", "acme"))
    for kind in ("Storage", "PromptApi"):
        item = composite(kind, _CLUSTER, _CLUSTER)
        world.apply(item)
        world.wait(item)


def _measure(world: World, processes: Processes, before: int, count: int) -> Result:
    names = [f"r{number}" for number in range(before, count)]
    items = [composite("ModelRuntime", name, _CLUSTER, checkpoint=f"{name}.safetensors") for name in names]
    started, cpu = time.monotonic(), _usage(processes)
    world.apply(*items)
    for item in items:
        world.wait(item, seconds=1800)
    seconds = time.monotonic() - started
    used = {name: (usage.cpu - cpu[name].cpu) / len(names) for name, usage in _usage(processes).items()}
    resting = _usage(processes)
    time.sleep(_REST_SECONDS)
    rested = _usage(processes)
    at_rest = sum(rested[name].cpu - resting[name].cpu for name in (_CORE, _FUNCTION)) * 60 / _REST_SECONDS
    usage = {name: Usage(used[name], rested[name].memory) for name in used}
    return Result(count, len(names), seconds, usage, at_rest)


def _usage(processes: Processes) -> dict[str, Usage]:
    measured = {name: processes.named[name] for name in (_CORE, _FUNCTION, _API_SERVER)}
    return {name: Usage(process.cpu_seconds, process.memory / 2**20) for name, process in measured.items()}


def _table(results: list[Result]) -> Table:
    table = Table(title="Processor time per runtime (s), memory (MiB), and at rest (s of processor time a minute)")
    for heading in (
        "runtimes",
        "ready after",
        "core",
        "x",
        "function",
        "x",
        "core MiB",
        "function",
        "API server",
        "at rest",
    ):
        table.add_column(heading, justify="right")
    first = results[0].usage
    for result in results:
        core, function = result.usage[_CORE], result.usage[_FUNCTION]
        table.add_row(
            str(result.runtimes),
            f"{result.seconds:.1f} s",
            f"{core.cpu:.2f}",
            f"{core.cpu / first[_CORE].cpu:.2f}",
            f"{function.cpu:.3f}",
            f"{function.cpu / first[_FUNCTION].cpu:.2f}",
            f"{core.memory:.0f}",
            f"{function.memory:.0f}",
            f"{result.usage[_API_SERVER].memory:.0f}",
            f"{result.at_rest:.1f}",
        )
    return table


if __name__ == "__main__":
    main()

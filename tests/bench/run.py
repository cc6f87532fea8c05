"""One run: one contestant with the jobs of one cell of the matrix, and what was measured."""

import bisect
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
import psutil

from darkroom.local.processes import Child
from tests.bench.cloud import Cloud

#: The first jobs warm caches and connections, and count not.
WARM_UP = 5
#: The emulator's queues are lists that it searches: a long run gets its messages as it goes.
_BACKLOG = 200
#: After so many jobs what is in the output bucket is removed: the emulator has it in memory.
_OUTPUTS_KEPT = 200
_LOOK_SECONDS = 0.2
_SAMPLE_SECONDS = 0.1
#: What a job may take beside the GPU's time before a run counts as stuck.
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class Cell:
    """What the contestants meet: seconds of GPU and megabytes a picture, milliseconds that AWS takes longer."""

    gpu: float
    size: float
    delay: int

    def __str__(self) -> str:
        return f"{self.gpu:g} s, {self.size:g} MB, {self.delay} ms"


@dataclass(frozen=True)
class Contestant:
    """A program that works through the queue."""

    name: str
    module: str
    has_records: bool = False


CONTESTANTS = (
    Contestant("serial", "tests.bench.serial"),
    Contestant("bare", "tests.bench.bare"),
    Contestant("agent", "darkroom_agent"),
    Contestant("agent+records", "darkroom_agent", has_records=True),
)


@dataclass(frozen=True)
class Sample:
    """A process at a moment: CPU seconds since it started, bytes of resident memory."""

    at: float
    cpu: float
    memory: int


@dataclass(frozen=True)
class Result:
    """What was measured of one run. Gaps and CPU in milliseconds, memory in megabytes; growth in kilobytes a job."""

    cell: Cell
    contestant: str
    jobs: int
    busy: float
    gap_p50: float
    gap_p95: float
    jobs_per_second: float
    cpu: float
    peak_memory: float
    memory_growth: float
    #: Resident memory over time, in megabytes, every so many jobs.
    memory: list[float] = field(default_factory=list)


def measure(
    cell: Cell, contestant: Contestant, jobs: int, emulator_port: int, folder: Path, report: Callable[[int], None]
) -> Result:
    """Let a contestant do the jobs of a cell. ``folder`` is for logs; ``report`` is told how many are done.

    Raises ``RuntimeError`` when it did not do each job once.
    """
    cloud = Cloud(emulator_port, has_records=contestant.has_records)
    total = jobs + WARM_UP
    cloud.send(min(total, _BACKLOG))
    with ExitStack() as stack:

        def start(name: str, module: list[str], env: dict[str, str]) -> Child:
            child = Child(name, module, env, folder / f"{name}.log")
            stack.callback(child.stop)
            return child

        port = emulator_port
        if cell.delay:
            forwarder = ["tests.bench.delay", "--seconds", str(cell.delay / 1000), "--port", str(port)]
            port = int(start("delay", forwarder, {}).url().rpartition(":")[2])
        size = int(cell.size * 1_000_000)
        gpu = start("gpu", ["tests.bench.gpu", "--seconds", str(cell.gpu), "--bytes", str(size)], {}).url()
        runtime = stack.enter_context(httpx.Client(base_url=gpu, timeout=30, trust_env=False))
        child = start(
            contestant.name,
            [contestant.module],
            {
                **cloud.environment,
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "ENGINE": "sdwebui",
                "RUNTIME_URL": gpu,
                "HEALTH_PORT": "0",
            },
        )
        with _sampling(child.pid) as samples:
            outputs = _work_through(cell, cloud, child, runtime, total, report)
            drained = time.monotonic()
        holds: list[tuple[float, float]] = runtime.get("/bench/log").json()
    pictures = sum(key.endswith(".png") for key in outputs)
    counts = {"holds": len(holds), "pictures": pictures, "outputs": len(outputs) - pictures}
    counts["notifications"] = cloud.notifications()
    if any(count != total for count in counts.values()):
        raise RuntimeError(f"{contestant.name} did not do each of {total} jobs once: {counts}")
    return _result(cell, contestant, holds[WARM_UP:], samples, drained)


def _work_through(
    cell: Cell, cloud: Cloud, child: Child, runtime: httpx.Client, total: int, report: Callable[[int], None]
) -> list[str]:
    """Wait until all jobs are done; the keys of what they left."""
    outputs: list[str] = []
    taken_at = 0
    deadline = time.monotonic() + 30 + total * (cell.gpu + cell.delay / 100 + _PATIENCE_SECONDS)
    while (done := runtime.get("/bench/count").json()) < total or cloud.messages_left():
        if not child.running or time.monotonic() > deadline:
            raise RuntimeError(f"{child.name} stands still after {done} of {total} jobs:\n{child.log_tail()}")
        report(done)
        if done - taken_at >= _OUTPUTS_KEPT:
            outputs += cloud.take_outputs()
            taken_at = done
        cloud.send(min(total, done + _BACKLOG) - cloud.sent)
        time.sleep(_LOOK_SECONDS if done < total else _LOOK_SECONDS / 10)
    report(total)
    return outputs + cloud.take_outputs()


@contextmanager
def _sampling(pid: int) -> Iterator[list[Sample]]:
    """Look at a process regularly for as long as the context lasts, and once more at its end."""
    process, samples, ended = psutil.Process(pid), list[Sample](), threading.Event()

    def sample() -> None:
        with process.oneshot():
            cpu = process.cpu_times()
            samples.append(Sample(time.monotonic(), cpu.user + cpu.system, process.memory_info().rss))

    def repeat() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            sample()

    thread = threading.Thread(target=repeat, name="samples", daemon=True)
    thread.start()
    try:
        yield samples
        sample()
    finally:
        ended.set()
        thread.join()


def _result(
    cell: Cell,
    contestant: Contestant,
    holds: Sequence[tuple[float, float]],
    samples: list[Sample],
    drained: float,
) -> Result:
    jobs = len(holds)
    first, last = holds[0][0], holds[-1][1]
    gaps = [1000 * (start - end) for (_, end), (start, _) in pairwise(holds)]
    within = [sample for sample in samples if sample.at >= first]
    return Result(
        cell=cell,
        contestant=contestant.name,
        jobs=jobs,
        busy=sum(end - start for start, end in holds) / (last - first),
        gap_p50=statistics.median(gaps),
        gap_p95=statistics.quantiles(gaps, n=20, method="inclusive")[-1],
        jobs_per_second=jobs / (drained - first),
        cpu=1000 * (samples[-1].cpu - _cpu_at(first, samples)) / jobs,
        peak_memory=max(sample.memory for sample in samples) / 1e6,
        memory_growth=(within[-1].memory - within[0].memory) / 1e3 / jobs,
        memory=[sample.memory / 1e6 for sample in within[:: max(1, len(within) // 100)]],
    )


def _cpu_at(moment: float, samples: list[Sample]) -> float:
    """The CPU seconds that a process had used at a moment between two samples."""
    after = bisect.bisect_right(samples, moment, key=lambda sample: sample.at)
    one, other = samples[after - 1], samples[after]
    return one.cpu + (other.cpu - one.cpu) * (moment - one.at) / (other.at - one.at)

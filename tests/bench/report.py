"""What was measured, as a table: each contestant beside the bare loop and the serial one."""

from collections.abc import Iterable, Mapping
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.bench.run import Result

#: What is aimed at: busy share at most so much below the bare loop's, gap in milliseconds, CPU to the bare loop's.
BUSY_BELOW_BARE = 0.01
GAP_P95 = 10.0
CPU_TO_BARE: Mapping[str, float] = {"agent": 1.3, "agent+records": 2.0}


_NUMBERS = (
    "jobs",
    "busy\n%",
    "to\nbare",
    "gap p50\nms",
    "gap p95\nms",
    "jobs/s",
    "to\nserial",
    "CPU\nms/job",
    "to\nbare",
    "peak\nMB",
    "growth\nkB/job",
)


def table(results: Iterable[Result]) -> Table:
    """The table, cell by cell; red is what misses its aim."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.add_column("", no_wrap=True)
    for name in _NUMBERS:
        made.add_column(name, justify="right", no_wrap=True)
    for cell, group in groupby(results, key=lambda result: result.cell):
        of = {result.contestant: result for result in group}
        bare, serial = of.get("bare"), of.get("serial")
        made.add_row(f"[bold]{cell}[/bold]")
        for result in of.values():
            made.add_row(
                f"  {result.contestant}",
                str(result.jobs),
                f"{100 * result.busy:.1f}",
                _to_bare_busy(result, bare),
                f"{result.gap_p50:.1f}",
                _marked(f"{result.gap_p95:.1f}", result.gap_p95 > GAP_P95 and result.contestant in CPU_TO_BARE),
                f"{result.jobs_per_second:.2f}",
                f"x {result.jobs_per_second / serial.jobs_per_second:.2f}" if serial else "",
                f"{result.cpu:.1f}",
                _to_bare_cpu(result, bare),
                f"{result.peak_memory:.0f}",
                f"{result.memory_growth:.1f}",
            )
        made.add_section()
    return made


def _to_bare_busy(result: Result, bare: Result | None) -> str:
    if bare is None:
        return ""
    more = result.busy - bare.busy
    return _marked(f"{100 * more:+.1f}", more < -BUSY_BELOW_BARE and result.contestant in CPU_TO_BARE)


def _to_bare_cpu(result: Result, bare: Result | None) -> str:
    if bare is None:
        return ""
    ratio = result.cpu / bare.cpu
    return _marked(f"x {ratio:.2f}", ratio > CPU_TO_BARE.get(result.contestant, ratio))


def _marked(text: str, misses: bool) -> str:
    return f"[red]{text}[/red]" if misses else text

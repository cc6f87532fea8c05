"""The benchmark of the queue agent: ``python -m tests.bench.agent``, or ``make bench``.

A simulated GPU, an emulated AWS that answers late, and the agent beside a plain serial loop and a bare pipelined one.
Everything runs on this host and shares its cores: look at differences, and let nothing else run.
"""

import argparse
import dataclasses
import json
import tempfile
from functools import partial
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tests.bench.cloud import emulator
from tests.bench.report import table
from tests.bench.run import CONTESTANTS, WARM_UP, Cell, Result, measure

_GPU_SECONDS = (0.05, 0.2, 1.0)
_SIZES = (0.4, 1.6)
_DELAYS = (0, 20, 50)
#: A slow GPU does fewer jobs, so that the whole matrix takes about forty minutes.
_JOBS = {1.0: 40}
_USUAL_JOBS = 100
_QUICK = (Cell(0.05, 0.4, 0), Cell(0.2, 0.4, 20), Cell(0.2, 1.6, 50))
_QUICK_JOBS = 60
_LONG = (Cell(0.05, 0.4, 0),)
_LONG_JOBS = 10_000
_LONG_CONTESTANT = "agent+records"
_TABLE_WIDTH = 112


def main() -> None:
    """Measure, and show what came out."""
    options = _options()
    cells, jobs, names = _plan(options)
    contestants = [contestant for contestant in CONTESTANTS if contestant.name in names]
    results: list[Result] = []
    console = Console(width=max(Console().width, _TABLE_WIDTH))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with (
            tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder,
            emulator() as port,
            Progress(*columns, console=console) as bar,
        ):
            runs = bar.add_task("runs", total=len(cells) * len(contestants))
            for cell, contestant in product(cells, contestants):
                count = jobs or _JOBS.get(cell.gpu, _USUAL_JOBS)
                task = bar.add_task(f"{contestant.name}: {cell}", total=count + WARM_UP)
                results.append(measure(cell, contestant, count, port, Path(folder), partial(_show, bar, task)))
                bar.remove_task(task)
                bar.advance(runs)
                if options.json:
                    options.json.write_text(json.dumps([dataclasses.asdict(result) for result in results], indent=1))
    finally:  # what was measured is worth seeing, however it ended
        console.print(table(results))


def _show(bar: Progress, task: TaskID, done: int) -> None:
    bar.update(task, completed=done)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.agent", description=__doc__)
    parser.add_argument("--gpu", type=float, nargs="+", help="seconds of GPU a picture")
    parser.add_argument("--size", type=float, nargs="+", help="megabytes a picture")
    parser.add_argument("--delay", type=int, nargs="+", help="milliseconds that every call to AWS takes longer")
    parser.add_argument("--jobs", type=int, help="how many jobs a run has")
    parser.add_argument("--contestant", nargs="+", choices=[contestant.name for contestant in CONTESTANTS])
    parser.add_argument("--quick", action="store_true", help="three cells of the matrix, in a few minutes")
    parser.add_argument("--long", action="store_true", help=f"{_LONG_JOBS} jobs in one run, for the memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go as JSON, too")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> tuple[list[Cell], int | None, list[str]]:
    """The cells, the jobs a run if they are set, and the names of the contestants."""
    everyone = [contestant.name for contestant in CONTESTANTS]
    cells = [Cell(*values) for values in product(_GPU_SECONDS, _SIZES, _DELAYS)]
    jobs, names = None, everyone
    if options.quick:
        cells, jobs = list(_QUICK), _QUICK_JOBS
    elif options.long:
        cells, jobs, names = list(_LONG), _LONG_JOBS, [_LONG_CONTESTANT]
    if options.gpu or options.size or options.delay is not None:
        cells = [
            Cell(*v) for v in product(options.gpu or _GPU_SECONDS, options.size or _SIZES, options.delay or _DELAYS)
        ]
    return cells, options.jobs or jobs, options.contestant or names


if __name__ == "__main__":
    main()

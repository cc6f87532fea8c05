"""``python -m darkroom_agent.readahead PATH...``: reads model files once, from front to back, so that a cache has them.

Mountpoint fetches from S3 by long sequential reads and keeps what it fetched in its local cache; an engine that maps a
file into memory would fetch it page by page, many times slower. Where the kernel's page cache outlives a file's close
(local disks, EFS) it is filled too.

In a pod this is a native sidecar before the engine, with ``--forever --ready-file FILE``. It has no startup probe, so
that the kubelet goes on to pull the engine's image; what comes next waits for FILE.
"""

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from darkroom_agent.clock import Clock
from darkroom_agent.logs import configure

log = logging.getLogger("darkroom_agent.readahead")

_BLOCK_BYTES = 8 * 1024 * 1024
_PROGRESS_SECONDS = 10.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EXIT_STATUS = (
    "The exit status is 0 when everything was read, 1 when something could not be or a folder has no file in it (a "
    "volume that is not mounted), 2 when a path is not there or the command line is wrong, and 128 and the signal's "
    "number when a signal ended the reading."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    given = _parser().parse_args(arguments)
    configure("INFO", os.environ.get("RUNTIME_NAME", ""))
    for number in _SIGNALS:
        signal.signal(number, _end)
    if given.ready_file is not None:
        given.ready_file.unlink(missing_ok=True)
    if missing := [path for path in given.paths if not path.exists()]:
        for path in missing:
            log.error("there is no such file or folder", extra={"path": str(path)})
        return 2
    if not read_ahead(given.paths, given.parallel):
        return 1
    if given.ready_file is not None:
        given.ready_file.touch()
    if given.forever:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        signal.sigwait(_SIGNALS)
    return 0


def read_ahead(paths: Sequence[Path], parallel: int) -> bool:
    """Read files and everything in folders, ``parallel`` files at a time; whether all of it could be read.

    A file that is reached in several ways, by symbolic links say, is read once. One that cannot be read is logged, and
    the others are read nevertheless. A folder without a file in it counts as one: a volume may not be mounted there.
    """
    clock = Clock()
    began = clock.now()
    failed: list[OSError] = []
    files = dict.fromkeys(file.resolve() for path in paths for file in _files(path, failed))
    with ThreadPoolExecutor(parallel) as pool:
        sizes = list(pool.map(lambda file: _read(file, clock, failed), files))
    for error in failed:
        log.error("not read", extra={"path": error.filename, "reason": error.strerror})
    log.info("read ahead", extra={"files": len(files), **_speed(sum(sizes), clock.now() - began)})
    return not failed


def _files(path: Path, failed: list[OSError]) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    is_empty, failed_before = True, len(failed)
    for folder, folders, names in os.walk(path, onerror=failed.append):
        folders.sort()
        for name in sorted(names):
            is_empty = False
            yield Path(folder, name)
    if is_empty and len(failed) == failed_before:
        failed.append(FileNotFoundError(errno.ENOENT, "there is no file in it", str(path)))


def _read(file: Path, clock: Clock, failed: list[OSError]) -> int:
    """Read one file; returns how many bytes could be read."""
    began = said = clock.now()
    done = 0
    block = memoryview(bytearray(_BLOCK_BYTES))
    try:
        with file.open("rb", buffering=0) as stream:
            while count := stream.readinto(block):
                done += count
                if clock.now() - said >= _PROGRESS_SECONDS:
                    said = clock.now()
                    log.info("reading", extra={"path": str(file), **_speed(done, said - began)})
    except OSError as error:
        error.filename = error.filename or str(file)  # a read knows its descriptor only
        failed.append(error)
    else:
        log.info("file read", extra={"path": str(file), **_speed(done, clock.now() - began)})
    return done


def _speed(size: int, seconds: float) -> dict[str, float]:
    """For logs; a MB is a million bytes."""
    return {
        "bytes": size,
        "seconds": round(seconds, 3),
        "megabytes_per_second": round(size / 1e6 / max(seconds, 1e-6), 1),
    }


def _end(number: int, _frame: FrameType | None) -> None:
    # At once: a read of a volume that hangs would keep an orderly exit waiting.
    os._exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m darkroom_agent.readahead", description="Read model files ahead.", epilog=_EXIT_STATUS
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder with all that is in it"
    )
    parser.add_argument("--parallel", type=int, default=1, choices=range(1, 9), help="files that are read side by side")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="a file to make when everything is read")
    parser.add_argument("--forever", action="store_true", help="stay when everything is read, until a signal comes")
    return parser


if __name__ == "__main__":
    sys.exit(main())

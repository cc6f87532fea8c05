"""Says what a picture costs: seconds and memory on one thread, which is what the model draws with.

`python -m training.cost`, in a process of its own: what else is loaded would count. Linux.
"""

import resource
import time

from training.pictures import EULER_A, draw

SIDE = 512
PICTURES = 3


def main() -> None:
    """Draw, and say what it took."""
    bare = _peak()
    draw(["warm up"], SIDE)
    began = time.process_time(), time.monotonic()
    for _ in range(PICTURES):
        draw(["a red apple"], SIDE)
    busy, took = (
        (now - then) / PICTURES for now, then in zip((time.process_time(), time.monotonic()), began, strict=True)
    )
    print(f"{SIDE}x{SIDE} in {EULER_A.steps} steps: {took:.2f} s ({busy:.2f} s of one CPU), at most {_peak():.0f} MiB")
    print(f"of memory, of which {bare:.0f} MiB are Python's with its libraries")


def _peak() -> float:
    """The most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

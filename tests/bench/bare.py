"""The bare pipelined loop: as fast as threads make it, and without any safety.

It keeps no message from others, notes nothing, repeats nothing and stops in the middle. It says what safety costs.
"""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from tests.bench.steps import Steps

if TYPE_CHECKING:
    from types_boto3_sqs.type_defs import MessageTypeDef

    _Waiting: TypeAlias = queue.Queue[MessageTypeDef]

#: One POST waits in the web UI while another runs.
_POSTS = 2
#: Messages that wait for the web UI: enough for a fast GPU while a receive is on its way.
_AHEAD = 4
_DELIVERIES = 8


def main() -> None:
    """Work until the process is ended."""
    steps = Steps(connections=_DELIVERIES + 1)
    waiting: _Waiting = queue.Queue()
    places = threading.Semaphore(_AHEAD)
    deliveries = ThreadPoolExecutor(_DELIVERIES)

    def generate() -> None:
        while True:
            message = waiting.get()
            places.release()
            deliveries.submit(steps.deliver, message, steps.generate(message))

    for _ in range(_POSTS):
        threading.Thread(target=generate).start()
    while True:
        places.acquire()
        free = 1
        while free < _AHEAD and places.acquire(blocking=False):
            free += 1
        messages = steps.receive(free)
        for message in messages:
            waiting.put(message)
        for _ in range(free - len(messages)):
            places.release()


if __name__ == "__main__":
    main()

"""What /internal/progress knows of the requests that have a name: modules/progress.py."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from darkroom_demo.sdwebui.state import State

#: How many finished requests the web UI remembers.
REMEMBERED = 16


@dataclass
class Tasks:
    """The named requests: those that wait, the one that runs, the last that finished."""

    #: A request that raises never finishes: it is called the current one until the next starts.
    current: str | None = None
    #: When each came; one that raises before it starts stays.
    pending: dict[str, float] = field(default_factory=dict)
    finished: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def add(self, task_id: str) -> None:
        """Note that a request waits."""
        self.pending[task_id] = time.time()

    def start(self, task_id: str) -> None:
        """Note that a request runs."""
        self.current = task_id
        self.pending.pop(task_id, None)

    def finish(self, task_id: str) -> None:
        """Note that a request came to its end without an error."""
        if self.current == task_id:
            self.current = None
        self.finished.append(task_id)

    def progress(self, task_id: str | None, id_live_preview: int, state: State) -> dict[str, Any]:
        """Return what /internal/progress answers about a request; there are no previews."""
        # A thread starts and finishes requests meanwhile.
        waiting = list(self.pending)
        is_active, is_queued = task_id == self.current, task_id in waiting
        answer: dict[str, Any] = {"active": is_active, "queued": is_queued, "completed": task_id in self.finished}
        answer |= {"progress": None, "eta": None, "live_preview": None, "id_live_preview": -1, "textinfo": "Waiting..."}
        if is_queued:
            answer["textinfo"] = f"In queue: {waiting.index(str(task_id)) + 1}/{len(waiting)}"
        if not is_active:
            return answer
        done = state.done()
        elapsed = time.monotonic() - state.time_start
        eta = elapsed / done - elapsed if done > 0 else None
        return answer | {"progress": done, "eta": eta, "id_live_preview": id_live_preview, "textinfo": None}

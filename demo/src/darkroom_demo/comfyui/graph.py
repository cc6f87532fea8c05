"""Runs a validated prompt: the nodes that its outputs need, in order, with ComfyUI's cache and its messages.

Blocks, so it is called from a thread; what it sends has to be safe to call from there. Results are kept for as long as
the prompts that follow have the same node with the same inputs.
"""

import hashlib
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any, TypeAlias

from darkroom_demo.comfyui.nodes import NODE_TYPES, Context, Folders, InterruptedRunError
from darkroom_demo.drawing import Pace, Tempo

Prompt: TypeAlias = Mapping[str, Any]
# (event, data, client id); without a client id the message goes to every socket
Send: TypeAlias = Callable[[str, dict[str, Any], str | None], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cached:
    """What a node gave: its outputs, and what the `executed` message says of them."""

    outputs: tuple[Any, ...]
    ui: dict[str, Any] | None


@dataclass
class Result:
    """What the history keeps of a run."""

    outputs: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    success: bool = True

    def entry(self) -> dict[str, Any]:
        """Return it as /history gives it."""
        status = {
            "status_str": "success" if self.success else "error",
            "completed": self.success,
            "messages": self.messages,
        }
        return {"outputs": self.outputs, "status": status, "meta": self.meta}


class Executor:
    """Runs one prompt at a time and remembers results between them."""

    def __init__(self, folders: Folders, tempo: Tempo, send: Send) -> None:
        self.folders = folders
        self.tempo = tempo
        self.send = send
        self.interrupted = Event()
        self.cache: dict[str, Cached] = {}

    def execute(self, prompt: Prompt, prompt_id: str, extra_data: Mapping[str, Any], outputs: list[str]) -> Result:
        """Run the nodes that those outputs need; what goes wrong is in the result and in the messages."""
        return _Run(self, prompt, prompt_id, extra_data).execute(outputs)


class _Run:
    def __init__(self, executor: Executor, prompt: Prompt, prompt_id: str, extra_data: Mapping[str, Any]) -> None:
        self.executor = executor
        self.prompt = prompt
        self.prompt_id = prompt_id
        self.client_id: str | None = extra_data.get("client_id")
        self.extra_pnginfo = extra_data.get("extra_pnginfo") or {}
        self.result = Result()
        self.progress: dict[str, dict[str, Any]] = {}
        self.executed: list[str] = []
        self.signatures: dict[str, str] = {}

    def execute(self, outputs: list[str]) -> Result:
        self._record("execution_start", {})
        for output in outputs:
            self._sign(output)
        kept = set(self.signatures.values())
        self.executor.cache = {key: value for key, value in self.executor.cache.items() if key in kept}
        cached = [node for node in self.prompt if self.signatures.get(node) in self.executor.cache]
        self._record("execution_cached", {"nodes": cached})
        for node in self._order(outputs, set(cached)):
            if not self._execute_node(node, cached):
                self.result.success = False
                return self.result
        self._record("execution_success", {})
        return self.result

    def _sign(self, node_id: str) -> str:
        """Return what identifies a node's result: its type and inputs, and those of all that it depends on."""
        if node_id not in self.signatures:
            node = self.prompt[node_id]
            node_type = NODE_TYPES[node["class_type"]]
            # As in ComfyUI, inputs count too that the node type does not have.
            inputs = [
                (
                    name,
                    (self._sign(value[0]), value[1]) if name in node_type.inputs and isinstance(value, list) else value,
                )
                for name, value in sorted(node["inputs"].items())
            ]
            changed = node_type.changed(self.executor.folders, node["inputs"]) if node_type.changed else None
            self.signatures[node_id] = hashlib.sha256(repr((node["class_type"], inputs, changed)).encode()).hexdigest()
        return self.signatures[node_id]

    def _order(self, outputs: list[str], cached: set[str]) -> list[str]:
        """Return the nodes to run, dependencies first; a cached node is visited only if it is an output."""
        order: dict[str, None] = {}

        def visit(node_id: str) -> None:
            if node_id in order:
                return
            if node_id not in cached:
                for value in self.prompt[node_id]["inputs"].values():
                    if isinstance(value, list) and value[0] not in cached:
                        visit(value[0])
            order[node_id] = None

        for output in outputs:
            visit(output)
        return list(order)

    def _execute_node(self, node_id: str, cached: list[str]) -> bool:
        entry = self.executor.cache.get(self.signatures[node_id])
        if entry is not None:
            self._send("executed", self._place(node_id) | {"output": entry.ui})
        else:
            node = self.prompt[node_id]
            inputs: dict[str, Any] = {}
            self._report_progress(node_id, "running", 0.0, 1.0)
            self._send("executing", self._place(node_id))
            try:
                self._check_interrupted()
                inputs |= self._inputs(node)
                values, ui = NODE_TYPES[node["class_type"]].run(self._context(node_id), inputs)
            except InterruptedRunError:
                self._record("execution_interrupted", self._failure(node_id), to_all=True)
                return False
            except Exception as error:
                logger.exception("node %s of prompt %s failed", node_id, self.prompt_id)
                self._record("execution_error", self._failure(node_id) | _described(error, inputs, cached))
                return False
            entry = self.executor.cache[self.signatures[node_id]] = Cached(values, ui)
            if ui is not None:
                self._send("executed", self._place(node_id) | {"output": ui})
            self.executed.append(node_id)
        if entry.ui is not None:
            self.result.outputs[node_id] = entry.ui
            names = {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}
            self.result.meta[node_id] = names
        total = self.progress.get(node_id, {"max": 1.0})["max"]
        self._report_progress(node_id, "finished", total, total)
        return True

    def _check_interrupted(self) -> None:
        if self.executor.interrupted.is_set():
            raise InterruptedRunError

    def _inputs(self, node: Mapping[str, Any]) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        for name in NODE_TYPES[node["class_type"]].inputs:
            value = node["inputs"][name]
            if isinstance(value, list):
                inputs[name] = self.executor.cache[self.signatures[value[0]]].outputs[value[1]]
            else:
                inputs[name] = value
        return inputs

    def _context(self, node_id: str) -> Context:
        def on_progress(value: int, total: int) -> None:
            self._report_progress(node_id, "running", value, total)
            # Goes to every socket where the prompt names no client, as ComfyUI's progress hook does.
            data = {"value": value, "max": total, "prompt_id": self.prompt_id, "node": node_id}
            self.executor.send("progress", data, self.client_id)

        pace = Pace(self.executor.tempo, self.executor.interrupted)
        return Context(self.executor.folders, pace, self.prompt, self.extra_pnginfo, on_progress)

    def _report_progress(self, node_id: str, state: str, value: float, total: float) -> None:
        self.progress[node_id] = {
            "value": value,
            "max": total,
            "state": state,
            "node_id": node_id,
            "prompt_id": self.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        data = {"prompt_id": self.prompt_id, "nodes": dict(self.progress)}
        self.executor.send("progress_state", data, self.client_id)

    def _place(self, node_id: str) -> dict[str, Any]:
        return {"node": node_id, "display_node": node_id, "prompt_id": self.prompt_id}

    def _failure(self, node_id: str) -> dict[str, Any]:
        return {"node_id": node_id, "node_type": self.prompt[node_id]["class_type"], "executed": list(self.executed)}

    def _send(self, event: str, data: dict[str, Any]) -> None:
        if self.client_id is not None:
            self.executor.send(event, data, self.client_id)

    def _record(self, event: str, data: dict[str, Any], *, to_all: bool = False) -> None:
        """Send a message that the history keeps too."""
        data = {"prompt_id": self.prompt_id, **data, "timestamp": int(time.time() * 1000)}
        self.result.messages.append((event, data))
        if to_all or self.client_id is not None:
            self.executor.send(event, data, self.client_id)


def _described(error: Exception, inputs: Mapping[str, Any], cached: list[str]) -> dict[str, Any]:
    kind = type(error)
    plain = (int, float, bool, str, type(None))
    return {
        # ComfyUI adds a line for tips, mostly empty.
        "exception_message": f"{error}\n",
        "exception_type": kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}",
        "traceback": traceback.format_tb(error.__traceback__),
        "current_inputs": {name: [value if isinstance(value, plain) else str(value)] for name, value in inputs.items()},
        "current_outputs": cached,
    }

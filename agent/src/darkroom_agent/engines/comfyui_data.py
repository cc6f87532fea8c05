"""What a workflow says, and what ComfyUI's answers say about it. Pure."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeAlias

from pydantic import JsonValue

from darkroom_agent.errors import EngineFailedError, EngineRefusedError, InvalidTaskError, WorkflowFailedError
from darkroom_contract.workflows import refused_classes

#: Nodes by their ids, each with its class_type and inputs.
Workflow: TypeAlias = dict[str, JsonValue]
#: What the history says of a prompt that has ended.
Entry: TypeAlias = dict[str, Any]
#: A file as ComfyUI names it: filename, subfolder, type.
File: TypeAlias = dict[str, Any]

#: Exceptions of PyTorch, of the GPU's driver and of the operating system, whatever node they come from.
_MACHINE_TROUBLE = re.compile(
    r"out ?of ?memory|CUDA (error|driver|kernel)|no CUDA|NVIDIA driver|cuDNN|cuBLAS|AcceleratorError"
    r"|^OSError:|\[Errno|No space left",
    re.IGNORECASE,
)


def check_classes(workflow: Workflow, allowed: Sequence[str], denied: Sequence[str]) -> None:
    """Refuse a workflow with a node that the runtime does not run; raises ``InvalidTaskError``.

    ``allowed`` and ``denied`` are patterns of node classes, as fnmatch takes them. None allowed is all allowed.
    """
    for node, kind in refused_classes(workflow, allowed, denied):
        runs = ", ".join(allowed) or "every class"
        but = f" except {', '.join(denied)}" if denied else ""
        raise InvalidTaskError(
            f"the runtime does not run nodes of the class '{kind}'; it runs {runs}{but}",
            node=node,
            field=f"content.{node}.class_type",
        )


def with_nodes_anew(workflow: Workflow, nodes: Collection[str], run: str) -> Workflow:
    """The workflow with nodes that ComfyUI does not find in its cache, because of an input of the run's own.

    ComfyUI caches a node's output by all inputs that the prompt gives to it and to all that it depends on
    (``CacheKeySetInputSignature`` in comfy_execution/caching.py), and leaves inputs away that the node does not have
    (``get_input_data`` in execution.py): these nodes are executed again, and those that depend on them, and no other.
    """
    return {node: _anew(content, run) if node in nodes else content for node, content in workflow.items()}


def _anew(content: JsonValue, run: str) -> JsonValue:
    inputs = content.get("inputs") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(inputs, dict):
        return content
    return {**content, "inputs": {**inputs, "darkroom_run": run}}


def refusal(answer: JsonValue) -> EngineRefusedError:
    """The error of a prompt that ComfyUI calls invalid: the first node that it names, and the input of it."""
    body: dict[str, Any] = answer if isinstance(answer, dict) else {}
    error = body.get("error")
    message = (error.get("message") if isinstance(error, dict) else error) or "ComfyUI calls the workflow invalid"
    by_node = body.get("node_errors")
    for node, trouble in by_node.items() if isinstance(by_node, dict) else ():
        for item in trouble.get("errors", []):
            name = (item.get("extra_info") or {}).get("input_name")
            return EngineRefusedError(
                f"{item.get('message', message)}: {item.get('details', '')}".removesuffix(": "),
                node=node,
                field=f"content.{node}.inputs.{name}" if name else f"content.{node}",
                reason=answer,
            )
    return EngineRefusedError(str(message), reason=answer)


def check_accepted(answer: dict[str, Any]) -> None:
    """Refuse a prompt of which ComfyUI calls a part invalid; it runs the rest. Raises ``EngineRefusedError``."""
    if answer.get("node_errors"):
        raise refusal(answer)


def check_status(entry: Entry) -> None:
    """Raises what the history says went wrong. The machine's trouble may pass; a node's own exception will not."""
    for name, data in _messages(entry):
        if name == "execution_interrupted":
            raise EngineFailedError("ComfyUI was told to interrupt the workflow", node=data.get("node_id"))
        if name == "execution_error":
            node, text = data.get("node_id"), str(data.get("exception_message", "")).strip()
            kind = EngineFailedError if _is_the_machines(data) else WorkflowFailedError
            raise kind(f"{data.get('node_type', 'node')} {node}: {text}", node=node)
    if _status(entry).get("status_str") == "error":
        raise EngineFailedError("ComfyUI failed without a cause")


def is_success(entry: Entry) -> bool:
    """Whether the history says that all went well. Old versions say nothing of it."""
    return _status(entry).get("status_str") == "success"


def _status(entry: Entry) -> dict[str, Any]:
    return entry.get("status") or {}


def _messages(entry: Entry) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from _status(entry).get("messages") or []


def _is_the_machines(data: dict[str, Any]) -> bool:
    return bool(_MACHINE_TROUBLE.search(f"{data.get('exception_type', '')}: {data.get('exception_message', '')}"))


def cached_nodes(entry: Entry) -> set[str]:
    """The nodes that were not executed: their outputs, files among them, are an earlier prompt's."""
    return {node for name, data in _messages(entry) if name == "execution_cached" for node in data.get("nodes") or []}


def named_files(entry: Entry) -> list[tuple[str, File]]:
    """Every file that the workflow's nodes name, with its node.

    Nodes name them under their medium: ``images`` (SaveVideo's too), ``gifs`` (VHS_VideoCombine), ``audio``.
    """
    return [
        (node, item)
        for node, media in (entry.get("outputs") or {}).items()
        for medium in media.values()
        for item in (medium if isinstance(medium, list) else [])
        if isinstance(item, dict) and item.get("filename")
    ]


def files(entry: Entry) -> list[tuple[str, File]]:
    """What a job made, with its node: the files that are to be kept, or else the previews."""
    named = named_files(entry)
    kept = [(node, file) for node, file in named if file.get("type") == "output"]
    return kept or [(node, file) for node, file in named if file.get("type") == "temp"]

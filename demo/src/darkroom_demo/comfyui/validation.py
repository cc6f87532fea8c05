"""Validates a prompt before it is queued, with the errors of ComfyUI's execution.py. Reads folders, changes no file.

Values are converted in place (the text "20" of an INT becomes 20), as ComfyUI does.
"""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from darkroom_demo.comfyui.nodes import NODE_TYPES, Folders, Input

Error: TypeAlias = dict[str, Any]
CONVERSIONS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
LONGEST_LIST = 20  # values; longer lists are not repeated in errors


@dataclass(frozen=True)
class Validation:
    """What was found: the outputs that can run, and what is wrong; `error` is None if any output can run."""

    error: Error | None
    outputs: list[str] = field(default_factory=list)
    node_errors: dict[str, Any] = field(default_factory=dict)


def validate(prompt: dict[str, Any], folders: Folders) -> Validation:
    """Validate every output node of a prompt and all that it needs."""
    for node_id, node in prompt.items():
        if node.get("class_type") not in NODE_TYPES:
            return Validation(_missing_node_type(node_id, node))
    outputs = [node_id for node_id, node in prompt.items() if NODE_TYPES[node["class_type"]].is_output]
    if not outputs:
        return Validation(_error("prompt_no_outputs", "Prompt has no outputs", "", {}))
    validator = _Validator(prompt, folders)
    good: list[str] = []
    summary: list[str] = []
    node_errors: dict[str, Any] = {}
    for output in outputs:
        try:
            valid = validator.node(output, [])
        except Exception as exception:  # noqa: BLE001 - any exception is a finding about the prompt
            info = {
                "exception_type": type(exception).__name__,
                "traceback": traceback.format_tb(exception.__traceback__),
            }
            found = _error("exception_during_validation", "Exception when validating node", str(exception), info)
            validator.errors[output], valid = [found], False
        if valid:
            good.append(output)
            continue
        summary += [f"{found['message']}: {found['details']}" for found in validator.errors[output]]
        for node_id, errors in validator.errors.items():
            if errors:
                entry = {"errors": errors, "dependent_outputs": [], "class_type": prompt[node_id]["class_type"]}
                node_errors.setdefault(node_id, entry)["dependent_outputs"].append(output)
    if good:
        return Validation(None, good, node_errors)
    failed = "prompt_outputs_failed_validation"
    return Validation(_error(failed, "Prompt outputs failed validation", "\n".join(summary), {}), [], node_errors)


class _Validator:
    def __init__(self, prompt: dict[str, Any], folders: Folders) -> None:
        self.prompt = prompt
        self.folders = folders
        self.errors: dict[str, list[Error]] = {}
        self.valid: dict[str, bool] = {}

    def node(self, node_id: str, visiting: list[str]) -> bool:
        """Validate a node and what it depends on; its own errors go to `errors`."""
        if node_id in visiting:
            self._cycle([*visiting[visiting.index(node_id) :], node_id])
            return False
        if node_id in self.valid:
            return self.valid[node_id]
        node = self.prompt[node_id]
        errors: list[Error] = []
        upstream = True
        for name, spec in NODE_TYPES[node["class_type"]].inputs.items():
            if name not in node["inputs"]:
                errors.append(_input_error("required_input_missing", "Required input is missing", name, name))
                continue
            value = node["inputs"][name]
            if isinstance(value, list):
                error = self._link(name, spec, value)
                if error is None:
                    upstream = self.node(value[0], [*visiting, node_id]) and upstream
            else:
                error = self._value(node, name, spec)
            if error is not None:
                errors.append(error)
        self.errors.setdefault(node_id, []).extend(errors)
        self.valid[node_id] = upstream and not self.errors[node_id]
        return self.valid[node_id]

    def _cycle(self, path: list[str]) -> None:
        nodes = list(dict.fromkeys(path))
        details = " -> ".join(f"{node_id} ({self.prompt[node_id]['class_type']})" for node_id in path)
        for node_id in nodes:
            info = {"node_id": node_id, "cycle_nodes": nodes}
            self.errors[node_id] = [_error("dependency_cycle", "Dependency cycle detected", details, info)]

    def _link(self, name: str, spec: Input, value: list[Any]) -> Error | None:
        wanted = spec.type(self.folders)
        config = {"input_config": [wanted, dict(spec.options)]}
        if len(value) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return _input_error("bad_linked_input", message, name, name, **config, received_value=value)
        received = NODE_TYPES[self.prompt[value[0]]["class_type"]].outputs[value[1]]
        if received == wanted:
            return None
        return _input_error(
            "return_type_mismatch",
            "Return type mismatch between linked nodes",
            f"{name}, received_type({received}) mismatch input_type({wanted})",
            name,
            **config,
            received_type=received,
            linked_node=value,
        )

    def _value(self, node: dict[str, Any], name: str, spec: Input) -> Error | None:
        kind = spec.type(self.folders)
        value = node["inputs"][name]
        config: dict[str, Any] = {"input_config": [kind, dict(spec.options)], "received_value": value}
        if isinstance(kind, str) and kind in CONVERSIONS:
            try:
                value = node["inputs"][name] = CONVERSIONS[kind](value)
            except (TypeError, ValueError, OverflowError) as exception:
                message = f"Failed to convert an input value to a {kind} value"
                details = f"{name}, {value}, {exception}"
                return _input_error(
                    "invalid_input_type", message, details, name, **config, exception_message=str(exception)
                )
        check = NODE_TYPES[node["class_type"]].checks.get(name)
        if check is not None:
            problem = check(self.folders, value)
            message = "Custom validation failed for node"
            if problem is None:
                return None
            return _input_error("custom_validation_failed", message, f"{name} - {problem}", name)
        return _out_of_range(name, value, spec.options, config) or _not_listed(name, value, kind, config)


def _out_of_range(name: str, value: Any, options: Mapping[str, Any], config: dict[str, Any]) -> Error | None:
    config |= {"received_value": value}
    if "min" in options and value < options["min"]:
        message = f"Value {value} smaller than min of {options['min']}"
        return _input_error("value_smaller_than_min", message, name, name, **config)
    if "max" in options and value > options["max"]:
        message = f"Value {value} bigger than max of {options['max']}"
        return _input_error("value_bigger_than_max", message, name, name, **config)
    return None


def _not_listed(name: str, value: Any, kind: str | list[str], config: dict[str, Any]) -> Error | None:
    if isinstance(kind, str) or value in kind:
        return None
    listed = str(kind)
    if len(kind) > LONGEST_LIST:
        listed, config["input_config"] = f"(list of length {len(kind)})", None
    return _input_error("value_not_in_list", "Value not in list", f"{name}: {value!r} not in {listed}", name, **config)


def _missing_node_type(node_id: str, node: Mapping[str, Any]) -> Error:
    class_type = node.get("class_type")
    title = node.get("_meta", {}).get("title", class_type)
    info = {"node_id": node_id, "class_type": class_type, "node_title": title}
    if class_type is None:
        reason = "has no class_type. The workflow may be corrupted or a custom node is missing."
        message = f"Node '{title or f'ID #{node_id}'}' {reason}"
    else:
        message = f"Node '{title}' not found. The custom node may not be installed."
    return _error("missing_node_type", message, f"Node ID '#{node_id}'", info)


def _input_error(kind: str, message: str, details: str, name: str, **info: Any) -> Error:
    return _error(kind, message, details, {"input_name": name, **info})


def _error(kind: str, message: str, details: str, info: dict[str, Any]) -> Error:
    return {"type": kind, "message": message, "details": details, "extra_info": info}

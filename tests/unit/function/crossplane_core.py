"""What Crossplane's core does with the function: ask, and tell apart what comes back. A real gRPC client."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from crossplane.function import resource
from crossplane.function.proto.v1 import run_function_pb2 as pb
from crossplane.function.proto.v1 import run_function_pb2_grpc as rpc

Objects = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Answer:
    message: pb.RunFunctionResponse

    @property
    def fatal(self) -> str | None:
        return next((item.message for item in self.message.results if item.severity == pb.SEVERITY_FATAL), None)

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        return {key: resource.struct_to_dict(item.resource) for key, item in self.message.desired.resources.items()}

    @property
    def readiness(self) -> dict[str, int]:
        return {key: item.ready for key, item in self.message.desired.resources.items()}

    @property
    def ready(self) -> int:
        return self.message.desired.composite.ready

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = resource.struct_to_dict(self.message.desired.composite.resource)["status"]
        return status

    def condition(self, kind: str) -> pb.Condition:
        (found,) = [condition for condition in self.message.conditions if condition.type == kind]
        return found


def request(kind: str, spec: Mapping[str, Any], observed: Objects) -> pb.RunFunctionRequest:
    message = pb.RunFunctionRequest(meta=pb.RequestMeta(tag="a-tag"))
    composite = {
        "apiVersion": "darkroom.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "studio", "namespace": "darkroom"},
        "spec": {**spec, "crossplane": {"compositionRef": {"name": "a-composition"}}},
    }
    resource.update(message.observed.composite, composite)
    for key, item in observed.items():
        resource.update(message.observed.resources[key], dict(item))
    return message


class Core:
    """Crossplane's side of a connection."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._function = rpc.FunctionRunnerServiceStub(channel)  # type: ignore[no-untyped-call]

    def run(self, kind: str, spec: Mapping[str, Any], observed: Objects | None = None) -> Answer:
        return self.send(request(kind, spec, observed or {}))

    def send(self, message: pb.RunFunctionRequest) -> Answer:
        return Answer(self._function.RunFunction(message, timeout=30))

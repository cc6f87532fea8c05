"""The composition function: a thin gRPC shell around ``compositions.compose``.

An answer is either all of what a composite becomes or a fatal result, with which Crossplane leaves everything as it is.
It is never an empty answer: that would delete everything.
"""

import datetime
import traceback
from typing import Any

from crossplane.function import logging, resource, response
from crossplane.function.proto.v1 import run_function_pb2 as pb
from crossplane.function.proto.v1 import run_function_pb2_grpc as rpc

from darkroom_function import conditions
from darkroom_function.apis import InvalidSpec
from darkroom_function.compositions import compose
from darkroom_function.managed import Composed

#: How long an answer holds. It depends on nothing but the request, and Crossplane asks again whenever a resource
#: changes; each time that it asks it also writes every resource of the composite.
_TTL = datetime.timedelta(minutes=10)
_READY = {True: pb.READY_TRUE, False: pb.READY_FALSE}


class FunctionRunner(rpc.FunctionRunnerServiceServicer):
    """What Crossplane calls for every composite."""

    async def RunFunction(self, request: pb.RunFunctionRequest, _: object) -> pb.RunFunctionResponse:  # noqa: N802
        """Compose."""
        return respond(request)


def respond(request: pb.RunFunctionRequest) -> pb.RunFunctionResponse:
    """What a composite becomes, or why nothing is changed."""
    answer = response.to(request, ttl=_TTL)
    log = logging.get_logger().bind(tag=request.meta.tag)
    try:
        composite = resource.struct_to_dict(request.observed.composite.resource)
        log = log.bind(kind=composite["kind"], **_identity(composite))
        observed = {key: resource.struct_to_dict(item.resource) for key, item in request.observed.resources.items()}
        composed = compose(composite["kind"], composite["spec"], observed)
        _fill(answer, composed)
        response.set_conditions(answer, *conditions.of(composed, observed))
        log.debug("composed", ready=composed.ready, resources=len(composed.resources))
    except InvalidSpec as invalid:
        log.info("the spec is wrong", problem=str(invalid))
        _refuse(answer, conditions.INVALID, str(invalid))
    except Exception as error:  # noqa: BLE001 - whatever it is, resources must stay
        # Without the frames' variables and the error's own words: both may hold an API key that was observed.
        log.error("composing failed", error=type(error).__name__, frames=_frames(error))  # noqa: TRY400
        _refuse(
            answer,
            conditions.DEFECT,
            f"a defect in the composition function ({type(error).__name__}); nothing was changed. "
            'Its log has the place: look for "composing failed".',
        )
    return answer


def _refuse(answer: pb.RunFunctionResponse, reason: str, problem: str) -> None:
    """Change nothing, and say why, also in a condition: Crossplane makes those Unknown that an answer leaves out."""
    response.fatal(answer, problem)
    response.set_conditions(answer, conditions.nothing_changed(reason, problem))


def _identity(composite: dict[str, Any]) -> dict[str, str]:
    metadata = composite.get("metadata", {})
    return {"composite": metadata.get("name", ""), "namespace": metadata.get("namespace", "")}


def _frames(error: Exception) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]


def _fill(answer: pb.RunFunctionResponse, composed: Composed[Any]) -> None:
    for key, entry in composed.resources.items():
        desired = answer.desired.resources[key]
        resource.update(desired, entry.resource.manifest())
        desired.ready = _READY[entry.ready]
    status = composed.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    resource.update_status(answer.desired.composite, status)
    answer.desired.composite.ready = _READY[composed.ready]

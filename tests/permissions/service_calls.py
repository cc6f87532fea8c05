"""Calls by AWS's own services, which resources' policies alone let in, and whether each is to be. Pure."""

from collections.abc import Iterator

from darkroom_contract.names import Actor
from darkroom_function.kinds import Kind
from darkroom_function.managed import Managed
from tests.permissions.evaluator import Call, Value
from tests.permissions.system import API_ROLE, NAMES, RESOURCES

PODS, LAMBDA, GATEWAY, EVENTS = (f"{name}.amazonaws.com" for name in ("pods.eks", "lambda", "apigateway", "events"))
#: The session tags by which EKS says for which pod it assumes a role (EKS user guide, "Grant Pods access to AWS
#: resources based on tags"), of those that a service account's pods have in common.
_TAGS = ("eks-cluster-arn", "kubernetes-namespace", "kubernetes-service-account")


def service_call(service: str, action: str, resource: str, **keys: Value) -> Call:
    """A call that a service makes over TLS for a source, or none."""
    tags: dict[str, Value] = dict.fromkeys((f"aws:RequestTag/{tag}" for tag in _TAGS), None)
    context = {"aws:SecureTransport": "true", "aws:SourceArn": keys.pop("source", None), **tags, **keys}
    return Call(service, action, resource, frozenset(context.items()))


def assume(role: str, **tags: str) -> list[Call]:
    """What EKS does to give a pod its credentials, by its session tags with underscores for hyphens."""
    keys = {f"aws:RequestTag/{tag.replace('_', '-')}": value for tag, value in tags.items()}
    return [service_call(PODS, action, role, **keys) for action in ("sts:AssumeRole", "sts:TagSession")]


def _pods(association: Managed) -> Iterator[tuple[Call, bool]]:
    """The pods of an association may have its role, and no others, of whichever tag they have another."""
    spec = {field: str(value) for field, value in association.for_provider.items()}
    own = {
        "eks_cluster_arn": NAMES.eks_cluster_arn(spec["clusterName"]),
        "kubernetes_namespace": spec["namespace"],
        "kubernetes_service_account": spec["serviceAccount"],
    }
    yield from ((call, True) for call in assume(spec["roleArn"], **own))
    for tag, value in own.items():
        yield from ((call, False) for call in assume(spec["roleArn"], **{**own, tag: f"{value}-2"}))
    yield from ((call, False) for call in assume(spec["roleArn"]))
    yield service_call(LAMBDA, "sts:AssumeRole", spec["roleArn"]), False


def _function() -> Iterator[tuple[Call, bool]]:
    yield service_call(LAMBDA, "sts:AssumeRole", API_ROLE), True
    yield service_call(EVENTS, "sts:AssumeRole", API_ROLE), False
    yield from ((call, False) for call in assume(API_ROLE, kubernetes_namespace="darkroom"))
    (permission,) = (item for item in RESOURCES if item.kind is Kind.PERMISSION)
    ours = str(permission.for_provider["sourceArn"]).replace("*", "prod", 1).replace("*", "POST", 1)
    sources = {ours.replace("*", "v1/jobs"): True, NAMES.api_execution_arn("another").replace("*", "a"): False}
    for source, expected in sources.items():
        yield service_call(GATEWAY, "lambda:InvokeFunction", NAMES.api_function_arn, source=source), expected
        yield service_call(EVENTS, "lambda:InvokeFunction", NAMES.api_function_arn, source=source), False


def _nodes() -> Iterator[tuple[Call, bool]]:
    role = NAMES.role_arn(NAMES.role(Actor.NODE))
    yield service_call(NAMES.ec2_service, "sts:AssumeRole", role), True
    yield service_call(LAMBDA, "sts:AssumeRole", role), False


def _events() -> Iterator[tuple[Call, bool]]:
    """Karpenter's queue takes what its own rules match."""
    queue = NAMES.queue_arn(NAMES.interruption_queue)
    rules = [str(item.external_name) for item in RESOURCES if item.kind is Kind.RULE]
    for rule, expected in {**dict.fromkeys(rules, True), "another": False}.items():
        yield service_call(EVENTS, "sqs:SendMessage", queue, source=NAMES.event_rule_arn(rule)), expected


SERVICE_CALLS = [
    *(call for item in RESOURCES if item.kind is Kind.POD_IDENTITY_ASSOCIATION for call in _pods(item)),
    *_function(),
    *_nodes(),
    *_events(),
]

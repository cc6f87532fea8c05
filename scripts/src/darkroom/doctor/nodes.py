"""Nodes for the runtime's pods, as Karpenter tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from darkroom.doctor.context import Context
from darkroom.doctor.finding import Finding, ok, wrong
from darkroom.doctor.objects import age, condition, waits_for_node
from darkroom.kubectl import Object

#: How old an event may be and still say something of now.
_RECENT = timedelta(minutes=30)
#: How long a machine may boot and join.
_BOOT = timedelta(minutes=15)
#: The words of EC2, by which Karpenter tells that an account may have no more, and how its quotas are called.
_QUOTAS = {
    "MaxSpotInstanceCountExceeded": "All G and VT Spot Instance Requests, or All P Spot Instance Requests",
    "VcpuLimitExceeded": "Running On-Demand G and VT instances, or Running On-Demand P instances",
}


def nodes(it: Context) -> Finding:
    """Whether the pods that wait for a node can get one."""
    pool_name = f"gpu-{it.description.gpu}"
    pool = it.kubectl.get("nodepools.karpenter.sh", pool_name)
    if pool is None:
        words = f"there is no NodePool {pool_name}: the cluster has no pool of {it.description.gpu}"
        return wrong(words, f"add it to gpuNodes.pools in {it.folder}/cluster.yaml, and push it")
    ready = condition(pool, "Ready")
    if ready and ready["status"] == "False":
        reference = pool["spec"]["template"]["spec"]["nodeClassRef"]
        words = f"the NodePool {pool_name} is not ready: {ready.get('message') or ready.get('reason')}"
        return wrong(words, f"kubectl describe {reference['kind'].lower()} {reference['name']}")
    if not (waiting := [pod for pod in it.pods if waits_for_node(pod)]):
        return ok(f"{pool_name}: {_gpus(pool, 'status', 'resources')} of {_gpus(pool, 'spec', 'limits')} GPUs in use")
    return _exhausted(it, pool, waiting) or _refused(it, pool_name) or ok(f"{pool_name}: a node is on its way")


def _exhausted(it: Context, pool: Object, waiting: list[Object]) -> Finding | None:
    """The pool's limit, if that is what keeps a node from coming."""
    name = pool["metadata"]["name"]
    said = [each for pod in waiting for each in it.said_of("Pod", pod["metadata"]["name"], "FailedScheduling")]
    used, limit = _gpus(pool, "status", "resources"), _gpus(pool, "spec", "limits")
    if any("exceed limits for nodepool" in each and name in each for each in said) or (limit and used >= limit):
        words = f"{len(waiting)} pods wait, and {name} has all the GPUs that it may: {used} of {limit}"
        remedy = (
            f"raise maxGpus of {it.description.gpu} in {it.folder}/cluster.yaml and push it, or wait for others to end"
        )
        return wrong(words, remedy)
    return None


def _refused(it: Context, pool: str) -> Finding | None:
    """What EC2 said to the machines that Karpenter asked for last."""
    for claim in it.kubectl.all("nodeclaims.karpenter.sh", selector=f"karpenter.sh/nodepool={pool}"):
        if said := _not_a_node(claim):
            name = claim["metadata"]["name"]
            return wrong(f"the machine {name} does not become a node: {said}", f"kubectl describe nodeclaim {name}")
    said = next(_no_capacity(it, pool), None)
    if said is None:
        return None
    if code := next((code for code in _QUOTAS if code in said), None):
        command = "aws service-quotas list-service-quotas --service-code ec2"
        ask = f"ask for more in Service Quotas: {_QUOTAS[code]}"
        return wrong(f"the account's quota of GPU instances is used up: {said}", ask, command)
    remedy = f"set capacity: any for the pool in {it.folder}/cluster.yaml, or take another class of GPU for the runtime"
    return wrong(f"EC2 has no such machine now, and Karpenter tries again: {said}", remedy)


def _not_a_node(claim: Object) -> str | None:
    """Why a machine is none yet, if that is not for its being new."""
    for name in ("Launched", "Registered", "Initialized"):
        each = condition(claim, name)
        if each is None or each["status"] == "True":
            continue
        is_failed = name == "Launched" and each.get("reason") not in (None, "AwaitingReconciliation", "Launched")
        if is_failed or age(claim["metadata"]["creationTimestamp"]) > _BOOT:
            return f"{name}: {each.get('reason', '')}: {each.get('message', '')}"
    return None


def _no_capacity(it: Context, pool: str) -> Iterator[str]:
    """What the newest events of NodeClaims of a pool, which are gone by then, say of EC2's refusal."""
    for event in reversed(it.events):
        about = event["involvedObject"]
        if event.get("reason") != "InsufficientCapacityError" or not about.get("name", "").startswith(f"{pool}-"):
            continue
        seen = (
            (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
        )
        if age(seen) < _RECENT:
            yield event.get("message", "")


def _gpus(pool: Object, part: str, which: str) -> int:
    return int(pool.get(part, {}).get(which, {}).get("nvidia.com/gpu", 0))

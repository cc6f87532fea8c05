"""The composition of ``ClusterAccess``: what KEDA, Karpenter, its nodes, Mountpoint and the janitor may do. Pure.

The nodes' instance profile is made here, so that Karpenter need not be able to make one, and give it a role.
"""

from collections.abc import Iterator

from darkroom_contract.names import Actor, Names
from darkroom_function import messaging, node_permissions, permissions, policy
from darkroom_function.apis import ClusterAccessSpec, ClusterAccessStatus, ServiceAccount
from darkroom_function.identity import pod_identity, role, trusting_pods
from darkroom_function.kinds import Kind
from darkroom_function.managed import Composed, Managed, Observed, Owner, Usage, keyed
from darkroom_function.policy import Statement, canonical_json

#: What Karpenter hears of: the source and the type of each event, as its CloudFormation template has them.
_EVENTS = {
    "spot-interruption": ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
    "capacity-interruption": ("aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning"),
    "rebalance": ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
    "state-change": ("aws.ec2", "EC2 Instance State-change Notification"),
    "scheduled-change": ("aws.health", "AWS Health Event"),
}
#: News of an instance is stale after five minutes: of two minutes' notice nothing is left then.
_EVENT_RETENTION_SECONDS = 300
#: The provider builds its identifiers with the bus's name, and does without none (provider-upjet-aws#931, #932).
#: Terraform's own leave the default bus out, and the external name of a target of it is not stable (#1826, closed as
#: stale): nothing depends on that name.
_DEFAULT_BUS = "default"


def compose(spec: ClusterAccessSpec, observed: Observed) -> Composed[ClusterAccessStatus]:
    """The identities of a cluster's add-ons and nodes."""
    names = spec.cluster.names
    owner = Owner(f"{spec.cluster.name}-access", spec.cluster.region)
    resources: list[Managed | Usage] = [
        *_pod_roles(owner, names, spec, observed),
        *_nodes(owner, names, spec.cluster.eks_name, observed),
        *_interruptions(owner, names),
    ]
    if spec.protected:
        loss = "With it go the roles of the nodes and of what starts them."
        resources.append(Usage.of_composite(owner, "ClusterAccess", spec.cluster.name, loss))
    status = ClusterAccessStatus(
        interruption_queue=names.interruption_queue,
        node_instance_profile=names.node_instance_profile,
        node_role_arn=names.role_arn(names.role(Actor.NODE)),
        keda_role_arn=names.role_arn(names.role(Actor.KEDA)),
        karpenter_role_arn=names.role_arn(names.role(Actor.KARPENTER)),
        mountpoint_role_arn=names.role_arn(names.role(Actor.MOUNTPOINT)),
        janitor_role_arn=names.role_arn(names.role(Actor.JANITOR)),
    )
    return Composed.of(resources, observed, status)


def _pod_roles(owner: Owner, names: Names, spec: ClusterAccessSpec, observed: Observed) -> Iterator[Managed]:
    def of(actor: Actor, account: ServiceAccount, statements: list[Statement]) -> Iterator[Managed]:
        name, prefix, trust = names.role(actor), f"{actor}-", trusting_pods(spec.cluster, account)
        yield from role(owner, names, actor, name, trust, statements, prefix=prefix)
        yield from pod_identity(owner, spec.cluster, account, name, observed, prefix=prefix)

    yield from of(Actor.KEDA, spec.keda, permissions.keda(names))
    yield from of(Actor.KARPENTER, spec.karpenter, node_permissions.karpenter(names, spec.cluster.eks_name))
    yield from of(Actor.MOUNTPOINT, spec.mountpoint, permissions.mountpoint(names))
    yield from of(Actor.JANITOR, spec.janitor, permissions.janitor(names))


def _nodes(owner: Owner, names: Names, eks_name: str, observed: Observed) -> Iterator[Managed]:
    name = names.role(Actor.NODE)
    trust = policy.allow("AllowInstances", ["sts:AssumeRole"], service=names.ec2_service)
    yield from role(owner, names, Actor.NODE, name, trust, prefix="node-")
    # Not the role's own list of policies: that one would take away what others attach, an agent of GuardDuty say.
    for attached in node_permissions.NODE_POLICIES:
        yield owner.managed(
            Kind.ROLE_POLICY_ATTACHMENT,
            f"node-policy.{attached.lower()}",
            {"role": name, "policyArn": names.aws_policy_arn(attached)},
        )
    yield owner.managed(
        Kind.INSTANCE_PROFILE,
        "node-instance-profile",
        {"path": names.role_path, "role": name},
        external_name=names.node_instance_profile,
    )
    entry = owner.managed(
        Kind.ACCESS_ENTRY,
        keyed("node-access-entry", eks_name),
        # EC2_LINUX is for Bottlerocket too; it brings the groups that nodes are in.
        {"clusterName": eks_name, "principalArn": names.role_arn(name), "type": "EC2_LINUX"},
    )
    yield from owner.replacing(entry, observed)


def _interruptions(owner: Owner, names: Names) -> Iterator[Managed]:
    queue = names.interruption_queue
    rules = {event: names.interruption_rule(event) for event in _EVENTS}
    yield from messaging.event_queue(
        owner,
        names,
        "interruption-queue",
        queue,
        rules=list(rules.values()),
        retention_seconds=_EVENT_RETENTION_SECONDS,
    )
    for event, (source, kind) in _EVENTS.items():
        yield owner.managed(
            Kind.RULE,
            f"{event}-rule",
            {
                "eventBusName": _DEFAULT_BUS,
                "eventPattern": canonical_json({"source": [source], "detail-type": [kind]}),
            },
            external_name=rules[event],
        )
        yield owner.managed(
            Kind.TARGET,
            f"{event}-target",
            {
                "eventBusName": _DEFAULT_BUS,
                "rule": rules[event],
                "targetId": "interruption-queue",
                "arn": names.queue_arn(queue),
            },
        )

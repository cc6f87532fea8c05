"""``darkroom destroy``: the way back, in the order in which nothing is left to nobody.

It asks reality what is there, as the bootstrap does: a run that was broken off is gone on with by running it again.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from darkroom.bootstrap import leftovers, pins, steps, teardown
from darkroom.bootstrap.credentials import DARKROOM
from darkroom.bootstrap.eks import EksCluster
from darkroom.bootstrap.gitops import Synced
from darkroom.bootstrap.iam import TAG
from darkroom.bootstrap.identities import ServiceLinkedRole
from darkroom.bootstrap.images import ImageBuilds, Repositories
from darkroom.bootstrap.plan import steps as plan
from darkroom.bootstrap.restarts import Identities
from darkroom.bootstrap.steps import Context, Removable
from darkroom.kubectl import Object
from darkroom.trouble import Trouble
from darkroom_function.apis import GROUP

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.literals import QueueAttributeNameType


class NotOurs(Trouble):
    """The EKS cluster is that of another cluster's folder, or of somebody else."""


def check_is_ours(context: Context) -> None:
    """Raises ``NotOurs`` if the EKS cluster is not this cluster's: a folder may be a copy of another's."""
    if context.eks() is None:
        return
    eks_name, name = context.cluster.eks_name, context.cluster.name
    tags = context.eks_client.describe_cluster(name=eks_name)["cluster"].get("tags", {})
    if tags.get(TAG) != name:
        raise NotOurs(
            f"the EKS cluster {eks_name} does not have the tag {TAG}: {name}, and so is not this cluster's: mend "
            f"cluster.eksName in {context.folder}/cluster.yaml"
        )


#: What is not the cluster's alone, or is history, or went with something else before.
_STAYS = (pins.Pushed, pins.Pins, ServiceLinkedRole, ImageBuilds, Identities)


def removals(context: Context, *, delete_data: bool) -> list[Removable]:
    """What is taken away, the last first: the steps of the bootstrap, with what Argo CD has brought in its place.

    ECR's repositories have data too: without ``delete_data`` they stay.
    """
    there: list[Removable] = []
    for step in plan(context):
        if isinstance(step, Synced):
            there += teardown.removals(context)
        elif not isinstance(step, _STAYS) and (delete_data or not isinstance(step, Repositories)):
            there.append(step)
        if isinstance(step, EksCluster):  # and so before the network goes
            there.append(leftovers.MountTargets(context))
    return there


def run(context: Context, *, delete_data: bool) -> None:
    """Take a cluster down; raises ``StepFailed`` at the first part that does not go."""
    steps.undo(removals(context, delete_data=delete_data), context)
    if delete_data and not context.options.dry_run:
        leftovers.delete_data(context)


def lost(context: Context) -> Iterator[str]:
    """What goes with any cluster, and cannot be kept: a line each."""
    if (k8s := context.kubernetes) is None:
        return
    for item in k8s.all(f"promptapis.{GROUP}", DARKROOM):
        yield f"the API {item.get('status', {}).get('apiUrl', '')}: its URL, and the API keys of all tenants"
    sqs = context.session.client("sqs")
    for item in k8s.all(f"modelruntimes.{GROUP}", DARKROOM):
        yield f"the runtime {item['metadata']['name']}, with {_waiting(sqs, item)} messages in its queue"


def _waiting(sqs: "SQSClient", runtime: Object) -> str:
    """How many messages there are, as far as SQS knows."""
    url = runtime.get("status", {}).get("queueUrl")
    if not url:
        return "no"
    try:
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS))["Attributes"]
    except sqs.exceptions.QueueDoesNotExist:
        return "no"
    return str(sum(int(found[name]) for name in _COUNTS))


_COUNTS: "tuple[QueueAttributeNameType, ...]" = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")

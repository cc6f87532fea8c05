"""The permissions boundaries of a cluster's roles: what no policy of theirs can go beyond. Pure.

Each actor has one of its own: what Karpenter needs is far beyond any other. No composition owns them, so that the
provider cannot move its own fence: whoever brings the cluster up applies them, under the path of the roles, and again
when the cluster's input buckets change.
"""

from darkroom_contract.cluster import Cluster
from darkroom_contract.names import Actor
from darkroom_function import node_permissions, permissions, policy


def documents(cluster: Cluster) -> dict[str, str]:
    """The boundaries' texts by the policies' names. The runtimes' is for every runtime, whatever its name."""
    names = cluster.names
    statements = {
        Actor.API: permissions.api(names),
        Actor.RUNTIME: permissions.agent(names, "*", cluster.input_buckets),
        Actor.KEDA: permissions.keda(names),
        Actor.KARPENTER: node_permissions.karpenter(names, cluster.eks_name),
        Actor.NODE: node_permissions.node(names, cluster.eks_name),
        Actor.MOUNTPOINT: permissions.mountpoint(names),
        Actor.JANITOR: permissions.janitor(names),
    }
    return {names.permissions_boundary(actor): policy.document(*allowed) for actor, allowed in statements.items()}

"""The permissions boundary of a cluster's roles: what no policy of theirs can go beyond. Pure.

No composition owns it, so that the provider cannot move its own fence: whoever brings the cluster up applies it, and
again when the cluster's input buckets change.
"""

from darkroom_contract.cluster import Cluster
from darkroom_function import permissions, policy


def document(cluster: Cluster) -> str:
    """The boundary's document: what the API and every runtime, whatever its name, may do."""
    names = cluster.names
    api, agents = permissions.api(names), permissions.agent(names, "*", cluster.input_buckets)
    # A policy's statement ids are distinct.
    return policy.document(
        *({**statement, "Sid": f"Api{statement['Sid']}"} for statement in api),
        *({**statement, "Sid": f"Agent{statement['Sid']}"} for statement in agents),
    )

"""The models on EFS: a file system, its door into the nodes' network, and who may go through. Pure.

The file system is retained, the rest is made again where it is needed. A policy on it would be of a kind of
its own; without one whoever reaches a mount target may mount it, and only the nodes reach it.
"""

from collections.abc import Iterator

from pydantic import JsonValue

from darkroom_contract.cluster import FileSystem
from darkroom_contract.names import Names
from darkroom_function.kinds import Kind
from darkroom_function.managed import Managed, Owner, keyed

FILE_SYSTEM = "models-file-system"
ACCESS_POINT = "models-access-point"

_NFS_PORT = 2049
#: Whom every file belongs to, and who everybody is that comes by the access point.
_USER = {"uid": 1000, "gid": 1000}


def compose(owner: Owner, names: Names, efs: FileSystem) -> Iterator[Managed]:
    """The file system and what is around it."""
    yield from _storage(owner, names.models_file_system, efs)
    yield from _network(owner, names.models_file_system, efs)


def _storage(owner: Owner, name: str, efs: FileSystem) -> Iterator[Managed]:
    # What AWS cannot change of a file system, one that is there already has.
    made: dict[str, JsonValue] = {"creationToken": name, "encrypted": True, "performanceMode": "generalPurpose"}
    yield owner.managed(
        Kind.FILE_SYSTEM,
        FILE_SYSTEM,
        {**({} if efs.file_system_id else made), "throughputMode": "elastic", "tags": {"Name": name}},
        external_name=efs.file_system_id,
        retained=True,
    )
    yield owner.managed(
        Kind.ACCESS_POINT,
        ACCESS_POINT,
        {
            "fileSystemIdRef": owner.reference(FILE_SYSTEM),
            "posixUser": {**_USER},
            "rootDirectory": {
                "path": "/models",
                "creationInfo": {"ownerUid": _USER["uid"], "ownerGid": _USER["gid"], "permissions": "0755"},
            },
            "tags": {"Name": name},
        },
    )


def _network(owner: Owner, name: str, efs: FileSystem) -> Iterator[Managed]:
    # AWS changes neither a security group's VPC nor a rule's security group.
    security_group, rule = (keyed(stem, efs.vpc_id) for stem in ("models-security-group", "models-nfs"))
    yield owner.managed(
        Kind.SECURITY_GROUP,
        security_group,
        {
            "name": name,
            "description": "NFS from the nodes to the models",
            "vpcId": efs.vpc_id,
            "tags": {"Name": name},
        },
    )
    yield owner.managed(
        Kind.SECURITY_GROUP_INGRESS_RULE,
        rule,
        {
            "securityGroupIdRef": owner.reference(security_group),
            "description": "NFS from the nodes",
            "referencedSecurityGroupId": efs.node_security_group_id,
            "ipProtocol": "tcp",
            "fromPort": _NFS_PORT,
            "toPort": _NFS_PORT,
        },
    )
    for subnet in efs.subnet_ids:
        yield owner.managed(
            Kind.MOUNT_TARGET,
            f"models-mount-target.{subnet}",
            {
                "fileSystemIdRef": owner.reference(FILE_SYSTEM),
                "subnetId": subnet,
                "securityGroupsRefs": [owner.reference(security_group)],
            },
        )

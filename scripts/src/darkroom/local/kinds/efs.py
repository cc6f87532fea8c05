"""EFS: file systems, and the ways to reach them."""

from __future__ import annotations

from darkroom.local.kinds.external import External, Managed, Observation, capitalised, tag_list, tag_map, uncapitalised


class _FileSystem(External):
    immutable = frozenset({"creationToken", "encrypted", "performanceMode"})

    def observe(self, it: Managed) -> Observation:
        (found,) = it.client("efs").describe_file_systems(FileSystemId=it.external_name)["FileSystems"]
        return {
            "id": it.external_name,
            "arn": found["FileSystemArn"],
            "creationToken": found["CreationToken"],
            "encrypted": found["Encrypted"],
            "performanceMode": found["PerformanceMode"],
            "throughputMode": found["ThroughputMode"],
            "tags": tag_map(found["Tags"]),
        }

    def create(self, it: Managed) -> str:
        file_system_id: str = it.client("efs").create_file_system(
            CreationToken=it.spec["creationToken"],
            Encrypted=it.spec["encrypted"],
            PerformanceMode=it.spec["performanceMode"],
            ThroughputMode=it.spec["throughputMode"],
            Tags=tag_list(it.spec.get("tags", {})),
        )["FileSystemId"]
        return file_system_id

    def update(self, it: Managed) -> None:
        efs = it.client("efs")
        if it.spec["throughputMode"] != it.observed["throughputMode"]:
            efs.update_file_system(FileSystemId=it.external_name, ThroughputMode=it.spec["throughputMode"])
        efs.tag_resource(ResourceId=it.external_name, Tags=tag_list(it.spec.get("tags", {})))

    def delete(self, it: Managed) -> None:
        it.client("efs").delete_file_system(FileSystemId=it.external_name)


class _AccessPoint(External):
    immutable = frozenset({"fileSystemId", "posixUser", "rootDirectory"})

    def observe(self, it: Managed) -> Observation:
        (found,) = it.client("efs").describe_access_points(AccessPointId=it.external_name)["AccessPoints"]
        return {
            "id": it.external_name,
            "arn": found["AccessPointArn"],
            "fileSystemId": found["FileSystemId"],
            "posixUser": uncapitalised(found["PosixUser"]),
            "rootDirectory": uncapitalised(found["RootDirectory"]),
            "tags": tag_map(found["Tags"]),
        }

    def create(self, it: Managed) -> str:
        access_point_id: str = it.client("efs").create_access_point(
            FileSystemId=it.spec["fileSystemId"],
            PosixUser=capitalised(it.spec["posixUser"]),
            RootDirectory=capitalised(it.spec["rootDirectory"]),
            Tags=tag_list(it.spec.get("tags", {})),
        )["AccessPointId"]
        return access_point_id

    def update(self, it: Managed) -> None:
        it.client("efs").tag_resource(ResourceId=it.external_name, Tags=tag_list(it.spec.get("tags", {})))

    def delete(self, it: Managed) -> None:
        it.client("efs").delete_access_point(AccessPointId=it.external_name)


class _MountTarget(External):
    immutable = frozenset({"fileSystemId", "subnetId"})

    def observe(self, it: Managed) -> Observation:
        efs, target = it.client("efs"), {"MountTargetId": it.external_name}
        (found,) = efs.describe_mount_targets(**target)["MountTargets"]
        return {
            "id": it.external_name,
            "fileSystemId": found["FileSystemId"],
            "subnetId": found["SubnetId"],
            "securityGroups": efs.describe_mount_target_security_groups(**target)["SecurityGroups"],
        }

    def create(self, it: Managed) -> str:
        mount_target_id: str = it.client("efs").create_mount_target(
            FileSystemId=it.spec["fileSystemId"],
            SubnetId=it.spec["subnetId"],
            SecurityGroups=it.spec["securityGroups"],
        )["MountTargetId"]
        return mount_target_id

    def update(self, it: Managed) -> None:
        it.client("efs").modify_mount_target_security_groups(
            MountTargetId=it.external_name, SecurityGroups=it.spec["securityGroups"]
        )

    def delete(self, it: Managed) -> None:
        it.client("efs").delete_mount_target(MountTargetId=it.external_name)


KINDS: dict[str, External] = {
    "AccessPoint": _AccessPoint(),
    "FileSystem": _FileSystem(),
    "MountTarget": _MountTarget(),
}

"""What of a cluster is in AWS beside its compute: its data, and what costs money when all else has gone.

It reads. ``delete_data`` is the one that deletes, and is for whoever was asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from darkroom.bootstrap.iam import TAG
from darkroom.bootstrap.steps import Context
from darkroom_contract.names import Bucket, image_repository_name

#: Of a larger bucket it is said that it has more: listing all of it would take too long.
_MOST_PAGES = 20


@dataclass(frozen=True)
class Leftover:
    """Something that is there."""

    what: str
    """What it is, with its name."""
    detail: str
    """How much it is."""
    remove: str
    """The command that removes it."""

    def __str__(self) -> str:
        """In two lines."""
        return f"{self.what}: {self.detail}\n    {self.remove}"


def data(context: Context) -> Iterator[Leftover]:
    """What cannot be had again: models, jobs and pictures, in buckets or on a file system."""
    s3 = context.session.client("s3")
    for name in _buckets(context, s3):
        # No command of aws empties a bucket of the versions of its objects, as that of models has them.
        is_models = name == context.names.bucket(Bucket.MODELS)
        remove = _with_all_data(context) if is_models else f"aws s3 rb --force s3://{name}"
        yield Leftover(f"Bucket {name}", _size(s3, name), remove)
    for system in _file_systems(context):
        name = system["FileSystemId"]
        size = f"{_amount(system['SizeInBytes']['Value'])} of models"
        yield Leftover(f"File system {name}", size, _with_all_data(context))


def find(context: Context) -> Iterator[Leftover]:
    """All that is left and costs money."""
    yield from data(context)
    yield from _images(context)
    yield from _in_ec2(context)
    yield from _others(context)


def delete_data(context: Context) -> None:
    """Delete the data, whatever is in it. It cannot be had again."""
    s3 = context.session.resource("s3")
    for name in _buckets(context, s3.meta.client):
        bucket = s3.Bucket(name)
        context.say(f"bucket {name}")
        bucket.object_versions.delete()
        bucket.delete()
    efs = context.session.client("efs")
    for system in _file_systems(context):
        name = system["FileSystemId"]
        context.say(f"file system {name}")
        efs.delete_file_system(FileSystemId=name)


@dataclass(frozen=True)
class MountTargets:
    """The ends of the models' file system in the cluster's network: as long as they are there, it cannot go.

    The file system stays, with its files. Crossplane leaves both to it.
    """

    context: Context
    title = "The mount targets of the models, whose files stay"

    def undo(self) -> None:
        """Take them away, and the security group that they have to themselves."""
        efs = self.context.session.client("efs")
        for system in _file_systems(self.context):
            name = system["FileSystemId"]
            for target in efs.describe_mount_targets(FileSystemId=name)["MountTargets"]:
                if target["LifeCycleState"] != "deleting":
                    efs.delete_mount_target(MountTargetId=target["MountTargetId"])
            self.context.wait("They end", partial(_has_no_mounts, efs, name))
        if network := self.context.cluster.models.efs:
            ec2 = self.context.ec2
            found = ec2.describe_security_groups(
                Filters=[
                    {"Name": "vpc-id", "Values": [network.vpc_id]},
                    {"Name": "group-name", "Values": [self.context.names.models_file_system]},
                ]
            )
            for group in found["SecurityGroups"]:
                ec2.delete_security_group(GroupId=group["GroupId"])


def _has_no_mounts(efs: Any, file_system: str) -> bool:
    return not efs.describe_mount_targets(FileSystemId=file_system)["MountTargets"]


def _buckets(context: Context, s3: Any) -> list[str]:
    """The cluster's buckets that are there."""
    there = {item["Name"] for page in s3.get_paginator("list_buckets").paginate() for item in page["Buckets"]}
    return [name for purpose in Bucket if (name := context.names.bucket(purpose)) in there]


def _size(s3: Any, bucket: str) -> str:
    objects = bytes_ = 0
    for number, page in enumerate(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)):
        if number == _MOST_PAGES:
            return f"more than {objects} objects, {_amount(bytes_)}"
        objects += page["KeyCount"]
        bytes_ += sum(item["Size"] for item in page.get("Contents", ()))
    return f"{objects} objects, {_amount(bytes_)}" if objects else "empty"


def _file_systems(context: Context) -> list[Any]:
    """The file systems of the cluster's models. One that cluster.yaml names was there before it, and is not its own."""
    found = context.session.client("efs").describe_file_systems(CreationToken=context.names.models_file_system)
    return list(found["FileSystems"])


def _images(context: Context) -> Iterator[Leftover]:
    for item in _all(context, "ecr", "describe_repositories", "repositories"):
        if (name := item["repositoryName"]).startswith(image_repository_name("")):
            remove = f"aws ecr delete-repository --force {_of(context)} --repository-name {name}"
            yield Leftover(f"ECR repository {name}", "images, for all clusters of the account and region", remove)


def _in_ec2(context: Context) -> Iterator[Leftover]:
    of = _of(context)
    for item in instances(context, f"kubernetes.io/cluster/{context.cluster.eks_name}"):
        name = item["InstanceId"]
        remove = f"aws ec2 terminate-instances {of} --instance-ids {name}"
        yield Leftover(f"EC2 instance {name}", f"{item['InstanceType']}, {item['State']['Name']}", remove)
    owned = {"Name": f"tag:kubernetes.io/cluster/{context.cluster.eks_name}", "Values": ["owned"]}
    for item in _all(context, "ec2", "describe_volumes", "Volumes", Filters=[owned]):
        name = item["VolumeId"]
        yield Leftover(f"EBS volume {name}", f"{item['Size']} GiB", f"aws ec2 delete-volume {of} --volume-id {name}")
    ours = {"Name": f"tag:{TAG}", "Values": [context.cluster.name]}
    for item in _all(context, "ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=[ours]):
        name = item["SnapshotId"]
        remove = f"aws ec2 delete-snapshot {of} --snapshot-id {name}"
        yield Leftover(f"EBS snapshot {name}", f"of a volume of {item['VolumeSize']} GiB", remove)


def _others(context: Context) -> Iterator[Leftover]:
    of, eks_name = _of(context), context.cluster.eks_name
    for prefix in (context.names.api_log_group, f"/aws/eks/{eks_name}/"):
        for item in _all(context, "logs", "describe_log_groups", "logGroups", logGroupNamePrefix=prefix):
            name = item["logGroupName"]
            remove = f"aws logs delete-log-group {of} --log-group-name {name}"
            yield Leftover(f"Log group {name}", _amount(item.get("storedBytes", 0)), remove)
    for item in _all(context, "kms", "list_aliases", "Aliases"):
        if item["AliasName"].startswith((f"alias/{eks_name}-", f"alias/eksctl-{eks_name}-")):
            remove = f"aws kms schedule-key-deletion {of} --key-id {item.get('TargetKeyId')}"
            yield Leftover(f"KMS key {item['AliasName']}", "a dollar a month", remove)
    for item in _all(context, "cloudformation", "describe_stacks", "Stacks"):
        if (name := item["StackName"]).startswith(f"eksctl-{eks_name}-"):
            remove = f"aws cloudformation delete-stack {of} --stack-name {name}"
            yield Leftover(f"Stack {name}", f"what eksctl made, {item['StackStatus']}", remove)


def instances(context: Context, *tags: str) -> Iterator[Any]:
    """The EC2 instances that have these tags, with whatever value, and are not gone."""
    states = ["pending", "running", "shutting-down", "stopping", "stopped"]
    filters = [{"Name": "instance-state-name", "Values": states}, *({"Name": "tag-key", "Values": [it]} for it in tags)]
    for reservation in _all(context, "ec2", "describe_instances", "Reservations", Filters=filters):
        yield from reservation["Instances"]


def _all(context: Context, service: Any, operation: Any, key: str, **arguments: Any) -> Iterator[Any]:
    """Everything that AWS lists, whatever the number of pages."""
    client: Any = context.session.client(service)
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page[key]


def _with_all_data(context: Context) -> str:
    return f"{context.command} --delete-data, which deletes all of this cluster's data"


def _of(context: Context) -> str:
    return f"--region {context.cluster.region}"


def _amount(size: float) -> str:
    """Bytes, in the unit that suits them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"

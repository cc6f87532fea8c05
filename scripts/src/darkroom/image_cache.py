"""An EBS snapshot with the images of a cluster's runtimes, from which its GPU nodes start: made, found, and given up.

It calls EC2, EKS and Systems Manager, and writes one line of ``cluster.yaml``. What it makes in AWS it tags with the
cluster and with what the snapshot is to have: by these tags a run goes on where one before it was killed. A run that
fails, or is interrupted, leaves nothing that costs money, or says what.

How it pulls is Bottlerocket's own way to pull an image before the kubelet (``prestart-pull-pause-ctr.conf`` of
bottlerocket-core-kit): ``host-ctr`` gets ECR's credentials by the instance's role, so that none is in a command.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from darkroom.cluster_files import CLUSTER_TAG, ClusterFiles
from darkroom.documents import Unreadable, parse, read, validate
from darkroom.trouble import Trouble, UsageError
from darkroom_contract.cluster import Location
from darkroom_contract.schemas import ClusterFile

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeDef, SnapshotTypeDef, TagTypeDef

#: What has the value is part of the snapshot of these images.
_BUILD = "darkroom.dev/image-cache"
_PULLED = "darkroom.dev/images-pulled"
#: Followed by an image's digest: the snapshot has it. EC2 takes 50 tags, of which some are used otherwise.
_IMAGE = "darkroom.dev/image/"
_MAX_IMAGES = 40
_DATA_DEVICE = "/dev/xvdb"
_POLL_SECONDS = 5
_BOOT_SECONDS = 600
_PULL_SECONDS = 3600
_STOP_SECONDS = 600
_SNAPSHOT_SECONDS = 2 * 3600
_NODE_CLASS = Path("apps/gpu-nodes/templates/ec2nodeclass.yaml")
_ALIVE = ("pending", "running", "stopping", "stopped")
_FAILED = ("Cancelled", "TimedOut", "Failed", "Cancelling", "Undeliverable", "Terminated")
_PULL = (
    "apiclient exec admin sheltie host-ctr --containerd-socket=/run/containerd/containerd.sock --namespace=k8s.io "
    "pull-image --registry-config=/etc/host-containers/host-ctr.toml "
    # As the kubelet's runtime marks what it has pulled; and not to be collected as garbage.
    "--label=io.cri-containerd.image=managed --label=io.cri-containerd.pinned=pinned --source="
)
#: For the commands; without a cluster the kubelet does not start, and is stopped so that it does not try.
_USER_DATA = "[settings.host-containers.admin]\nenabled = true\n"
_STOP_KUBELET = "apiclient exec admin sheltie systemctl stop kubelet"

Say = Callable[[str], object]
_Found = TypeVar("_Found")


class BuildFailed(Trouble):
    """The snapshot was not made; nothing is left of it, unless the message says what."""


@dataclass(frozen=True)
class Machine:
    """The instance that pulls the images."""

    instance_type: str = "m5.large"
    #: Of its data volume, in GiB. Nodes have 200, and none starts from a larger snapshot.
    volume_size: int = 100


# What is wanted


def images_of(files: ClusterFiles) -> tuple[str, ...]:
    """The images that the pods of a cluster's runtimes run; raises ``UsageError`` if one is not built yet."""
    built = dict(files.images)
    wanted = {("agent", built["agent"])}
    for runtime in files.runtimes.values():
        wanted.add((runtime.engine.value, runtime.image or built[runtime.engine.value]))
    if empty := sorted(name for name, image in wanted if not image):
        raise UsageError(f"images.yaml has no {' and no '.join(empty)} yet: the snapshot is made of what is built")
    if not files.runtimes:
        raise UsageError("the cluster has no runtimes, whose images would be in the snapshot")
    images = tuple(sorted({image for _, image in wanted}))
    if len(images) > _MAX_IMAGES:
        raise UsageError(f"{len(images)} images are too many for one snapshot, whose tags have room for {_MAX_IMAGES}")
    return images


def _digest(image: str) -> str:
    return image.rpartition("sha256:")[2]


def bottlerocket_version(root: Path) -> str:
    """The version of the nodes, from the chart that starts them."""
    found = re.search(r"alias: bottlerocket@v([0-9.]+)", (root / _NODE_CLASS).read_text())
    if not found:
        raise UsageError(f"{root / _NODE_CLASS} names no version of Bottlerocket: alias: bottlerocket@v…")
    return found[1]


# The cluster's file


def with_snapshot(path: Path, snapshot_id: str) -> str:
    """What ``cluster.yaml`` says with another snapshot, and nothing else changed; raises ``UsageError``."""
    document = read(path)
    lines = path.read_text().splitlines(keepends=True)
    place, raid0 = ("cluster", "gpuNodes", "imageSnapshotId"), ("cluster", "gpuNodes", "raid0")
    number = document.lines.get(place)
    if number is None:
        number = document.lines.get(raid0, 0) + 1
        indentation = re.match(" *", lines[number - 2])
        lines.insert(number - 1, f"{indentation[0] if indentation else ''}imageSnapshotId: {snapshot_id}\n")
    else:
        lines[number - 1] = re.sub(r"(imageSnapshotId:\s*)[^\s#]+", rf"\g<1>{snapshot_id}", lines[number - 1])
    text = "".join(lines)
    before, after = validate(document, ClusterFile)[0], None
    with suppress(Unreadable):
        after = validate(parse(path, text.encode()), ClusterFile)[0]
    if before is None or after is None or after.cluster != _changed(before, snapshot_id).cluster:
        raise UsageError(
            f"{path}: write gpuNodes with each of its fields in a line of its own, so that imageSnapshotId can be "
            "written beside raid0: false"
        )
    return text


def _changed(file: ClusterFile, snapshot_id: str) -> ClusterFile:
    nodes = file.cluster.gpu_nodes.model_copy(update={"image_snapshot_id": snapshot_id})
    return file.model_copy(update={"cluster": file.cluster.model_copy(update={"gpu_nodes": nodes})})


# AWS


class ImageCache:
    """The snapshots of one cluster, and what makes them."""

    def __init__(self, session: boto3.Session, cluster: Location, images: Sequence[str], say: Say) -> None:
        self._ec2 = session.client("ec2")
        self._ssm = session.client("ssm")
        self._eks = session.client("eks")
        self._cluster = cluster
        self._images = images
        self._say = say
        self._build = hashlib.sha256("\n".join(images).encode()).hexdigest()[:32]

    def find(self) -> str | None:
        """The id of a snapshot that has the images, if there is one."""
        found = self._snapshot()
        return found["SnapshotId"] if found and found["State"] == "completed" else None

    def others(self) -> dict[str, int]:
        """The cluster's snapshots of other images, with the GiB of their volumes; they cost by what is in them."""
        return {
            each["SnapshotId"]: each["VolumeSize"]
            for each in self._snapshots()
            if _tags(each).get(_BUILD) != self._build
        }

    def delete(self, snapshot_id: str) -> None:
        """Delete a snapshot. No node starts from it any more."""
        self._ec2.delete_snapshot(SnapshotId=snapshot_id)

    def image_id(self, bottlerocket: str) -> str:
        """The id of the machine image. Not of the NVIDIA variant, whose drivers want a GPU: nothing is run."""
        kubernetes = self._eks.describe_cluster(name=self._cluster.eks_name)["cluster"]["version"]
        parameter = f"/aws/service/bottlerocket/aws-k8s-{kubernetes}/x86_64/{bottlerocket}/image_id"
        try:
            return self._ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
        except self._ssm.exceptions.ParameterNotFound as error:
            raise BuildFailed(
                f"AWS has no Bottlerocket {bottlerocket} for Kubernetes {kubernetes} ({parameter})"
            ) from error

    def network(self) -> tuple[str, list[str]]:
        """A subnet of the nodes, and their security groups: those by which Karpenter finds them."""
        of_nodes: list[FilterTypeDef] = [{"Name": "tag:karpenter.sh/discovery", "Values": [self._cluster.eks_name]}]
        subnets = sorted(each["SubnetId"] for each in self._ec2.describe_subnets(Filters=of_nodes)["Subnets"])
        groups = self._ec2.describe_security_groups(Filters=of_nodes)["SecurityGroups"]
        if not subnets or not groups:
            raise BuildFailed(
                f"no subnet, or no security group, has the tag karpenter.sh/discovery: {self._cluster.eks_name}, by "
                "which the nodes find theirs, too"
            )
        return subnets[0], [group["GroupId"] for group in groups]

    def build(self, bottlerocket: str, machine: Machine) -> str:
        """Make the snapshot, or go on with what is there of it; its id. It takes a quarter of an hour or more.

        Raises ``BuildFailed`` or AWS's own error; whatever it raises, what it made is gone, or named.
        """
        try:
            snapshot_id = self._made(bottlerocket, machine)
        except BaseException as error:
            if left := self._clean_up(self._end_instances, self._delete_volumes, self._delete_unfinished):
                raise BuildFailed(f"{error or 'interrupted'}\n{left}") from error
            raise
        if left := self._clean_up(self._end_instances, self._delete_volumes):
            raise BuildFailed(f"{snapshot_id} is made, but: {left}")
        return snapshot_id

    def _made(self, bottlerocket: str, machine: Machine) -> str:
        snapshot = self._snapshot()
        if snapshot and snapshot["State"] == "error":
            self._ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
            snapshot = None
        if snapshot is None:
            instance_id = self._begun(_PULLED)
            if instance_id is None:
                instance_id = self._begun() or self._start(bottlerocket, machine)
                self._pull(instance_id)
            self._stop(instance_id)
            snapshot_id = self._create_snapshot(instance_id)
        else:
            snapshot_id = snapshot["SnapshotId"]
        self._wait("the snapshot", lambda: self._is_complete(snapshot_id), _SNAPSHOT_SECONDS)
        return snapshot_id

    def _begun(self, tag: str | None = None) -> str | None:
        """An instance that was started for the same images: with a tag, or that runs."""
        for instance in self._instances():
            tags = _tags(instance)
            is_ready = tag in tags if tag else instance["State"]["Name"] in ("pending", "running")
            if tags[_BUILD] == self._build and is_ready:
                return instance["InstanceId"]
        return None

    def _start(self, bottlerocket: str, machine: Machine) -> str:
        subnet, groups = self.network()
        tags = self._new_tags()
        self._say("starting an instance")
        started = self._ec2.run_instances(
            ImageId=self.image_id(bottlerocket),
            InstanceType=machine.instance_type,  # type: ignore[arg-type]
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet,
            SecurityGroupIds=groups,
            IamInstanceProfile={"Name": self._cluster.names.node_instance_profile},
            MetadataOptions={"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            InstanceInitiatedShutdownBehavior="terminate",
            BlockDeviceMappings=[
                {
                    "DeviceName": _DATA_DEVICE,
                    "Ebs": {
                        "VolumeSize": machine.volume_size,
                        "VolumeType": "gp3",
                        "Throughput": 500,
                        "Encrypted": True,
                        "DeleteOnTermination": True,
                    },
                }
            ],
            UserData=_USER_DATA,
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": tags},
                {"ResourceType": "volume", "Tags": tags},
            ],
        )
        return started["Instances"][0]["InstanceId"]

    def _pull(self, instance_id: str) -> None:
        self._wait("the instance", lambda: self._run(instance_id, _STOP_KUBELET, may_fail=True), _BOOT_SECONDS)
        for number, image in enumerate(self._images, 1):
            self._say(f"pulling {image.partition('@')[0]} ({number} of {len(self._images)})")
            self._run(instance_id, _PULL + shlex.quote(image))
        self._ec2.create_tags(Resources=[instance_id], Tags=[{"Key": _PULLED, "Value": "true"}])

    def _run(self, instance_id: str, command: str, *, may_fail: bool = False) -> bool:
        """Run a command on the instance to its end; whether it succeeded, if it may fail."""
        try:
            sent = self._ssm.send_command(
                InstanceIds=[instance_id],
                DocumentName="AWS-RunShellScript",
                Parameters={"commands": [command], "executionTimeout": [str(_PULL_SECONDS)]},
            )
        except self._ssm.exceptions.InvalidInstanceId:
            if may_fail:  # it has not come up yet
                return False
            raise
        command_id = sent["Command"]["CommandId"]
        status, said = self._wait("the command", lambda: self._ended(command_id, instance_id), _PULL_SECONDS)
        if status != "Success" and not may_fail:
            raise BuildFailed(f"on {instance_id}: {command}\nended as {status}: {said.strip()[-2000:]}")
        return status == "Success"

    def _ended(self, command_id: str, instance_id: str) -> tuple[str, str] | None:
        """How a command ended, and what it said; None while it runs."""
        try:
            found = self._ssm.get_command_invocation(CommandId=command_id, InstanceId=instance_id)
        except self._ssm.exceptions.InvocationDoesNotExist:
            return None
        is_over = found["Status"] == "Success" or found["Status"] in _FAILED
        return (found["Status"], found["StandardErrorContent"]) if is_over else None

    def _stop(self, instance_id: str) -> None:
        """Stop it, so that all is on the volume."""
        self._say("stopping the instance")
        self._ec2.stop_instances(InstanceIds=[instance_id])
        self._wait("the instance", lambda: self._instance(instance_id)["State"]["Name"] == "stopped", _STOP_SECONDS)

    def _create_snapshot(self, instance_id: str) -> str:
        devices = self._instance(instance_id)["BlockDeviceMappings"]
        volume_id = next(each["Ebs"]["VolumeId"] for each in devices if each["DeviceName"] == _DATA_DEVICE)
        has: list[TagTypeDef] = [
            {"Key": f"{_IMAGE}{_digest(image)}", "Value": image.partition("@")[0][-256:]} for image in self._images
        ]
        made = self._ec2.create_snapshot(
            VolumeId=volume_id,
            Description=f"Images of the runtimes of {self._cluster.name}",
            TagSpecifications=[{"ResourceType": "snapshot", "Tags": [*self._new_tags(), *has]}],
        )
        return made["SnapshotId"]

    def _is_complete(self, snapshot_id: str) -> bool:
        # By a filter, since EC2 refuses an id that not all of it knows yet.
        by_id: list[FilterTypeDef] = [{"Name": "snapshot-id", "Values": [snapshot_id]}]
        found = next(iter(self._ec2.describe_snapshots(Filters=by_id)["Snapshots"]), None)
        if found is None:
            return False
        if found["State"] == "error":
            raise BuildFailed(f"{snapshot_id}: {found.get('StateMessage', 'AWS could not make it')}")
        self._say(f"waiting for {snapshot_id}, {found.get('Progress') or '0%'}")
        return found["State"] == "completed"

    # What is there

    def _clean_up(self, *steps: Callable[[], None]) -> str:
        """Delete what costs money, of this build and of others; what is to be done by hand if AWS refuses."""
        errors = []
        for step in steps:
            try:
                step()
            except (BotoCoreError, ClientError) as error:
                errors.append(str(error))
        if not errors:
            return ""
        return (
            f"AWS did not let everything be deleted: {'; '.join(errors)}\nWhat is left costs money: run this again, or "
            f"delete what has the tags {_BUILD} and {CLUSTER_TAG}: {self._cluster.name} among the instances, volumes "
            f"and snapshots of EC2 in {self._cluster.region}"
        )

    def _end_instances(self) -> None:
        """End them; their volumes go with them."""
        if ids := [instance["InstanceId"] for instance in self._instances()]:
            self._ec2.terminate_instances(InstanceIds=ids)

    def _delete_volumes(self) -> None:
        unattached: FilterTypeDef = {"Name": "status", "Values": ["available"]}
        for volume in self._ec2.describe_volumes(Filters=[*self._own(), unattached])["Volumes"]:
            self._ec2.delete_volume(VolumeId=volume["VolumeId"])

    def _delete_unfinished(self) -> None:
        for snapshot in self._snapshots():
            if snapshot["State"] != "completed":
                self._ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])

    def _instances(self) -> list[InstanceTypeDef]:
        alive: FilterTypeDef = {"Name": "instance-state-name", "Values": _ALIVE}
        found = self._ec2.describe_instances(Filters=[*self._own(), alive])
        return [instance for reservation in found["Reservations"] for instance in reservation["Instances"]]

    def _instance(self, instance_id: str) -> InstanceTypeDef:
        return self._ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def _snapshots(self) -> list[SnapshotTypeDef]:
        return self._ec2.describe_snapshots(OwnerIds=["self"], Filters=self._own())["Snapshots"]

    def _snapshot(self) -> SnapshotTypeDef | None:
        """The snapshot of these images: a finished one, if there are several."""
        own = [each for each in self._snapshots() if _tags(each).get(_BUILD) == self._build]
        return min(own, key=lambda each: each["State"] != "completed", default=None)

    def _own(self) -> list[FilterTypeDef]:
        return [
            {"Name": f"tag:{CLUSTER_TAG}", "Values": [self._cluster.name]},
            {"Name": "tag-key", "Values": [_BUILD]},
        ]

    def _new_tags(self) -> list[TagTypeDef]:
        tags = {"Name": f"{self._cluster.name}-image-cache", CLUSTER_TAG: self._cluster.name, _BUILD: self._build}
        return [{"Key": key, "Value": value} for key, value in tags.items()]

    def _wait(self, what: str, look: Callable[[], _Found | None], seconds: float) -> _Found:
        """Look until there is something; raises ``BuildFailed`` if there is nothing within so many seconds."""
        end = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > end:
                raise BuildFailed(f"{what} was not ready within {seconds / 60:.0f} minutes")
            time.sleep(_POLL_SECONDS)
        return found


def _tags(resource: InstanceTypeDef | SnapshotTypeDef) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", ())}

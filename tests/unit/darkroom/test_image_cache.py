"""The snapshot with images: how it is made, and that nothing which costs money is left, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from moto.ec2.models import ec2_backends
from moto.ssm.models import Command, Parameter, ssm_backends
from typer.testing import CliRunner, Result

from darkroom import image_cache
from darkroom.cli import app
from darkroom.cluster_files import load_cluster
from darkroom.trouble import UsageError
from tests.watched import Call, Refusal, WatchedAws, start, watched_aws

if TYPE_CHECKING:
    from types_boto3_ec2 import EC2Client

ACCOUNT, REGION = "123456789012", "eu-west-1"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/darkroom"
AGENT, WEBUI, COMFYUI, OWN = (
    f"{REGISTRY}/{name}@sha256:{digit * 64}"
    for name, digit in (("agent", "a"), ("sdwebui", "b"), ("comfyui", "c"), ("own", "d"))
)
ROOT = Path(__file__).parents[3]
CLUSTER = f"""\
# What is particular about it.
cluster:
  name: studio
  account: "{ACCOUNT}"
  region: {REGION}
  eksName: studio
  gpuNodes: # all of one kind
    pools:
      - gpu: g5
    raid0: false # so that the snapshot counts
  protected: true
"""


@dataclass(frozen=True)
class World:
    """A cluster's folder, and its AWS."""

    aws: WatchedAws
    ec2: EC2Client
    folder: Path

    def build(self, *options: str) -> Result:
        return CliRunner().invoke(app, ["image-cache", "build", str(self.folder), *options], env={"COLUMNS": "200"})

    @property
    def yaml(self) -> str:
        return (self.folder / "cluster.yaml").read_text()

    @property
    def snapshots(self) -> dict[str, dict[str, str]]:
        """The tags of each."""
        found = self.ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "tag-key", "Values": ["*"]}])
        return {each["SnapshotId"]: {tag["Key"]: tag["Value"] for tag in each["Tags"]} for each in found["Snapshots"]}

    def assert_nothing_costs(self, snapshots: int) -> None:
        """There is no instance, no volume, and so many snapshots."""
        states = [i["State"]["Name"] for r in self.ec2.describe_instances()["Reservations"] for i in r["Instances"]]
        assert set(states) <= {"terminated"}
        assert not self.ec2.describe_volumes()["Volumes"]
        assert len(self.snapshots) == snapshots

    @property
    def commands(self) -> list[str]:
        """What was run on instances."""
        return [
            command
            for call in self.aws.calls
            if call.action == "SendCommand"
            for command in json.loads(call.body)["Parameters"]["commands"]
        ]


@pytest.fixture(scope="module")
def emulator() -> Iterator[WatchedAws]:
    with watched_aws() as watched, pytest.MonkeyPatch.context() as patch:
        # Hundreds of images of AWS's own, each with a snapshot, which take seconds.
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        yield watched


@pytest.fixture(scope="module")
def session() -> boto3.Session:
    """One for all: each reads the descriptions of AWS's services anew."""
    return boto3.Session("test", "test", region_name=REGION)


@pytest.fixture
def world(emulator: WatchedAws, session: boto3.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name, value in (("ENDPOINT_URL", emulator.url), ("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(image_cache, "_POLL_SECONDS", 0)
    emulator.forget()
    httpx.post(f"{emulator.url}/moto-api/reset", timeout=60).raise_for_status()
    monkeypatch.setattr(boto3, "Session", lambda **_: session)
    ec2 = session.client("ec2")
    _network(ec2)
    session.client("eks").create_cluster(
        name="studio", version="1.35", roleArn=f"arn:aws:iam::{ACCOUNT}:role/eks", resourcesVpcConfig={}
    )
    session.client("iam").create_instance_profile(InstanceProfileName="studio-node", Path="/darkroom/studio/")
    version = image_cache.bottlerocket_version(ROOT)
    _publish(f"/aws/service/bottlerocket/aws-k8s-1.35/x86_64/{version}/image_id", "ami-0123456789abcdef0")
    emulator.forget()
    return World(emulator, ec2, _folder(tmp_path))


def _network(ec2: EC2Client) -> None:
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(VpcId=vpc, GroupName="nodes", Description="nodes")["GroupId"]
    ec2.create_tags(Resources=[subnet, group], Tags=[{"Key": "karpenter.sh/discovery", "Value": "studio"}])


def _publish(name: str, value: str) -> None:
    """Let AWS have a parameter of its own, which nobody else can make."""
    make: Any = Parameter
    parameter = make(ACCOUNT, name, value, "String", None, None, None, 0, 1, None, "text", None)
    ssm_backends[ACCOUNT][REGION]._parameters[name].append(parameter)


def _folder(tmp_path: Path) -> Path:
    node_class = Path("apps/gpu-nodes/templates/ec2nodeclass.yaml")
    (tmp_path / node_class).parent.mkdir(parents=True)
    shutil.copy(ROOT / node_class, tmp_path / node_class)
    folder = tmp_path / "clusters" / "studio"
    for name, runtime in (("portraits", "engine: sdwebui"), ("video", f"engine: comfyui, image: '{OWN}'")):
        (folder / "runtimes" / name).mkdir(parents=True)
        (folder / "runtimes" / name / "runtime.yaml").write_text(f"runtime: {{{runtime}}}\n")
    (folder / "cluster.yaml").write_text(CLUSTER)
    (folder / "images.yaml").write_text(
        f"images: {{agent: '{AGENT}', sdwebui: '{WEBUI}', comfyui: '{COMFYUI}', api: '', function: ''}}\n"
    )
    return folder


def test_the_snapshot_has_the_images_of_the_runtimes_and_is_written_down(world: World) -> None:
    result = world.build()
    assert result.exit_code == 0, result.output
    [(snapshot_id, tags)] = world.snapshots.items()
    assert tags["darkroom.dev/cluster"] == "studio"
    assert {key for key in tags if "/image/" in key} == {f"darkroom.dev/image/{digit * 64}" for digit in "abd"}
    assert world.yaml == CLUSTER.replace("snapshot counts\n", f"snapshot counts\n    imageSnapshotId: {snapshot_id}\n")
    world.assert_nothing_costs(snapshots=1)


def test_images_are_pulled_as_bottlerocket_pulls_its_own_without_a_secret_in_the_command(world: World) -> None:
    world.build()
    first, *pulls = world.commands
    assert first == "apiclient exec admin sheltie systemctl stop kubelet"
    assert [command.rpartition("--source=")[2] for command in pulls] == [AGENT, OWN, WEBUI]
    assert pulls[0].startswith(
        "apiclient exec admin sheltie host-ctr --containerd-socket=/run/containerd/containerd.sock "
        "--namespace=k8s.io pull-image --registry-config=/etc/host-containers/host-ctr.toml "
        "--label=io.cri-containerd.image=managed --label=io.cri-containerd.pinned=pinned --source="
    )


def test_the_instance_is_one_as_the_nodes_are_and_private(world: World) -> None:
    world.build()
    [call] = [call for call in world.aws.calls if call.action == "RunInstances"]
    asked = dict(httpx.QueryParams(call.body.decode()))
    assert asked["ImageId"] == "ami-0123456789abcdef0"
    assert asked["IamInstanceProfile.Name"] == "studio-node"
    assert asked["MetadataOptions.HttpTokens"] == "required"
    assert asked["BlockDeviceMapping.1.DeviceName"] == "/dev/xvdb"
    assert asked["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    assert asked["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
    [subnet] = world.ec2.describe_subnets(Filters=[{"Name": "tag-key", "Values": ["karpenter.sh/discovery"]}])[
        "Subnets"
    ]
    assert asked["SubnetId"] == subnet["SubnetId"]
    assert "InstanceMarketOptions.MarketType" not in asked


READS = ("GetCallerIdentity", "DescribeSnapshots", "DescribeInstances", "DescribeVolumes")


def test_a_second_run_changes_nothing(world: World) -> None:
    world.build()
    before = world.yaml
    world.aws.forget()
    result = world.build()
    assert result.exit_code == 0, result.output
    assert world.yaml == before
    assert {call.action for call in world.aws.calls} <= set(READS)


def test_a_dry_run_changes_nothing(world: World) -> None:
    result = world.build("--dry-run")
    assert result.exit_code == 0, result.output
    assert "ami-0123456789abcdef0" in result.output
    assert OWN in result.output
    world.assert_nothing_costs(snapshots=0)
    assert world.yaml == CLUSTER
    assert {call.action for call in world.aws.calls} <= {
        *READS,
        "DescribeSubnets",
        "DescribeSecurityGroups",
        "GetParameter",
        "GET",
    }


#: All calls of a build, as ``test_a_build_makes_these_calls`` has them.
_CALLS = (
    *("GetCallerIdentity", "DescribeSnapshots", "DescribeInstances", "DescribeInstances"),
    *("DescribeSubnets", "DescribeSecurityGroups", "GET", "GetParameter", "RunInstances"),
    *("SendCommand", "GetCommandInvocation") * 4,
    *("CreateTags", "StopInstances", "DescribeInstances", "DescribeInstances", "CreateSnapshot", "DescribeSnapshots"),
    *("DescribeInstances", "TerminateInstances", "DescribeVolumes", "DescribeSnapshots"),
)


#: Those that change something.
_STEPS = [number for number, action in enumerate(_CALLS, 1) if not action.upper().startswith(("GET", "DESCRIBE"))]


def test_a_build_makes_these_calls(world: World) -> None:
    world.build()
    assert tuple(call.action for call in world.aws.calls) == _CALLS


@pytest.mark.parametrize("number", _STEPS)
def test_a_build_that_is_killed_after_any_step_goes_on_and_leaves_nothing(
    world: World, tmp_path: Path, number: int
) -> None:
    def kill(_call: Call, at: int) -> None:
        if at == number:
            os.kill(process.pid or 0, signal.SIGKILL)

    world.aws.after = kill
    process = start(["image-cache", "build", str(world.folder)], world.aws.url, tmp_path / "log")
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "log").read_text()
    done = [call.action for call in world.aws.calls]
    world.aws.forget()

    result = world.build()

    assert result.exit_code == 0, result.output
    again = [call.action for call in world.aws.calls]
    for once in ("RunInstances", "CreateSnapshot"):
        assert (done + again).count(once) == 1
    if "CreateTags" in done:
        assert "SendCommand" not in again
    world.assert_nothing_costs(snapshots=1)
    assert f"imageSnapshotId: {next(iter(world.snapshots))}\n" in world.yaml


@pytest.mark.parametrize("number", range(1, len(_CALLS) + 1))
def test_whatever_aws_refuses_nothing_is_left(world: World, number: int) -> None:
    world.aws.before = lambda _call, at: Refusal() if at == number else None
    result = world.build()
    assert result.exit_code == 1
    assert "refused" in result.output or "AWS did not let everything be deleted" in result.output
    world.aws.forget()
    is_made = number > _CALLS.index("CreateSnapshot") + 1
    if is_made:  # what could not be deleted is said, and deleted the next time
        assert world.build().exit_code == 0
    world.assert_nothing_costs(snapshots=1 if is_made else 0)


def _snapshots() -> list[Any]:
    """Those that are not AWS's own."""
    return [each for each in ec2_backends[ACCOUNT][REGION].snapshots.values() if each.from_ami is None]


def test_a_snapshot_that_is_not_finished_is_not_left_either(world: World) -> None:
    def refuse(call: Call, _at: int) -> Refusal | None:
        if call.action != "DescribeSnapshots" or not _snapshots():
            return None
        _snapshots()[0].status = "pending"
        world.aws.before = lambda _call, _at: None
        return Refusal()

    world.aws.before = refuse
    result = world.build()
    assert result.exit_code == 1
    assert "refused" in result.output
    world.assert_nothing_costs(snapshots=0)


def test_what_cannot_be_deleted_is_said(world: World) -> None:
    world.aws.before = lambda call, _at: Refusal() if call.action in ("StopInstances", "TerminateInstances") else None
    result = world.build()
    assert result.exit_code == 1
    assert (
        "What is left costs money: run this again, or delete what has the tags darkroom.dev/image-cache"
        in result.output
    )
    world.aws.forget()
    assert world.build().exit_code == 0
    world.assert_nothing_costs(snapshots=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_interrupts_it_pays_no_more(world: World, tmp_path: Path, number: signal.Signals) -> None:
    def interrupt(call: Call, _at: int) -> None:
        if call.action == "SendCommand":
            world.aws.after = lambda _call, _at: None
            os.kill(process.pid or 0, number)

    world.aws.after = interrupt
    process = start(["image-cache", "build", str(world.folder)], world.aws.url, tmp_path / "log")
    process.join(60)
    assert process.exitcode not in (0, None)
    world.assert_nothing_costs(snapshots=0)
    assert world.yaml == CLUSTER


def test_it_waits_for_the_instance_the_commands_and_the_snapshot(world: World) -> None:
    """As AWS is: an instance takes commands when it is up, a command runs for a while, and so does a snapshot.

    And what was made just now is not known everywhere.
    """
    seen: list[str] = []
    known = ec2_backends[ACCOUNT][REGION].snapshots
    unknown: dict[str, Any] = {}

    def slow(call: Call, _at: int) -> Refusal | None:
        seen.append(call.action)
        if call.action == "SendCommand" and seen.count("SendCommand") < 3:
            return Refusal("InvalidInstanceId", 400)
        if call.action == "GetCommandInvocation" and seen.count("GetCommandInvocation") == 1:
            return Refusal("InvocationDoesNotExist", 400)
        if seen.count("CreateSnapshot") and call.action == "DescribeSnapshots":
            if not unknown:
                unknown.update({snapshot.id: known.pop(snapshot.id) for snapshot in _snapshots()})
                return None
            known.update(unknown)
            [snapshot] = _snapshots()
            snapshot.status = "pending" if seen.count("DescribeSnapshots") < 5 else "completed"
        return None

    world.aws.before = slow
    result = world.build()
    assert result.exit_code == 0, result.output
    assert seen.count("SendCommand") == 2 + 4
    assert seen.count("GetCommandInvocation") == 1 + 4
    world.assert_nothing_costs(snapshots=1)


def test_an_image_that_cannot_be_pulled_is_said_and_nothing_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Command.get_invocation

    def failed(self: Command, instance_id: str, plugin: str | None) -> dict[str, object]:
        has_failed = "pull-image" in str(self.parameters)
        broken = {"Status": "Failed", "StandardErrorContent": "no such image"} if has_failed else {}
        return {**answer(self, instance_id, plugin), **broken}

    monkeypatch.setattr(Command, "get_invocation", failed)
    result = world.build()
    assert result.exit_code == 1
    assert "no such image" in result.output
    world.assert_nothing_costs(snapshots=0)


def test_new_images_take_another_snapshot_and_the_old_one_goes_when_nothing_names_it(world: World) -> None:
    world.build()
    [old] = world.snapshots
    images = world.folder / "images.yaml"
    images.write_text(images.read_text().replace("b" * 64, "e" * 64))
    result = world.build("--delete-old")
    assert f"{old}, of 100 GiB: nodes start from it until cluster.yaml is pushed" in result.output
    [new] = set(world.snapshots) - {old}
    assert f"imageSnapshotId: {new}\n" in world.yaml
    assert f"{old}, of 100 GiB: --delete-old deletes it" in world.build().output
    assert set(world.snapshots) == {old, new}
    world.build("--delete-old")
    assert set(world.snapshots) == {new}


def test_what_another_cluster_makes_is_left_alone(world: World) -> None:
    others: Any = [{"Key": "darkroom.dev/cluster", "Value": "other"}, {"Key": "darkroom.dev/image-cache", "Value": "x"}]
    world.ec2.run_instances(
        ImageId="ami-0123456789abcdef0",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": others}],
    )
    assert world.build("--delete-old").exit_code == 0
    instances = [i for r in world.ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    assert sorted(i["State"]["Name"] for i in instances) == ["running", "terminated"]


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("cluster.yaml", "raid0: false", "raid0: true", "raid0: false"),
        ("images.yaml", AGENT, "", "no agent yet"),
        (
            "cluster.yaml",
            CLUSTER[CLUSTER.index("  gpuNodes") : CLUSTER.index("  protected")],
            "  gpuNodes: {raid0: false}\n",
            "in a line of its own",
        ),
    ],
)
def test_what_could_not_be_used_is_refused_before_anything_is_asked(
    world: World, file: str, old: str, new: str, words: str
) -> None:
    path = world.folder / file
    path.write_text(path.read_text().replace(old, new))
    result = world.build()
    assert result.exit_code == 1
    assert words in result.output
    assert not world.aws.calls


def test_a_version_that_aws_does_not_have_is_said(world: World) -> None:
    node_class = world.folder.parents[1] / "apps/gpu-nodes/templates/ec2nodeclass.yaml"
    node_class.write_text("alias: bottlerocket@v0.0.1\n")
    result = world.build()
    assert "AWS has no Bottlerocket 0.0.1 for Kubernetes 1.35" in result.output
    world.assert_nothing_costs(snapshots=0)


@pytest.mark.parametrize(
    "line", ["imageSnapshotId: snap-0aaaaaaaaaaaaaaaa # the first", 'imageSnapshotId: "snap-0aaaaaaaaaaaaaaaa"']
)
def test_the_id_that_was_there_is_replaced_and_nothing_else(tmp_path: Path, line: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(CLUSTER.replace("    raid0", f"    {line}\n    raid0"))
    text = image_cache.with_snapshot(path, "snap-0bbbbbbbbbbbbbbbb")
    assert text.replace("snap-0bbbbbbbbbbbbbbbb", "snap-0aaaaaaaaaaaaaaaa").replace(
        '"snap-0aaaaaaaaaaaaaaaa"', "snap-0aaaaaaaaaaaaaaaa"
    ) == path.read_text().replace('"snap-0aaaaaaaaaaaaaaaa"', "snap-0aaaaaaaaaaaaaaaa")
    assert "snap-0bbbbbbbbbbbbbbbb" in text


def test_too_many_images_for_the_tags_of_a_snapshot_are_refused(world: World) -> None:
    for number in range(40):
        folder = world.folder / "runtimes" / f"r{number}"
        folder.mkdir()
        (folder / "runtime.yaml").write_text(
            f"runtime: {{engine: comfyui, image: '{REGISTRY}/r@sha256:{number:064d}'}}\n"
        )
    with pytest.raises(UsageError, match="too many for one snapshot"):
        image_cache.images_of(load_cluster(world.folder))

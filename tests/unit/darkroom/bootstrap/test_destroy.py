"""What ``darkroom destroy`` asks, in which order it goes, and what it finds at its end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from typer.testing import CliRunner

from darkroom.bootstrap import destroy, leftovers, teardown
from darkroom.bootstrap.steps import Options, StepFailed
from darkroom.cli import app
from darkroom_contract.names import Bucket
from tests.programs import Account, Programs
from tests.unit.darkroom.bootstrap.fork import Fork, write_fork
from tests.unit.darkroom.bootstrap.objects import Objects


def test_who_is_not_asked_has_to_say_what_becomes_of_the_data(fork: Fork, aws: Account) -> None:
    result = CliRunner().invoke(app, ["destroy", "--yes", str(fork.folder)])
    assert result.exit_code == 1
    assert "--keep-data, or --delete-data" in result.output
    assert not aws.changes


def test_another_name_than_the_clusters_changes_nothing(fork: Fork, aws: Account) -> None:
    result = CliRunner().invoke(app, ["destroy", str(fork.folder)], input="theirs\n")
    assert result.exit_code == 1
    assert "nothing was changed" in result.output
    assert not aws.changes


def test_the_eks_cluster_of_another_folder_is_not_touched(fork: Fork, aws: Account, programs: Programs) -> None:
    """A folder that was copied, and still names the EKS cluster of the first."""
    other = Fork(write_fork(fork.folder.parents[1], "theirs"))
    other.run()
    file = fork.folder / "cluster.yaml"
    file.write_text(file.read_text().replace("ours-eks", "theirs-eks"))
    aws.changes.clear()
    programs.forget()
    result = CliRunner().invoke(app, ["destroy", "--yes", "--delete-data", str(fork.folder)])
    assert result.exit_code == 1
    assert "theirs-eks" in result.output
    assert not aws.changes
    assert not programs.calls()


RUNTIME = {
    "kind": "ModelRuntime",
    "metadata": {"name": "sdxl", "namespace": "darkroom", "generation": 1},
    "spec": {"protected": True},
}


def test_a_runtime_that_never_got_its_queue_is_in_nobodys_way(fork: Fork) -> None:
    context = fork.context()
    vars(context)["_kubectl"] = Objects(modelruntimes=[RUNTIME])
    assert [*destroy.lost(context)] == ["the runtime sdxl, with no messages in its queue"]


def test_a_composite_goes_when_all_that_it_made_has_gone(fork: Fork) -> None:
    """By Kubernetes' own default it would go first, and the roles that its resources need soon after."""
    context = fork.context()
    vars(context)["_kubectl"] = there = Emptied(promptapis=[RUNTIME])
    next(part for part in teardown.removals(context) if part.title.startswith("The API")).undo()
    (deleted,) = (command for command in there.commands if command[0] == "delete")
    assert {"--cascade=foreground", "--wait=false"} <= {*deleted}


def test_what_a_composite_left_behind_is_waited_for_and_what_nobody_made_is_said(fork: Fork) -> None:
    context = fork.context(Options(poll_seconds=0.01, wait_seconds=0.1))
    owned = {"kind": "Queue", "metadata": {"name": "q", "namespace": "darkroom", "ownerReferences": [{}]}}
    alone = {"kind": "Queue", "metadata": {"name": "alone", "namespace": "darkroom"}}
    rest = next(part for part in teardown.removals(context) if part.title.startswith("What is left"))
    vars(context)["_kubectl"] = Objects(managed=[owned])
    with pytest.raises(StepFailed, match="Managed end: still not so"):
        rest.undo()
    vars(context)["_kubectl"] = Objects(managed=[owned, alone])
    with pytest.raises(StepFailed, match=r"belong to nobody: alone$"):
        rest.undo()


class Emptied(Objects):
    """Of whose objects nothing is left once they are deleted."""

    def run(self, *arguments: str, text: str | None = None) -> str:
        if arguments[0] == "delete":
            self.items.pop(arguments[1].partition(".")[0], None)
        return super().run(*arguments, text=text)


def test_nothing_is_taken_away_before_what_depends_on_it(fork: Fork) -> None:
    last_first = [each.title for each in destroy.removals(fork.context(), delete_data=True)]
    order = [next(title for title in last_first if part in title) for part in _IN_ORDER]
    assert sorted(order, key=last_first.index, reverse=True) == order


_IN_ORDER = (
    "Webhooks",
    "Argo CD's hold",
    "The runtimes",
    "The API",
    "The nodes that Karpenter",
    "The identities of the add-ons",
    "The root Application",
    "Namespaces",
    "The S3 gateway endpoint",
    "The EKS cluster",
    "ECR repositories",
    "permissions boundaries",
)


@pytest.mark.parametrize("delete_data", [False, True])
def test_images_stay_unless_data_goes(fork: Fork, delete_data: bool) -> None:
    titles = [each.title for each in destroy.removals(fork.context(), delete_data=delete_data)]
    assert any("ECR" in title for title in titles) == delete_data


def test_what_stays_is_not_said_to_go(fork: Fork) -> None:
    titles = [each.title for each in destroy.removals(fork.context(), delete_data=True)]
    for part in ("Spot's service-linked role", "The cluster's files", "The images' digests", "The build of the images"):
        assert not any(title.startswith(part) for title in titles)


def test_what_is_left_is_listed_with_how_much_it_is_and_how_to_remove_it(fork: Fork, aws: Account) -> None:
    context = replace(fork.context(), action="destroy")
    bucket, models = (context.names.bucket(it) for it in (Bucket.OUTPUTS, Bucket.MODELS))
    for name in (bucket, models):
        aws.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    aws.client("s3").put_object(Bucket=bucket, Key="picture.png", Body=b"p" * 2048)
    aws.client("ecr").create_repository(repositoryName="darkroom/agent")
    aws.client("logs").create_log_group(logGroupName="/aws/eks/ours-eks/cluster")
    tag = {"Key": "kubernetes.io/cluster/ours-eks", "Value": "owned"}
    volume = aws.client("ec2").create_volume(
        AvailabilityZone="eu-west-1a",
        Size=20,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [tag]}],
    )["VolumeId"]
    aws.client("ec2").create_volume(AvailabilityZone="eu-west-1a", Size=1)  # somebody else's
    found = {each.what: (each.detail, each.remove) for each in leftovers.find(context)}
    assert found == {
        f"Bucket {bucket}": ("1 objects, 2.0 KiB", f"aws s3 rb --force s3://{bucket}"),
        f"Bucket {models}": (
            "empty",
            f"darkroom destroy {fork.folder} --delete-data, which deletes all of this cluster's data",
        ),
        "ECR repository darkroom/agent": (
            "images, for all clusters of the account and region",
            "aws ecr delete-repository --force --region eu-west-1 --repository-name darkroom/agent",
        ),
        f"EBS volume {volume}": ("20 GiB", f"aws ec2 delete-volume --region eu-west-1 --volume-id {volume}"),
        "Log group /aws/eks/ours-eks/cluster": (
            "0 bytes",
            "aws logs delete-log-group --region eu-west-1 --log-group-name /aws/eks/ours-eks/cluster",
        ),
    }


def test_data_is_deleted_with_all_its_versions_when_that_was_said(fork: Fork, aws: Account) -> None:
    context, s3 = fork.context(), aws.client("s3")
    for purpose in Bucket:
        name = context.names.bucket(purpose)
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        for content in (b"first", b"second"):
            s3.put_object(Bucket=name, Key="file", Body=content)
    s3.create_bucket(Bucket="theirs", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    system = aws.client("efs").create_file_system(CreationToken=context.names.models_file_system)["FileSystemId"]
    assert any(system in each.what for each in leftovers.data(context))
    leftovers.delete_data(context)
    leftovers.delete_data(context)
    assert [it["Name"] for it in s3.list_buckets()["Buckets"]] == ["theirs"]
    assert not list(leftovers.find(context))


def test_the_ends_of_the_models_file_system_go_before_the_network_and_its_files_stay(fork: Fork, aws: Account) -> None:
    ec2, efs = aws.client("ec2"), aws.client("efs")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="ours-models", Description="NFS", VpcId=vpc)["GroupId"]
    nodes = ec2.create_security_group(GroupName="nodes", Description="nodes", VpcId=vpc)["GroupId"]
    system = efs.create_file_system(CreationToken="ours-models")["FileSystemId"]
    efs.create_mount_target(FileSystemId=system, SubnetId=subnet, SecurityGroups=[group])
    file = yaml.safe_load((fork.folder / "cluster.yaml").read_text())
    network = {"vpcId": vpc, "subnetIds": [subnet], "nodeSecurityGroupId": nodes}
    file["cluster"]["models"] = {"efs": network}
    (fork.folder / "cluster.yaml").write_text(yaml.safe_dump(file))
    context = fork.context()
    order = [type(it).__name__ for it in destroy.removals(context, delete_data=False)]
    assert order.index("MountTargets") > order.index("EksCluster")  # the last first
    for _ in range(2):
        leftovers.MountTargets(context).undo()
    assert not efs.describe_mount_targets(FileSystemId=system)["MountTargets"]
    assert efs.describe_file_systems()["FileSystems"]
    left = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["SecurityGroups"]
    assert {it["GroupName"] for it in left} == {"default", "nodes"}

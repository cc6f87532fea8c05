"""What is in the way is said before anything is made, all of it at once, each with its remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from darkroom import programs as real_programs
from darkroom.bootstrap import preflight
from darkroom.bootstrap.preflight import Finding
from darkroom.cli import app
from darkroom.cluster_files import load_cluster
from tests.programs import Account, Programs
from tests.unit.darkroom.bootstrap.fork import REGION, REPOSITORY, ROOT, Fork, write_fork

TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.fixture
def fork(fork: Fork, tmp_path: Path) -> Fork:
    """Committed and pushed: its origin is what GitHub has."""
    root, origin = fork.folder.parents[1], tmp_path / "origin.git"
    git = ("git", "-C", str(root))
    real_programs.run("git", "init", "--quiet", "--bare", str(origin))
    for command in (
        ("config", "user.name", "Tester"),
        ("config", "user.email", "tester@example.com"),
        ("config", f"url.{origin}.insteadOf", REPOSITORY),
        ("remote", "add", "origin", REPOSITORY),
        ("add", "--all"),
        ("commit", "--quiet", "--message", "A cluster"),
        ("push", "--quiet", "origin", "HEAD:main"),
    ):
        real_programs.run(*git, *command)
    return fork


def findings(fork: Fork) -> list[Finding]:
    return preflight.findings(fork.context())


def words(fork: Fork) -> list[str]:
    return [finding.words for finding in findings(fork)]


def described(fork: Fork, **changed: object) -> None:
    file = fork.folder / "cluster.yaml"
    cluster = yaml.safe_load(file.read_text())["cluster"] | changed
    file.write_text(yaml.safe_dump({"cluster": cluster}))
    eksctl = fork.folder / "eksctl.yaml"
    eksctl.write_text(eksctl.read_text().replace(f"region: {REGION}", f"region: {cluster['region']}"))


def test_nothing_is_in_the_way_of_a_fork_that_is_pushed_and_it_changes_nothing(fork: Fork, aws: Account) -> None:
    assert findings(fork) == []
    assert aws.changes == []


def test_nothing_is_in_the_way_of_a_cluster_that_is_there(fork: Fork) -> None:
    fork.run()
    assert findings(fork) == []


def test_everything_is_said_at_once(fork: Fork, aws: Account, programs: Programs) -> None:
    programs.answer("eksctl version", "0.150.0\n")
    aws.quotas["L-3819A6DF"] = 8
    (fork.folder / "notes.txt").write_text("x")
    found = findings(fork)
    assert [each.is_error for each in found] == [True, True, False]
    assert all(each.remedy for each in found)


# Here


@pytest.mark.parametrize(
    ("question", "answer", "said"),
    [
        ("eksctl version", "0.201.0\n", "eksctl 0.201 is older than 0.202"),
        ("eksctl version", "0.210.0-dev+a1b2c3d.2025-06-01T10:00:00Z\n", None),
        ("aws --version", "aws-cli/1.42.1 Python/3.12.3 Linux/6.8.0 botocore/1.40.1\n", "aws 1.42 is older than 2.13"),
        (
            "kubectl version",
            '{"clientVersion": {"major": "1", "minor": "30", "gitVersion": "v1.30.2"}}',
            "kubectl 1.30",
        ),
        ("helm version", "v3.19.2", None),
        ("helm version", "v2.17.0", "helm 2.17 is older than 3.18"),
        ("git --version", "git version 2.39.5 (Apple Git-154)\n", None),
        ("gh --version", "gh version 2.4.0 (2021-12-21)\nhttps://github.com/cli/cli\n", "gh 2.4 is older than 2.40"),
        ("cosign version", '{"gitVersion":"v2.6.1","gitCommit":"a"}', "cosign 2.6 is older than 3.0"),
        ("cosign version", "devel", "says no version: devel"),
    ],
)
def test_tools_are_known_by_their_versions(
    question: str, answer: str, said: str | None, fork: Fork, programs: Programs
) -> None:
    if question.startswith("git"):
        (programs.folder / "git").write_text(f"#!/bin/sh\necho '{answer.strip()}'\n")
        (programs.folder / "git").chmod(0o755)
    programs.answer(question, answer)
    found = [each.words for each in preflight.tools(fork.context())]
    assert (found == []) if said is None else any(said in each for each in found)


def test_a_tool_that_is_not_installed_is_named_with_where_it_is_from(fork: Fork, programs: Programs) -> None:
    (programs.folder / "eksctl").unlink()
    (finding,) = preflight.tools(fork.context())
    assert finding.words == "eksctl is not installed, or not on the PATH"
    assert finding.remedy == "install eksctl 0.202 or newer: https://eksctl.io/installation/"


def test_what_is_not_committed_or_not_pushed_argo_cd_would_not_see(fork: Fork) -> None:
    described(fork, tenants=[{"name": "default"}, {"name": "more"}])
    assert words(fork) == ["1 files are not committed: clusters/ours/cluster.yaml"]
    real_programs.run("git", "-C", str(fork.folder), "commit", "--quiet", "--all", "--message", "A tenant")
    (finding,) = findings(fork)
    assert finding.words.startswith("main of origin is something else")
    assert finding.remedy.startswith("git push origin HEAD:main")


def test_a_profile_that_is_not_there_is_said_beside_all_else(
    fork: Fork, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.fail("gh auth status")
    monkeypatch.setenv("AWS_PROFILE", "none")
    logged_in, profile = findings(fork)
    assert logged_in.words == "gh is not logged in"
    assert "profile (none) could not be found" in profile.remedy


def test_the_example_is_there_to_be_copied(tmp_path: Path) -> None:
    folder = write_fork(tmp_path, "example")
    found = preflight.findings(Fork(folder).context())
    assert any(each.is_error and each.words == f"{folder} is the cluster to copy" for each in found)


def test_another_repository_than_the_cluster_follows_is_said_however_it_is_cloned(fork: Fork) -> None:
    git = ("git", "-C", str(fork.folder), "remote", "set-url", "origin")
    real_programs.run(*git, "git@github.com:acme/darkroom")
    assert not any("origin is" in each for each in words(fork))
    real_programs.run(*git, "git@github.com:upstream/darkroom.git")
    found = [each for each in words(fork) if each.startswith("origin is")]
    assert found == [f"origin is git@github.com:upstream/darkroom.git, and the cluster follows {REPOSITORY}"]


def test_who_is_not_logged_in_at_github_cannot_start_a_build(fork: Fork, programs: Programs) -> None:
    programs.fail("gh auth status")
    assert findings(fork) == [Finding("gh is not logged in", "gh auth login")]


def test_a_repository_that_is_not_on_github_has_its_images_from_elsewhere(fork: Fork, programs: Programs) -> None:
    described(fork, gitops={"repository": "https://gitlab.com/acme/darkroom.git"})
    (programs.folder / "gh").unlink()
    assert any(not each.is_error and "is not on GitHub" in each.words for each in findings(fork))
    assert not any(each.words.startswith("gh ") for each in findings(fork))


# In AWS


def test_nothing_is_asked_of_another_account(fork: Fork, aws: Account) -> None:
    described(fork, account="210987654321")
    (finding,) = [each for each in findings(fork) if "asked of AWS" in each.words]
    assert "these credentials are for account 123456789012" in finding.remedy


def test_a_region_that_is_not_enabled_or_does_not_have_the_gpus_is_said(fork: Fork) -> None:
    described(fork, region="eu-central-2")
    assert "the region eu-central-2 is not enabled in this account" in words(fork)
    assert any(each.startswith("eu-central-2 has no instances of g5: g5.xlarge") for each in words(fork))


def test_processors_are_counted_by_quota_and_by_how_they_are_bought(fork: Fork) -> None:
    assert preflight.needed_processors(fork.context()) == {"L-3819A6DF": 16, "L-DB2E81BA": 16, "L-7212CCBC": 96}
    pools = [{"gpu": "p4d", "maxGpus": 8, "capacity": "on-demand"}, {"gpu": "p5", "maxGpus": 2}]
    described(fork, gpuNodes={"pools": pools})
    assert preflight.needed_processors(fork.context()) == {"L-417A185B": 96 + 32, "L-C4BD4855": 32}


def test_a_quota_that_nobody_ever_changed_is_awss_default(fork: Fork, aws: Account) -> None:
    aws.quotas_are_defaults = True
    assert findings(fork) == []
    aws.quotas = {"L-DB2E81BA": 0}
    assert [each.is_error for each in findings(fork)] == [False]


def test_a_quota_that_is_too_small_is_said_with_the_command_that_asks_for_more(fork: Fork, aws: Account) -> None:
    aws.quotas = {"L-DB2E81BA": 0, "L-1216C47A": 5}
    gpus, nodes = findings(fork)
    assert not gpus.is_error
    assert "--service-code ec2 --quota-code L-DB2E81BA --desired-value 16" in gpus.remedy
    assert nodes.is_error
    assert "is 5 processors, and the cluster may come to 8" in nodes.words


def test_a_vpc_and_an_address_too_many_are_said_only_before_there_is_a_cluster(fork: Fork, aws: Account) -> None:
    aws.quotas["L-0263D0A3"] = 0
    assert words(fork) == ["0 of 0 Elastic IP addresses are in use, and the cluster needs one more"]
    fork.run()
    assert words(fork) == []


@pytest.mark.parametrize(
    ("take", "said"),
    [
        (
            lambda aws: aws.client("iam").create_role(RoleName="ours-keda", AssumeRolePolicyDocument=TRUST),
            "role/ours-keda is not the cluster's",
        ),
        (
            lambda aws: aws.client("iam").create_role(RoleName="ours-github", AssumeRolePolicyDocument=TRUST),
            "role/ours-github is not the cluster's",
        ),
        (
            lambda aws: aws.client("ecr").create_repository(repositoryName="darkroom/api"),
            "the ECR repository darkroom/api is there, and was not made for Darkroom",
        ),
        (
            lambda aws: aws.client("eks").create_cluster(
                name="ours-eks", roleArn="arn:aws:iam::123456789012:role/eks", resourcesVpcConfig={"subnetIds": []}
            ),
            "the EKS cluster ours-eks is there, and was not made for this cluster",
        ),
    ],
)
def test_what_has_the_name_of_something_that_is_to_be_is_said(
    take: Callable[[Account], object], said: str, fork: Fork, aws: Account
) -> None:
    take(aws)
    found = [each for each in findings(fork) if said in each.words]
    assert len(found) == 1
    assert found[0].is_error


def test_without_a_file_to_make_the_cluster_by_there_is_no_way_on(fork: Fork) -> None:
    (fork.folder / "eksctl.yaml").unlink()
    assert any("clusters/ours/eksctl.yaml to make the EKS cluster by" in each for each in words(fork))


# The command


def test_the_command_makes_nothing_while_something_is_in_the_way(fork: Fork, aws: Account, programs: Programs) -> None:
    programs.fail("gh auth status")
    done = CliRunner().invoke(app, ["bootstrap", str(fork.folder)])
    assert done.exit_code == 1
    assert "in the way gh is not logged in" in done.output
    assert aws.changes == []


def test_the_command_ends_with_what_a_person_has_to_do_and_the_next_command(fork: Fork, aws: Account) -> None:
    template = json.dumps({"Resources": {"T": {"Type": "AWS::SNS::Topic"}}})
    aws.client("cloudformation").create_stack(StackName="eksctl-ours-eks-cluster", TemplateBody=template)
    done = CliRunner().invoke(app, ["bootstrap", str(fork.folder)])
    assert done.exit_code == 3, done.output
    assert "your turn an earlier attempt left the CloudFormation stack" in done.output
    assert done.output.rstrip().endswith(f"darkroom bootstrap {fork.folder}")


def test_the_boundaries_can_be_read_without_an_account() -> None:
    folder = ROOT / "clusters" / "local"
    done = CliRunner().invoke(app, ["boundaries", str(folder)])
    names = load_cluster(folder).cluster.names
    documents = json.loads(done.output)
    assert names.own_policy_arn(names.provider_boundary) in documents
    assert len(documents) == 8

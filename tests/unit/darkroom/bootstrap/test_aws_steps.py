"""The steps in AWS: what they make, that they make it once, and that whatever stops them, the next run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom.bootstrap import identities
from darkroom.bootstrap.images import GitHubRole, Repositories
from darkroom.bootstrap.steps import ActRequired, Context, Options, Step, StepFailed, run, undo
from darkroom.images import IMAGES, source_tag
from tests.programs import Account, Programs
from tests.unit.darkroom.bootstrap.fork import AT_ONCE, ROOT, Fork, aws_steps, write_fork


def eksctl(fork: Fork, *command: str) -> list[str]:
    return ["eksctl", *command, "--config-file", str(fork.folder / "eksctl.yaml")]


def left(aws: Account) -> dict[str, list[Any]]:
    """What is in the account, of everything that the steps make."""
    ec2, eks, iam = aws.client("ec2"), aws.client("eks"), aws.client("iam")
    return {
        "roles": [each["RoleName"] for each in iam.list_roles()["Roles"]],
        "policies": [each["Arn"] for each in iam.list_policies(Scope="Local")["Policies"]],
        "providers": iam.list_open_id_connect_providers()["OpenIDConnectProviderList"],
        "repositories": aws.client("ecr").describe_repositories()["repositories"],
        "clusters": eks.list_clusters()["clusters"],
        "endpoints": [each for each in ec2.describe_vpc_endpoints()["VpcEndpoints"] if each["State"] != "deleted"],
        "subnets tagged": ec2.describe_tags(Filters=[{"Name": "key", "Values": ["karpenter.sh/discovery"]}])["Tags"],
    }


def test_a_second_run_changes_nothing(fork: Fork, aws: Account, programs: Programs) -> None:
    assert "made" in fork.run()
    aws.changes.clear()
    programs.forget()
    said = fork.run()
    assert aws.changes == []
    assert {tuple(call[:3]) for call in programs.calls()} <= {
        ("gh", "run", "list"),
        ("gh", "api", "repos/acme/darkroom"),
    }
    assert said.count(": there") == len(aws_steps(fork.context()))


def test_a_dry_run_says_what_would_be_made_and_changes_nothing(fork: Fork, aws: Account, programs: Programs) -> None:
    said = fork.run(Options(dry_run=True))
    assert said.count(": would be made") == len(aws_steps(fork.context()))
    assert aws.changes == []
    assert programs.calls("eksctl") == []
    fork.run()
    assert "would be made" not in fork.run(Options(dry_run=True))


def test_killed_after_every_step_it_goes_on_and_makes_nothing_twice(
    fork: Fork, aws: Account, programs: Programs
) -> None:
    ends: list[int] = []
    while not ends or ends[-1] != 0:
        script = [sys.executable, "-m", "tests.unit.darkroom.bootstrap.fork", str(fork.folder)]
        done = subprocess.run(script, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        ends.append(done.returncode)
    assert len(ends) == len(aws_steps(fork.context())) + 1
    assert [name for name, number in Counter(_made(aws)).items() if number > 1] == []
    assert len(programs.calls("eksctl")) == 1
    aws.changes.clear()
    assert "would be made" not in fork.run(Options(dry_run=True))


def _made(aws: Account) -> list[tuple[str, str]]:
    """The calls that are made once in all, of a thing of which there is one."""
    once = {"CreateOpenIDConnectProvider", "CreateServiceLinkedRole", "CreateVpcEndpoint", "CreateTags"}
    return [call for call in aws.changes if call[1] in once]


def test_after_a_failure_at_any_change_the_next_run_goes_on(fork: Fork, aws: Account) -> None:
    """Each run of a step gets one change further than the one before it, and then fails."""
    context, failures = fork.context(), 0
    for step in aws_steps(context):
        aws.fail_change(1)
        while (failure := _failure(step, context)) is not None:
            assert failure.startswith(f"{step.title}: ")
            assert "it was to fail" in failure
            assert f"run darkroom bootstrap {fork.folder} again" in failure
            failures += 1
            aws.fail_change(2)
        aws.fail_change(0)
        assert step.is_done()
    assert failures > 25
    assert "would be made" not in fork.run(Options(dry_run=True))


def _failure(step: Step, context: Context) -> str | None:
    try:
        run([step], context)
    except StepFailed as failure:
        return str(failure)
    return None


@pytest.mark.parametrize("beginning", ["gh workflow run", "gh run list", "eksctl create cluster"])
def test_after_a_program_failed_the_next_run_goes_on(beginning: str, fork: Fork, programs: Programs) -> None:
    programs.fail(beginning)
    with pytest.raises(StepFailed, match=f"{beginning}(?s:.*)ended with status 1"):
        fork.run()
    fork.run()
    assert "would be made" not in fork.run(Options(dry_run=True))


def test_undo_leaves_nothing_but_the_role_of_spot(fork: Fork, aws: Account, programs: Programs) -> None:
    fork.run()
    context = fork.context()
    undo(aws_steps(context), context)
    assert {what: found for what, found in left(aws).items() if found} == {"roles": ["AWSServiceRoleForspot"]}
    assert programs.calls("eksctl")[-1] == [
        *eksctl(fork, "delete", "cluster"),
        "--wait",
        "--disable-nodegroup-eviction",
    ]
    aws.changes.clear()
    undo(aws_steps(context), context)
    assert aws.changes == []


def test_what_another_cluster_of_the_account_uses_too_is_left_to_it(fork: Fork, aws: Account) -> None:
    other = Fork(write_fork(fork.folder.parents[1], "theirs"))
    fork.run()
    other.run()
    context = fork.context()
    undo(aws_steps(context), context)
    assert "would be made" not in other.run(Options(dry_run=True))
    assert left(aws)["clusters"] == ["theirs-eks"]


# The EKS cluster


def test_the_cluster_is_made_by_its_file_and_the_users_kubeconfig_is_left_alone(fork: Fork, programs: Programs) -> None:
    fork.run()
    assert programs.calls("eksctl") == [[*eksctl(fork, "create", "cluster"), "--write-kubeconfig=false"]]


def test_what_eksctl_did_not_get_to_is_made_by_the_next_run(fork: Fork, aws: Account, programs: Programs) -> None:
    fork.run()
    eks = aws.client("eks")
    eks.delete_nodegroup(clusterName="ours-eks", nodegroupName="base")
    eks.delete_addon(clusterName="ours-eks", addonName="coredns")
    programs.forget()
    fork.run()
    assert programs.calls("eksctl") == [eksctl(fork, "create", "nodegroup"), eksctl(fork, "create", "addon")]


def test_nodes_come_after_the_add_ons_that_they_need_and_before_those_that_need_them(
    fork: Fork, aws: Account, programs: Programs
) -> None:
    fork.run()
    eks = aws.client("eks")
    eks.delete_nodegroup(clusterName="ours-eks", nodegroupName="base")
    for addon in eks.list_addons(clusterName="ours-eks")["addons"]:
        eks.delete_addon(clusterName="ours-eks", addonName=addon)
    programs.forget()
    programs.fail("eksctl create nodegroup")
    with pytest.raises(StepFailed):
        fork.run()
    there = {*eks.list_addons(clusterName="ours-eks")["addons"]}
    assert there == {"eks-pod-identity-agent", "vpc-cni", "kube-proxy"}
    fork.run()
    assert [call[2] for call in programs.calls("eksctl")] == ["addon", "nodegroup", "nodegroup", "addon"]
    assert "coredns" in eks.list_addons(clusterName="ours-eks")["addons"]


def test_a_stack_that_failed_is_for_a_person_to_look_at(fork: Fork, aws: Account, programs: Programs) -> None:
    template = json.dumps({"Resources": {"T": {"Type": "AWS::SNS::Topic"}}})
    aws.client("cloudformation").create_stack(StackName="eksctl-ours-eks-cluster", TemplateBody=template)
    with pytest.raises(ActRequired, match=f"eksctl delete cluster --config-file {fork.folder}/eksctl.yaml --wait"):
        fork.run()
    assert programs.calls("eksctl") == []


@pytest.mark.parametrize(
    ("stack", "part"),
    [
        ("eksctl-ours-eks-nodegroup-base", "nodegroup"),
        ("eksctl-ours-eks-addon-vpc-cni-podidentityrole-aws-node", "addon"),
    ],
)
def test_a_part_of_the_cluster_that_failed_is_for_a_person_to_look_at(
    stack: str, part: str, fork: Fork, aws: Account, programs: Programs
) -> None:
    fork.run()
    if part == "nodegroup":
        aws.client("eks").delete_nodegroup(clusterName="ours-eks", nodegroupName="base")
    else:
        aws.client("eks").delete_addon(clusterName="ours-eks", addonName="vpc-cni")
    template = json.dumps({"Resources": {"T": {"Type": "AWS::SNS::Topic"}}})
    aws.client("cloudformation").create_stack(StackName=stack, TemplateBody=template)
    programs.forget()
    with pytest.raises(ActRequired, match=f"delete-stack --region eu-west-1 --stack-name {stack}$"):
        fork.run()
    assert programs.calls("eksctl") == []


def test_a_cluster_that_eksctl_did_not_make_stays(fork: Fork, aws: Account, programs: Programs) -> None:
    fork.run()
    aws.client("cloudformation").delete_stack(StackName="eksctl-ours-eks-cluster")
    context = fork.context()
    undo(aws_steps(context), context)
    assert aws.client("eks").list_clusters()["clusters"] == ["ours-eks"]
    assert left(aws)["subnets tagged"] == left(aws)["endpoints"] == []


def test_gpu_nodes_are_started_in_private_subnets_alone_and_these_have_a_way_to_s3(fork: Fork, aws: Account) -> None:
    fork.run()
    ec2 = aws.client("ec2")
    wanted = [{"Name": "tag:karpenter.sh/discovery", "Values": ["ours-eks"]}]
    tagged = {each["SubnetId"] for each in ec2.describe_subnets(Filters=wanted)["Subnets"]}
    tables = ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [*tagged]}])["RouteTables"]
    assert len(tagged) == len(tables) == 2
    assert not any(route.get("GatewayId", "").startswith("igw-") for table in tables for route in table["Routes"])
    assert len(ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]) == 1
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert {*endpoint["RouteTableIds"]} == {table["RouteTableId"] for table in tables}


def test_a_subnet_that_came_later_is_led_to_the_endpoint_that_is_there(fork: Fork, aws: Account) -> None:
    fork.run()
    ec2 = aws.client("ec2")
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint["VpcEndpointId"], RemoveRouteTableIds=endpoint["RouteTableIds"][:1])
    fork.run()
    (again,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert {*again["RouteTableIds"]} == {*endpoint["RouteTableIds"]}


# Roles and policies


def test_a_boundary_that_says_something_else_gets_a_new_version_and_iam_keeps_five(fork: Fork, aws: Account) -> None:
    file, iam = fork.folder / "cluster.yaml", aws.client("iam")
    described = yaml.safe_load(file.read_text())
    arn = fork.context().names.permissions_boundary_arns.replace("*", "ours-runtime-boundary")
    for number in range(7):
        described["cluster"]["inputBuckets"] = [f"pictures-{number}"]
        file.write_text(yaml.safe_dump(described))
        context = fork.context()
        run([identities.Boundaries(context)], context)
    versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    default = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    assert len(versions) == 5
    assert "pictures-6" in str(iam.get_policy_version(PolicyArn=arn, VersionId=default))


def test_a_role_that_was_changed_by_hand_is_set_right_again(fork: Fork, aws: Account) -> None:
    fork.run()
    iam, names = aws.client("iam"), fork.context().names
    anyone = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_role_policy(RoleName=names.github_role, PolicyName="more", PolicyDocument=json.dumps(anyone))
    iam.delete_role_permissions_boundary(RoleName=names.provider_role)
    fork.run()
    assert iam.list_role_policies(RoleName=names.github_role)["PolicyNames"] == ["permissions"]
    boundary = iam.get_role(RoleName=names.provider_role)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"]
    assert boundary == names.own_policy_arn(names.provider_boundary)


def test_a_role_of_somebody_elses_is_not_touched(fork: Fork, aws: Account) -> None:
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    aws.client("iam").create_role(RoleName="ours-github", AssumeRolePolicyDocument=trust)
    with pytest.raises(StepFailed, match="the role ours-github is there already and is not Darkroom's"):
        fork.run()


def test_undo_leaves_the_role_of_somebody_else_and_asks_nothing_of_github(
    fork: Fork, aws: Account, programs: Programs
) -> None:
    iam = aws.client("iam")
    anyone = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.create_role(RoleName="ours-github", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17"}))
    iam.put_role_policy(RoleName="ours-github", PolicyName="theirs", PolicyDocument=json.dumps(anyone))
    context = fork.context()
    GitHubRole(context).undo()
    assert iam.list_role_policies(RoleName="ours-github")["PolicyNames"] == ["theirs"]
    iam.tag_role(RoleName="ours-github", Tags=[{"Key": "darkroom.dev/cluster", "Value": "ours"}])
    GitHubRole(context).undo()
    assert left(aws)["roles"] == programs.calls("gh") == []


def test_efs_has_its_role_where_models_are_on_it(fork: Fork, aws: Account) -> None:
    file, services = fork.folder / "cluster.yaml", []
    described = yaml.safe_load(file.read_text())
    network = {"vpcId": "vpc-0a1b2c3d", "nodeSecurityGroupId": "sg-0a1b2c3d", "subnetIds": ["subnet-0a1b2c3d"]}
    for models in ({}, {"efs": network}):
        file.write_text(yaml.safe_dump({"cluster": described["cluster"] | {"models": models}}))
        services.append([role.service for role in identities.service_linked_roles(fork.context())])
    assert services == [["spot.amazonaws.com"], ["spot.amazonaws.com", "elasticfilesystem.amazonaws.com"]]


def test_an_identity_waits_until_eks_knows_the_role_that_iam_has_just_made(fork: Fork, aws: Account) -> None:
    aws.unseen_roles = 3
    fork.run()
    assert aws.unseen_roles == 0
    assert len(aws.client("eks").list_pod_identity_associations(clusterName="ours-eks")["associations"]) == 2


def test_only_the_repositorys_branch_may_push_and_only_to_the_images_repositories(fork: Fork, aws: Account) -> None:
    fork.run()
    iam = aws.client("iam")
    (trust,) = iam.get_role(RoleName="ours-github")["Role"]["AssumeRolePolicyDocument"]["Statement"]
    github = "token.actions.githubusercontent.com"
    assert trust["Condition"] == {
        "StringEquals": {
            f"{github}:aud": "sts.amazonaws.com",
            f"{github}:sub": [
                "repo:acme/darkroom:ref:refs/heads/main",
                "repo:acme@111/darkroom@222:ref:refs/heads/main",
            ],
        }
    }
    policy = iam.get_role_policy(RoleName="ours-github", PolicyName="permissions")["PolicyDocument"]
    assert [each["Resource"] for each in policy["Statement"]] == [
        ["*"],
        ["arn:aws:ecr:eu-west-1:123456789012:repository/darkroom/*"],
    ]


def test_github_that_the_account_knows_already_is_used_and_kept(fork: Fork, aws: Account) -> None:
    url = "https://token.actions.githubusercontent.com"
    iam = aws.client("iam")
    arn = iam.create_open_id_connect_provider(Url=url, ClientIDList=["others"])["OpenIDConnectProviderArn"]
    fork.run()
    assert {*iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)["ClientIDList"]} == {
        "others",
        "sts.amazonaws.com",
    }
    context = fork.context()
    undo(aws_steps(context), context)
    assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]


# Images


def test_images_are_never_overwritten_are_scanned_and_never_expire(fork: Fork, aws: Account) -> None:
    fork.run()
    ecr = aws.client("ecr")
    for repository in ecr.describe_repositories()["repositories"]:
        assert repository["imageTagMutability"] == "IMMUTABLE"
        assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
        with pytest.raises(ecr.exceptions.LifecyclePolicyNotFoundException):
            ecr.get_lifecycle_policy(repositoryName=repository["repositoryName"])
    (statement,) = json.loads(ecr.get_repository_policy(repositoryName="darkroom/api")["policyText"])["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_the_build_is_started_by_its_workflow_at_the_branch_that_the_cluster_follows(
    fork: Fork, programs: Programs
) -> None:
    fork.run()
    started = [call for call in programs.calls("gh") if call[1] == "workflow"]
    assert started == [["gh", "workflow", "run", "images.yaml", "--repo", "acme/darkroom", "--ref", "main"]]


def test_no_build_is_started_where_the_registry_has_every_image(fork: Fork, aws: Account, programs: Programs) -> None:
    context = fork.context()
    run([Repositories(context)], context)
    for number, (name, image) in enumerate(IMAGES.items()):
        kind = "application/vnd.oci.image.manifest.v1+json"
        config = {"digest": f"sha256:{number:064}", "size": 1, "mediaType": "application/vnd.oci.image.config.v1+json"}
        manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []})
        tag = source_tag(image, context.root)
        aws.client("ecr").put_image(repositoryName=f"darkroom/{name}", imageManifest=manifest, imageTag=tag)
    fork.run(AT_ONCE)
    assert {call[1] for call in programs.calls("gh")} == {"api"}


def test_the_example_is_what_eksctl_takes() -> None:
    reference = os.environ.get("DARKROOM_REFERENCE")
    if not reference:
        pytest.skip("DARKROOM_REFERENCE is not set: it has eksctl's schema")
    import jsonschema  # noqa: PLC0415

    schema = json.loads((Path(reference) / "eksctl.schema.json").read_text())
    config = yaml.safe_load((ROOT / "clusters" / "example" / "eksctl.yaml").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(config)] == []
    config["metadata"]["nmae"] = "x"
    assert [*validator.iter_errors(config)]

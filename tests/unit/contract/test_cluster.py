"""The description of a cluster: what it takes, and what it says of what it does not take."""

from typing import Any

import pytest
from pydantic import ValidationError

from darkroom_contract.cluster import Alarms, Cluster, FileSystem, Images
from darkroom_contract.gpus import GPUS_PER_MACHINE, Gpu
from darkroom_contract.subscribers import Subscriber

CLUSTER = {"name": "studio", "account": "111122223333", "region": "eu-west-1", "eksName": "studio"}
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:gallery"
EFS = {
    "vpcId": "vpc-0123456789abcdef0",
    "subnetIds": ["subnet-0123456789abcdef0"],
    "nodeSecurityGroupId": "sg-0123456789abcdef0",
}


def described(**fields: Any) -> Cluster:
    return Cluster.model_validate(CLUSTER | fields)


def subscriber(**fields: Any) -> dict[str, Any]:
    return {"name": "gallery", "protocol": "sqs", "endpoint": QUEUE} | fields


def refusals(fields: dict[str, Any]) -> str:
    """What is wrong with a cluster, each with its place."""
    with pytest.raises(ValidationError) as refused:
        described(**fields)
    return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in refused.value.errors())


def test_a_cluster_has_its_models_in_a_bucket_and_is_protected_unless_it_says_otherwise() -> None:
    cluster = described()
    assert cluster.models.efs is None
    assert cluster.protected
    assert cluster.alarms is None
    assert cluster.subscribers == ()


def test_the_models_may_be_on_a_file_system() -> None:
    assert described(models={"efs": EFS}).models.efs == FileSystem.model_validate(EFS)


@pytest.mark.parametrize(
    ("protocol", "endpoint"),
    [
        ("sqs", QUEUE),
        ("sqs", "arn:aws:sqs:us-east-1:111122223333:elsewhere"),
        ("https", "https://example.com"),
        ("https", "https://example.com:8443/hooks/darkroom?from=studio"),
        ("email", "ops@example.com"),
    ],
)
def test_a_subscriber_is_a_queue_a_url_or_an_address(protocol: str, endpoint: str) -> None:
    (known,) = described(subscribers=[subscriber(protocol=protocol, endpoint=endpoint)]).subscribers
    assert (known.protocol, known.endpoint, known.raw) == (protocol, endpoint, False)


def test_a_filter_has_the_attributes_that_it_says_something_of() -> None:
    known = Subscriber.model_validate(subscriber(filter={"status": ["failed", "cancelled"], "runtime": []}))
    assert known.filter.attributes == {"status": ("failed", "cancelled")}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"protocol": "sms"}, "subscribers.0.protocol: Input should be 'sqs', 'https' or 'email'"),
        (
            {"endpoint": "gallery"},
            "subscribers.0: endpoint: for the protocol sqs it is",
        ),
        ({"endpoint": f"{QUEUE}.fifo"}, "it is the ARN of a queue that is not FIFO"),
        ({"protocol": "https", "endpoint": "http://example.com"}, "a URL that begins with https://"),
        ({"protocol": "https", "endpoint": "https://me:secret@example.com/"}, "no user name or password in it"),
        ({"protocol": "email", "endpoint": "ops"}, "endpoint: for the protocol email it is an e-mail address"),
        ({"protocol": "email", "endpoint": "ops@example.com", "raw": True}, "raw: SNS sends an e-mail without"),
        ({"filter": {"state": ["failed"]}}, "subscribers.0.filter.state: Extra inputs are not permitted"),
        ({"filter": {"status": ["accepted"]}}, "subscribers.0.filter.status.0: Input should be"),
        (
            {"filter": {"runtime": [f"r{n}" for n in range(76)], "status": ["failed", "completed"]}},
            "152; SNS takes 150",
        ),
        (
            {"endpoint": QUEUE.replace("1111", "9999")},
            "subscribers[0].endpoint: a queue of another account",
        ),
        (
            {"filter": {"tenant": ["default", "nobody"]}},
            "subscribers[0].filter.tenant[1]: the cluster has no such tenant",
        ),
        ({"endpoint": QUEUE.replace("gallery", "studio-results")}, "the cluster's own queue is subscribed already"),
    ],
)
def test_a_wrong_subscriber_is_refused_by_its_field(fields: dict[str, Any], said: str) -> None:
    assert said in refusals({"subscribers": [subscriber(**fields)]})


def test_a_refusal_repeats_no_password_of_a_url() -> None:
    url = subscriber(protocol="https", endpoint="https://me:secret@example.com/")
    assert "secret" not in refusals({"subscribers": [url]})


def test_subscribers_have_names_and_endpoints_of_their_own() -> None:
    named_the_same = [subscriber(), subscriber(endpoint=f"{QUEUE}-2")]
    assert "two subscribers have the same name" in refusals({"subscribers": named_the_same})
    at_the_same = [subscriber(), subscriber(name="again")]
    assert "two subscribers have the same endpoint" in refusals({"subscribers": at_the_same})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"alarms": {}}, "alarms.topicArn: Field required"),
        (
            {"alarms": {"topicArn": "ops"}},
            "alarms.topicArn: Value error, it has to be the ARN of a topic that is not FIFO",
        ),
        (
            {"alarms": {"topicArn": "arn:aws:sns:us-east-1:111122223333:ops"}},
            "arn:aws:sns:eu-west-1:111122223333:",
        ),
        (
            {"alarms": {"topicArn": "arn:aws:sns:eu-west-1:999922223333:ops"}},
            "alarms.topicArn: it has to be",
        ),
        ({"models": {"efs": {}}}, "models.efs.vpcId: Field required"),
        (
            {"models": {"efs": EFS | {"subnetIds": ["subnet-0123456789abcdef0"] * 2}}},
            "a subnet is there twice",
        ),
        ({"models": {"efs": EFS | {"vpcId": "main"}}}, "models.efs.vpcId: Value error, it has to be the id of a VPC"),
        ({"tenants": [{"name": "acme", "keys": ["a", "a"]}]}, "tenants.0.keys: Value error, a key is there twice"),
        ({"tenants": [{"name": "acme", "keys": ["a", "b", "c"]}]}, "tenants.0.keys: Tuple should have at most 2 items"),
        ({"tenants": [{"name": "acme", "keys": []}]}, "tenants.0.keys: Tuple should have at least 1 item"),
        ({"tenants": [{"name": "acme"}, {"name": "acme"}]}, "tenants: Value error, two tenants have the same name"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(fields: dict[str, Any], said: str) -> None:
    assert said in refusals(fields)


def test_an_alarm_comes_long_before_sqs_throws_a_prompt_away() -> None:
    limit = next(item for item in Alarms.model_fields["longest_wait_minutes"].metadata if hasattr(item, "le"))
    assert limit.le * 60 <= 14 * 24 * 60 * 60 / 2


def test_a_cluster_has_g5_nodes_with_their_own_disks_unless_it_says_otherwise() -> None:
    (pool,) = described().gpu_nodes.pools
    assert (pool.gpu, pool.capacity, pool.max_gpus) == ("g5", "any", 8)
    assert described().gpu_nodes.raid0


@pytest.mark.parametrize(
    "repository",
    [
        "https://git.example.com/team/darkroom.git",
        "git@git.example.com:team/darkroom.git",
        "ssh://git@git.example.com:2222/team/darkroom.git",
    ],
)
def test_argo_cd_clones_by_https_or_ssh(repository: str) -> None:
    gitops = described(gitops={"repository": repository}).gitops
    assert gitops is not None
    assert (gitops.repository, gitops.revision, gitops.webhook) == (repository, "main", None)


def test_the_git_host_reaches_two_services_of_argo_cd() -> None:
    hook = "https://argocd.example.com/api/webhook"
    gitops = {"repository": "https://git.example.com/team/darkroom.git"}
    both = {"applications": hook, "runtimes": "https://argocd-sets.example.com/api/webhook"}
    found = described(gitops={**gitops, "webhook": both}).gitops
    assert found is not None
    assert found.webhook is not None
    assert found.webhook.applications == hook
    assert "another service" in refusals({"gitops": {**gitops, "webhook": {"applications": hook, "runtimes": hook}}})
    unsafe = {**both, "runtimes": "http://argocd-sets.example.com/api/webhook"}
    assert "an https:// URL" in refusals({"gitops": {**gitops, "webhook": unsafe}})


@pytest.mark.parametrize("repository", ["http://10.0.0.1:3000/darkroom.git", "git://host/x", "file:///srv/darkroom"])
def test_a_repository_that_anyone_could_forge_is_for_an_emulator_alone(repository: str) -> None:
    gitops = {"gitops": {"repository": repository}}
    assert "gitops.repository: whoever is between could change" in refusals(gitops)
    assert described(**gitops, emulator={"endpoint": "http://10.0.0.1:5000"}).emulator


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"gitops": {"repository": "darkroom"}},
            "gitops.repository: Value error, it has to be the URL that Git clones",
        ),
        ({"gitops": {"repository": "https://me:secret@example.com/x"}}, "gitops: repository: it must not carry"),
        ({"gitops": {"repository": "https://token@example.com/x"}}, "gitops: repository: it must not carry"),
        ({"gitops": {"repository": "https://example.com/x", "revision": "-x"}}, "gitops.revision: Value error"),
        ({"gpuNodes": {"pools": []}}, "gpuNodes.pools: Tuple should have at least 1 item"),
        ({"gpuNodes": {"pools": [{"gpu": "g5"}, {"gpu": "g5", "capacity": "spot"}]}}, "two pools have the same gpu"),
        ({"gpuNodes": {"pools": [{"gpu": "g5", "maxGpus": 0}]}}, "gpuNodes.pools.0.maxGpus: "),
        ({"gpuNodes": {"pools": [{"gpu": "p4d", "maxGpus": 4}]}}, "maxGpus: a machine of p4d has 8 GPUs"),
        ({"gpuNodes": {"pools": [{"gpu": "p4d", "maxGpus": 4}]}}, "never bought: make it 8"),
        ({"gpuNodes": {"pools": [{"gpu": "p4d", "maxGpus": 20}]}}, "make it 16 or 24"),
        ({"gpuNodes": {"imageSnapshotId": "snap-0123456789abcdef0"}}, "gpuNodes: imageSnapshotId: with raid0"),
        ({"gpuNodes": {"raid0": False, "imageSnapshotId": "images"}}, "it has to be the id of a snapshot: snap-"),
        ({"emulator": {"endpoint": "10.0.0.1:5000"}}, "emulator.endpoint: Value error, it has to be a URL of a host"),
        ({"emulator": {"endpoint": "http://user@10.0.0.1"}}, "emulator.endpoint: Value error, it has to be a URL"),
    ],
)
def test_what_gitops_and_nodes_cannot_be_is_refused(fields: dict[str, Any], said: str) -> None:
    assert said in refusals(fields)


@pytest.mark.parametrize("gpu", Gpu)
def test_a_pool_of_which_only_the_gpu_is_said_buys_whole_machines(gpu: Gpu) -> None:
    (pool,) = described(gpuNodes={"pools": [{"gpu": gpu}]}).gpu_nodes.pools
    assert pool.max_gpus % GPUS_PER_MACHINE[gpu] == 0


def test_a_snapshot_has_the_images_where_raid0_has_not() -> None:
    nodes = described(gpuNodes={"raid0": False, "imageSnapshotId": "snap-0123456789abcdef0"}).gpu_nodes
    assert nodes.image_snapshot_id == "snap-0123456789abcdef0"


def test_an_image_is_a_digest_or_not_built_yet() -> None:
    digest = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/darkroom/agent@sha256:{'a' * 64}"
    assert Images(agent=digest).api == ""
    for wrong in ("darkroom/agent:1.0", digest[:-1], f"darkroom/agent:1.0@sha256:{'a' * 64}", f"{digest}\n"):
        with pytest.raises(ValidationError, match="an image by its digest"):
            Images(agent=wrong)

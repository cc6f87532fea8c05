"""Names stay within AWS's limits, and no two things have one name."""

import re

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from darkroom_contract import names
from darkroom_contract.names import Actor, Bucket, Names
from darkroom_contract.types import ClusterName, RuntimeName

clusters = st.from_regex(r"\A[a-z][a-z0-9]{0,19}\Z")
runtimes = st.from_regex(r"\A[a-z]([a-z0-9-]{0,30}[a-z0-9])?\Z")


@given(clusters, runtimes)
def test_names_stay_within_the_limits_of_aws(cluster: str, runtime: str) -> None:
    TypeAdapter(ClusterName).validate_python(cluster)
    TypeAdapter(RuntimeName).validate_python(runtime)
    own = Names(cluster, "123456789012", "ap-northeast-1")
    for queue in (own.runtime_queue(runtime), own.dead_letter_queue(runtime), own.result_topic, own.prompt_topic):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", queue)
    for role in (own.runtime_role(runtime), own.api, *map(own.role, Actor)):
        assert len(role) <= 64
    for policy in map(own.permissions_boundary, Actor):
        assert len(policy) <= 128
    for purpose in Bucket:
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", own.bucket(purpose))


@given(clusters, clusters, runtimes, runtimes)
def test_two_runtimes_never_share_a_queue(one: str, other: str, first: str, second: str) -> None:
    place = ("123456789012", "us-east-1")
    queues = {
        queue
        for cluster, runtime in {(one, first), (other, second)}
        for queue in (
            Names(cluster, *place).runtime_queue(runtime),
            Names(cluster, *place).dead_letter_queue(runtime),
            Names(cluster, *place).result_topic,
        )
    }
    assert len(queues) == 2 * len({(one, first), (other, second)}) + len({one, other})


def test_the_partition_follows_the_region() -> None:
    assert Names("a", "1" * 12, "cn-north-1").queue_arn("q") == f"arn:aws-cn:sqs:cn-north-1:{'1' * 12}:q"
    assert Names("a", "1" * 12, "us-gov-west-1").bucket_arn("b", "*") == "arn:aws-us-gov:s3:::b/*"


def test_the_default_tenants_pictures_are_where_the_guidance_puts_them() -> None:
    assert names.output_folder("default", "p/q", "id") == "p/q/id"
    assert names.output_folder("default", None, "id") == "id"
    assert names.output_folder("studio", "p/q", "id") == "studio/p/q/id"
    assert names.picture_key("p/id", "id", "0a1b", 1, ".png") == "p/id/id-0a1b-1.png"


def test_an_s3_url_comes_apart_as_it_was_put_together() -> None:
    assert names.split_s3_url(names.s3_url("bucket", "a/b c")) == ("bucket", "a/b c")


def test_every_tenants_keys_begin_differently() -> None:
    assert len({names.api_key_prefix(f"tenant{number}") for number in range(1000)}) == 1000

"""Each link is broken alone: it is the first that is named, with what mends it."""

import json
from typing import Any

import pytest

from darkroom.doctor.chain import CHAIN
from darkroom.doctor.finding import Health
from darkroom_contract.names import Bucket, api_key_prefix, registry_key
from tests.unit.darkroom.doctor.world import CHECKPOINT, NODES, REGION, Break, Emulated, FakeApi, World

#: Those that the emulated AWS has; Kubernetes' are told as unknown.
AWS_LINKS = {
    *("key", "gateway", "function", "answer", "topic", "registry", "subscription", "queue", "model", "backlog"),
    *("dead letters", "outputs", "notification"),
}


def test_in_a_cluster_where_all_is_well_nothing_is_wrong(two_runtimes: World) -> None:
    found = two_runtimes.examine("comfy", "sdxl")
    assert list(found) == [link.name for link in CHAIN]
    healthy = {name for name, each in found.items() if each.finding.health is Health.OK}
    assert healthy == AWS_LINKS
    others = {each.finding.health for name, each in found.items() if name not in AWS_LINKS}
    assert others == {Health.UNKNOWN, Health.ABSENT}  # no Kubernetes, and this cluster has no Argo CD
    assert two_runtimes.api.keys == [two_runtimes.api_key]


def disable_key(world: World) -> None:
    disabled = [{"op": "replace", "path": "/enabled", "value": "false"}]
    world.client("apigateway").update_api_key(apiKey=key_id(world), patchOperations=disabled)


def key_id(world: World) -> str:
    keys = world.client("apigateway").get_api_keys(includeValues=True)["items"]
    found: str = next(key["id"] for key in keys if key["value"] == world.api_key)
    return found


def forget_key(world: World) -> None:
    """Its tenant has another one."""
    gateway = world.client("apigateway")
    gateway.delete_api_key(apiKey=key_id(world))
    value = f"{api_key_prefix('default')}{world.names.cluster}another"
    gateway.create_api_key(name=world.names.tenant("default"), value=value, enabled=True)


def drop_plan(world: World) -> None:
    plan = world.aws_id("UsagePlan", "default")
    world.client("apigateway").delete_usage_plan_key(usagePlanId=plan, keyId=key_id(world))


def use_up_quota(world: World) -> None:
    world.answer_of_aws("apigateway", "GetUsage", 200, {"items": {key_id(world): [[100, 0]]}})


def make_key_up(world: World) -> None:
    world.client("apigateway").create_api_key(name=world.names.tenant("studio"), value=20 * "x", enabled=True)


def drop_stage(world: World) -> None:
    world.client("apigateway").delete_stage(restApiId=world.aws_id("RestAPI"), stageName="prod")


def empty_api(world: World) -> None:
    """As where the first import of its document failed."""
    gateway, api = world.client("apigateway"), world.aws_id("RestAPI")
    resources = {each["path"]: each["id"] for each in gateway.get_resources(restApiId=api, limit=500)["items"]}
    for path in sorted(resources.keys() - {"/"}, reverse=True):
        gateway.delete_resource(restApiId=api, resourceId=resources[path])


def fail_function(**state: str) -> Break:
    def fail(world: World) -> None:
        parsed = {"Configuration": {"State": "Active", **state}, "Code": {}}
        world.answer_of_aws("lambda", "GetFunction", 200, parsed)

    return fail


def throttle(world: World) -> None:
    world.client("lambda").put_function_concurrency(FunctionName=world.names.api, ReservedConcurrentExecutions=0)


def forbid_invoking(world: World) -> None:
    statement = world.only("Permission")["resolved"]["statementId"]
    world.client("lambda").remove_permission(FunctionName=world.names.api, StatementId=statement)


def count_of_function(**sums: float) -> Break:
    """What CloudWatch counts of the function in the last quarter of an hour."""

    def put(world: World) -> None:
        for name, value in sums.items():
            dimensions = [{"Name": "FunctionName", "Value": world.names.api}]
            data = {"MetricName": name, "Dimensions": dimensions, "Value": value}
            world.client("cloudwatch").put_metric_data(Namespace="AWS/Lambda", MetricData=[data])

    return put


def answers(status: int) -> Break:
    def answer(world: World) -> None:
        world.api.status = status

    return answer


def away(world: World) -> None:
    world.api.url = "http://127.0.0.1:1/prod"


def entry(**changed: Any) -> Break:
    def put(world: World) -> None:
        place = {"Bucket": world.names.bucket(Bucket.JOBS), "Key": registry_key("sdxl")}
        known = json.loads(world.client("s3").get_object(**place)["Body"].read())
        world.client("s3").put_object(**place, Body=json.dumps({**known, **changed}).encode())

    return put


def forget_runtime(world: World) -> None:
    world.client("s3").delete_object(Bucket=world.names.bucket(Bucket.JOBS), Key=registry_key("sdxl"))


def unsubscribe(world: World) -> None:
    arn = world.subscription(world.names.prompt_topic, world.names.runtime_queue("sdxl"))
    world.client("sns").unsubscribe(SubscriptionArn=arn)


def filtered_by(policy: dict[str, Any]) -> Break:
    def change(world: World) -> None:
        arn = world.subscription(world.names.prompt_topic, world.names.runtime_queue("sdxl"))
        world.client("sns").set_subscription_attributes(
            SubscriptionArn=arn, AttributeName="FilterPolicy", AttributeValue=json.dumps(policy) if policy else ""
        )

    return change


def set_queue(name: str, value: str) -> Break:
    def change(world: World) -> None:
        url = world.queue_url(world.names.runtime_queue("sdxl"))
        text = value.replace("CLUSTER", world.names.cluster)
        # The emulator forgets the policy when something else is set.
        policy = world.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
        world.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={**policy, name: text})

    return change


def policy_of(source: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": f"arn:aws:sqs:{REGION}:123456789012:CLUSTER-runtime-sdxl",
        "Condition": {"ArnEquals": {"aws:SourceArn": source}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


OTHER_QUEUE = f"arn:aws:sqs:{REGION}:123456789012:CLUSTER-results-dead-letter"


def drop_queue(world: World) -> None:
    world.client("sqs").delete_queue(QueueUrl=world.queue_url(world.names.runtime_queue("sdxl")))


def drop_topic(world: World) -> None:
    world.client("sns").delete_topic(TopicArn=world.names.topic_arn(world.names.prompt_topic))


def send_to(name: str) -> Break:
    def send(world: World) -> None:
        queue = world.queue_url(getattr(world.names, name)("sdxl"))
        world.client("sqs").send_message(QueueUrl=queue, MessageBody="{}")

    return send


def lose_notification(world: World) -> None:
    url = world.queue_url(world.names.result_dead_letter_queue)
    world.client("sqs").send_message(QueueUrl=url, MessageBody="{}")


def drop_model(world: World) -> None:
    world.client("s3").delete_object(Bucket=world.models, Key=f"checkpoints/{CHECKPOINT}")


def drop_outputs(world: World) -> None:
    world.client("s3").delete_bucket(Bucket=world.names.bucket(Bucket.OUTPUTS))


def stop_telling(world: World) -> None:
    arn = world.subscription(world.names.result_topic, world.names.result_topic)
    world.client("sns").unsubscribe(SubscriptionArn=arn)


def check(world: World, breaking: Break, link: str, words: str, remedy: str) -> None:
    breaking(world)
    found = world.examine()
    assert [name for name, each in found.items() if each.is_cause] == [link]
    assert words in found[link].finding.words
    assert any(remedy in each for each in found[link].finding.remedy), found[link].finding.remedy
    assert world.api_key not in repr(found)


@pytest.mark.parametrize(
    ("breaking", "link", "words", "remedy"),
    [
        (disable_key, "key", "the key of default is disabled", "aws apigateway update-api-key --api-key"),
        (forget_key, "key", "API Gateway does not have this key", "get secret api-key-default"),
        (drop_plan, "key", "no usage plan lets the key of default use the stage prod", "describe promptapi"),
        (make_key_up, "key", "AWS made up the value of a key of studio", "give studio another key"),
        (drop_stage, "gateway", "has no stage prod", "describe promptapi"),
        (empty_api, "gateway", "has no path /v1/jobs", "delete restapis.apigateway.aws.m.upbound.io"),
        (throttle, "function", "its reserved concurrency is 0", "aws lambda delete-function-concurrency"),
        (forbid_invoking, "function", "API Gateway may not invoke the function", "describe promptapi"),
        (count_of_function(Invocations=4, Errors=3), "function", "3 of the 4 calls", "aws logs tail /aws/lambda/"),
        (count_of_function(Invocations=1, Throttles=9), "function", "turned 9 calls", "raise api.concurrency"),
        (drop_topic, "topic", "there is no topic", "describe promptapi"),
        (forget_runtime, "registry", "the API does not know sdxl", "describe modelruntime sdxl"),
        (entry(accepting=False), "registry", "takes no prompts", "remove accepting: false"),
        (entry(engine="none"), "registry", "is no entry of the registry", "describe modelruntime sdxl"),
        (unsubscribe, "subscription", "is not subscribed to", "describe modelruntime sdxl"),
        (filtered_by({"runtime": ["sdxk"]}), "subscription", 'let prompts for sdxl through: {"runtime"', "unsubscribe"),
        (filtered_by({}), "subscription", "has no filter", "aws sns unsubscribe"),
        (drop_queue, "queue", "there is no queue", "describe modelruntime sdxl"),
        (set_queue("Policy", ""), "queue", "does not let", "describe queuepolicies"),
        (set_queue("Policy", policy_of("arn:aws:sns:*:*:other-prompts")), "queue", "does not let", "queuepolicies"),
        (
            set_queue("RedrivePolicy", json.dumps({"deadLetterTargetArn": OTHER_QUEUE, "maxReceiveCount": 50})),
            "queue",
            "does not move what fails",
            "describe modelruntime sdxl",
        ),
        (
            drop_model,
            "model",
            f"/checkpoints/{CHECKPOINT}",
            "darkroom models push base.safetensors --to checkpoints/sdxl --cluster clusters/main",
        ),
        (send_to("dead_letter_queue"), "dead letters", "1 message was given up", "darkroom runtime redrive sdxl"),
        (drop_outputs, "outputs", "there is no bucket", "describe storage"),
        (stop_telling, "notification", "is not subscribed", "describe promptapi"),
        (lose_notification, "notification", "1 notification could not be delivered", "aws sqs receive-message"),
    ],
)
def test_what_is_broken_is_named_first_with_its_remedy(
    world: World, breaking: Break, link: str, words: str, remedy: str
) -> None:
    check(world, breaking, link, words, remedy)


@pytest.mark.parametrize(
    ("breaking", "link", "words", "remedy"),
    [
        (use_up_quota, "key", "has used up its quota of 100 requests for today", "dailyQuota of default"),
        (
            fail_function(State="Failed", StateReason="the image cannot be pulled"),
            "function",
            "the image cannot be pulled",
            "darkroom pin clusters/main",
        ),
        (fail_function(LastUpdateStatus="Failed"), "function", "could not be changed", "darkroom pin clusters/main"),
        (answers(502), "answer", "the API answers with 502", "aws logs tail /aws/lambda/"),
        (answers(403), "answer", "the API refuses the key", "export DARKROOM_URL="),
        (answers(429), "answer", "rate or quota", "rateLimit"),
        (answers(200), "answer", "is not Darkroom's API: status 200", "export DARKROOM_URL="),
        (away, "answer", "cannot be reached", "export DARKROOM_URL="),
    ],
)
def test_what_answers_wrongly_is_named_first_with_its_remedy(
    intact: World, breaking: Break, link: str, words: str, remedy: str
) -> None:
    check(intact, breaking, link, words, remedy)


def test_a_filter_by_the_checkpoint_lets_the_runtimes_own_prompts_through(world: World) -> None:
    filtered_by({"$or": [{"sd_model_checkpoint": ["a"]}, {"runtime": ["sdxl"]}]})(world)
    assert world.examine()["subscription"].finding.health is Health.OK
    filtered_by({"$or": [{"sd_model_checkpoint": ["a"]}, {"runtime": ["other"]}]})(world)
    assert world.examine()["subscription"].is_cause


def test_what_comes_after_a_broken_link_is_looked_at_but_is_no_cause(world: World) -> None:
    drop_topic(world)
    found = world.examine()
    assert found["subscription"].finding.is_wrong
    assert [name for name, each in found.items() if each.is_cause] == ["topic"]


def test_each_runtime_has_a_cause_of_its_own(two_runtimes: World) -> None:
    world = two_runtimes
    drop_model(world)
    assert not [each for each in world.examine("sdxl", "comfy").values() if each.finding.is_wrong]  # comfy is well
    world.client("s3").delete_object(Bucket=world.models, Key=f"{NODES}/nodes.py")
    [found] = [each for each in world.examine("sdxl", "comfy").values() if each.is_cause]
    assert (found.name, found.runtime) == ("model", "comfy")
    assert f"the custom nodes are not there: s3://{world.models}/{NODES}/" in found.finding.words


def test_messages_that_nobody_takes_are_told_where_there_is_no_kubernetes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.doctor.pods.PAUSE_SECONDS", 0)
    send_to("runtime_queue")(world)
    found = world.examine(is_local=True)
    assert [name for name, each in found.items() if each.is_cause] == ["backlog"]
    assert "1 message wait" in found["backlog"].finding.words
    assert found["backlog"].finding.remedy == ("see .demo/logs/local/agent-sdxl.log",)
    world.client("sqs").receive_message(QueueUrl=world.queue_url(world.names.runtime_queue("sdxl")))
    assert world.examine(is_local=True)["backlog"].finding.words == "0 waiting, 1 in hand"


@pytest.mark.parametrize("tenant", ["nobody", "studio"])
def test_a_key_of_another_tenant_or_cluster_is_told_apart(intact: World, tenant: str) -> None:
    key = f"{api_key_prefix(tenant)}other"
    found = intact.examine(api_key=key)["key"]
    assert found.is_cause
    said = "is of no tenant of this cluster" if tenant == "nobody" else "begins as those of studio"
    assert said in found.finding.words
    assert key not in repr(found)


def test_without_a_key_the_rest_is_looked_at_all_the_same(intact: World) -> None:
    intact.api.status = 403
    found = intact.examine(api_key=None)
    assert found["key"].finding.health is Health.UNKNOWN
    assert found["answer"].finding.health is Health.OK
    assert not any(each.is_cause for each in found.values())
    assert intact.api.keys == [None]


@pytest.mark.parametrize(
    ("code", "words", "remedy"),
    [
        ("AccessDeniedException", "AWS does not let you look (GetStage)", "apigateway:GET"),
        ("Throttling", "AWS is asked too often", "again in a minute"),
        ("SomethingNew", "no GetStage", None),
    ],
)
def test_what_may_not_be_looked_at_is_unknown_and_the_next_is_looked_at(
    intact: World, code: str, words: str, remedy: str | None
) -> None:
    intact.refuse("apigateway", "GetStage", code)
    intact.api.status = 502
    found = intact.examine()
    assert found["gateway"].finding.health is Health.UNKNOWN
    assert words in found["gateway"].finding.words
    assert remedy is None or remedy in found["gateway"].finding.remedy[0]
    assert [name for name, each in found.items() if each.is_cause] == ["answer"]


def test_without_aws_everything_is_unknown_and_nothing_raises(intact: World) -> None:
    intact.aws = type(intact.aws)(intact.aws.session, "http://127.0.0.1:1")
    found = intact.examine()
    assert {found[name].finding.health for name in AWS_LINKS - {"answer"}} == {Health.UNKNOWN}


@pytest.mark.parametrize(
    ("protocol", "endpoint", "words"),
    [("email", "ops@example.com", "has not confirmed"), ("https", "https://example.com/hook", "is not subscribed")],
)
def test_a_subscriber_who_is_not_told_is_named(
    emulated: Emulated, api: FakeApi, protocol: str, endpoint: str, words: str
) -> None:
    subscriber = {"name": "ops", "protocol": protocol, "endpoint": endpoint}
    world = World(emulated, api, subscribers=(subscriber,))
    if "not subscribed" in words:
        topic = world.names.topic_arn(world.names.result_topic)
        found = world.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        [arn] = [each["SubscriptionArn"] for each in found if each["Endpoint"] == endpoint]
        world.client("sns").unsubscribe(SubscriptionArn=arn)
    else:
        pending = {"SubscriptionArn": "PendingConfirmation", "Endpoint": endpoint}
        others = world.client("sns").list_subscriptions_by_topic(
            TopicArn=world.names.topic_arn(world.names.result_topic)
        )["Subscriptions"]
        kept = [each for each in others if each["Endpoint"] != endpoint]
        world.answer_of_aws("sns", "ListSubscriptionsByTopic", 200, {"Subscriptions": [*kept, pending]})
    found_link = world.examine()["notification"]
    assert "the subscriber ops" in found_link.finding.words
    assert words in found_link.finding.words

"""What docs/cluster.md repeats is what the code says."""

import re
from pathlib import Path

from darkroom_contract.cluster import Alarms
from darkroom_contract.names import Names, Problem
from darkroom_contract.subscribers import NotificationFilter
from darkroom_function import alarms, messaging
from darkroom_function.apis import PromptApiSpec
from darkroom_function.managed import Owner
from tests.compositions import specs

PAGE = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text()


def test_the_page_names_every_alarm_and_no_other() -> None:
    owner, names = Owner("alarms", "eu-west-1"), Names("<cluster>", "111122223333", "eu-west-1")
    told = Alarms(topic_arn="arn:aws:sns:eu-west-1:111122223333:ops")
    api = PromptApiSpec.model_validate(specs.prompt_api(alarms=told))
    made = [*alarms.of_runtime(owner, names, "<name>", told), *alarms.of_api(owner, names, api)]
    of_page = re.findall(r"^\| `(<cluster>-[^`]+)` \|", PAGE, re.MULTILINE)
    assert of_page == [alarm.external_name for alarm in made]
    assert {name for name in Problem if any(alarm.endswith(f"-{name}") for alarm in of_page)} == set(Problem)


def test_the_page_names_every_attribute_of_a_filter_and_no_other() -> None:
    (sentence,) = re.findall(r"A `filter`\s+lists values of ([^;]+);", PAGE)
    assert set(re.findall(r"`(\w+)`", sentence)) == set(NotificationFilter.model_fields)


def test_the_page_names_the_label_of_a_subscription() -> None:
    assert f"-l {messaging.SUBSCRIBER_LABEL}=<name>" in PAGE

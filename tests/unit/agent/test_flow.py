"""How much the agent takes in hand, and when."""

import threading
from typing import cast

import pytest

from darkroom_agent import flow as bounds
from darkroom_agent.attempt import Attempt
from darkroom_agent.aws import Patience
from darkroom_agent.engines.base import Run, RuntimeEngine
from darkroom_agent.flow import MAX_AHEAD, MAX_DELIVERIES, Flow
from darkroom_agent.forecast import _HANDING_SECONDS, _LONGEST_PREPARING_SECONDS, Forecast
from darkroom_agent.records import Claim
from darkroom_agent.tracing import JobTrace
from darkroom_agent.transport import QueueMessage
from darkroom_contract.job import Job
from tests.unit.agent.support import DEADLINE, ToldClock, eventually, held_message
from tests.unit.agent.test_messages import new_job


class Engine:
    """As much of an engine as the flow asks for."""

    ahead = 1


class Hands:
    """A flow, and messages to go through it."""

    def __init__(self) -> None:
        self.clock = ToldClock()
        self.engine = Engine()
        self.flow = Flow(cast("RuntimeEngine", self.engine), self.clock)
        self.job: Job = new_job()

    def receive(self, count: int = 1) -> list[QueueMessage]:
        messages = [held_message(self.clock, number) for number in range(count)]
        self.flow.received(messages, 0.0)
        return messages

    def open(self, message: QueueMessage) -> Attempt:
        run = Run(self.clock, 900)
        attempt = Attempt(message, self.job, cast("Claim", None), run, cast("Patience", None), cast("JobTrace", None))
        self.flow.opened(attempt)
        return attempt

    def prepare(self, count: int = 1, *, seconds: float = 0.1, input_bytes: int = 0) -> list[Attempt]:
        attempts = [self.open(message) for message in self.receive(count)]
        for attempt in attempts:
            attempt.input_bytes = input_bytes
            self.flow.prepared(attempt, seconds)
        return attempts

    def post(self) -> Attempt:
        attempt = self.flow.next()
        assert attempt is not None
        return attempt

    def finish(self, attempt: Attempt, size: int = 1) -> None:
        self.flow.generated(attempt, succeeded=True)
        self.flow.delivering(attempt.message, size)

    def learn(self, *, run_seconds: float, preparing_seconds: float) -> None:
        """Let one job after the other go through."""
        for _ in range(3):
            self.prepare(seconds=preparing_seconds)
            attempt = self.post()
            attempt.run.begin()
            self.clock.time += run_seconds
            self.finish(attempt)
            self.flow.ended(attempt.message)


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_an_idle_agent_takes_one_message(hands: Hands) -> None:
    assert hands.flow.room() == (1, 0.0)


def test_nothing_more_is_taken_while_nobody_knows_how_long_the_first_job_takes(hands: Hands) -> None:
    hands.receive()
    assert hands.flow.room()[0] == 0


def test_the_next_message_is_taken_when_the_rest_of_the_run_is_what_preparing_takes(hands: Hands) -> None:
    hands.learn(run_seconds=10, preparing_seconds=0.5)
    hands.prepare()
    hands.post().run.begin()
    assert hands.flow.room()[0] == 0
    hands.clock.time += 9.3
    assert hands.flow.room()[0] == 0
    hands.clock.time += 0.2
    assert hands.flow.room()[0] == 1


def test_the_runs_own_progress_counts_more_than_the_runs_before_it(hands: Hands) -> None:
    hands.learn(run_seconds=1, preparing_seconds=0.5)
    hands.prepare()
    run = hands.post().run
    run.begin()
    run.advance(0.01)
    hands.clock.time += 1
    run.advance(0.02)
    assert hands.flow.room()[0] == 0
    hands.clock.time += 1
    run.advance(0.99)
    assert hands.flow.room()[0] == 1


def test_of_short_jobs_twice_as_many_are_taken_as_the_engine_ends_while_one_is_prepared(hands: Hands) -> None:
    hands.learn(run_seconds=0.1, preparing_seconds=0.35 - _HANDING_SECONDS)
    hands.prepare()
    hands.post().run.begin()
    assert hands.flow.room()[0] == 5
    hands.receive(3)
    assert hands.flow.room()[0] == 0


def test_no_more_is_taken_than_the_bound_says_however_short_the_jobs_are(hands: Hands) -> None:
    hands.learn(run_seconds=0.01, preparing_seconds=1)
    hands.prepare()
    hands.post().run.begin()
    assert hands.flow.room()[0] == MAX_AHEAD - 1
    hands.receive(MAX_AHEAD - 1)
    assert hands.flow.room()[0] == 0


@pytest.mark.parametrize("ahead", [0, 1])
def test_the_engine_is_sent_as_many_jobs_as_it_can_tell_apart(hands: Hands, ahead: int) -> None:
    hands.engine.ahead = ahead
    hands.prepare(3)
    posted = [hands.post() for _ in range(1 + ahead)]
    waiting: list[Attempt | None] = []
    lane = threading.Thread(target=lambda: waiting.append(hands.flow.next()))
    lane.start()
    hands.flow.wait(0.05)
    assert not waiting
    hands.finish(posted[0])
    lane.join(DEADLINE)
    assert waiting[0] is not None


def slow_by_count(hands: Hands) -> None:
    for attempt in [hands.prepare()[0] for _ in range(MAX_DELIVERIES)]:
        assert hands.post() is attempt
        hands.finish(attempt)


def slow_by_bytes(hands: Hands) -> None:
    hands.prepare()
    hands.finish(hands.post(), bounds.MAX_DELIVERY_BYTES)


@pytest.mark.parametrize("slow", [slow_by_count, slow_by_bytes])
def test_slow_deliveries_stop_the_engine_and_the_intake_until_one_is_through(hands: Hands, slow: object) -> None:
    assert callable(slow)
    hands.learn(run_seconds=1, preparing_seconds=0.5)
    slow(hands)
    delivering = hands.flow.messages
    assert hands.flow.room()[0] == 0
    hands.prepare()
    posted: list[Attempt | None] = []
    lane = threading.Thread(target=lambda: posted.append(hands.flow.next()))
    lane.start()
    hands.flow.wait(0.05)
    assert not posted
    hands.flow.ended(delivering[0])
    lane.join(DEADLINE)
    assert posted[0] is not None


def test_large_inputs_stop_the_intake_and_the_preparing_of_others(hands: Hands) -> None:
    hands.prepare(input_bytes=bounds.MAX_PREPARED_BYTES)
    [message] = hands.receive()
    assert hands.flow.room()[0] == 0
    preparing = threading.Thread(target=hands.open, args=(message,))
    preparing.start()
    hands.flow.wait(0.05)
    assert preparing.is_alive()
    hands.post()
    preparing.join(DEADLINE)
    assert not preparing.is_alive()


def test_a_closed_flow_gives_back_what_the_engine_was_not_sent_and_takes_no_more(hands: Hands) -> None:
    sent, kept = hands.prepare(2)
    assert hands.post() is sent
    late = hands.open(*hands.receive())
    assert hands.flow.close() == [kept]
    assert hands.flow.next() is None
    assert not hands.flow.prepared(late, 0.1)


def test_the_flow_is_empty_when_every_message_has_ended(hands: Hands) -> None:
    messages = hands.receive(2)
    for message in messages:
        assert not hands.flow.is_empty
        hands.flow.ended(message)
    assert eventually(lambda: hands.flow.is_empty)


def test_a_receive_that_waited_for_a_message_is_no_reason_to_take_messages_earlier() -> None:
    forecast = Forecast()
    for seconds in (5.0, 0.02, 4.0):
        forecast.received(seconds)
        forecast.prepared(0.1)
    assert forecast.preparing == pytest.approx(0.02 + 0.1 + _HANDING_SECONDS)


def test_of_preparations_all_but_the_rarest_count() -> None:
    forecast = Forecast()
    for seconds in [0.1] * 60 + [2.0]:
        forecast.prepared(seconds)
    assert forecast.preparing == pytest.approx(0.1 + _HANDING_SECONDS)
    for seconds in [2.0] * 5:
        forecast.prepared(seconds)
    assert forecast.preparing > 1


def test_jobs_whose_inputs_are_slow_to_come_keep_no_others_from_being_taken(hands: Hands) -> None:
    hands.learn(run_seconds=1, preparing_seconds=0.3)
    slow = [hands.open(message) for message in hands.receive(2)]
    assert hands.flow.room()[0] == 0
    hands.clock.time += 1
    assert hands.flow.room()[0] > 0
    for attempt in slow:
        hands.flow.prepared(attempt, 1)
    assert hands.flow.room()[0] == 0


def test_inputs_that_are_always_slow_do_not_have_messages_taken_long_before_their_time() -> None:
    forecast = Forecast()
    for _ in range(10):
        forecast.prepared(60)
    assert forecast.preparing == _LONGEST_PREPARING_SECONDS

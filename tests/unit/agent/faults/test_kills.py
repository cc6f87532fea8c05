"""SIGKILL at random instants: no job is lost or told differently, and each kill costs a job one run at most."""

import random
import secrets
import threading
from collections import Counter
from contextlib import ExitStack
from logging import getLogger
from typing import Any

import pytest

from tests.unit.agent.faults.agents import assert_ended_once, state_of
from tests.unit.agent.faults.engine_proxy import proxied
from tests.unit.agent.faults.gpu import message
from tests.unit.agent.faults.processes import process
from tests.unit.agent.support import Cloud, eventually, held

log = getLogger(__name__)

JOBS = 8
KILLS = 3


@pytest.mark.parametrize("engine", ["sdwebui", pytest.param("comfyui", marks=pytest.mark.slow)])
def test_agents_that_are_killed_at_random_instants_lose_no_job(cloud: Cloud, engine: Any) -> None:
    """A killed agent's engine goes on, and is the next agent's; another agent and its engine work beside them."""
    instants = random.Random(seed := secrets.randbits(32))
    log.warning("the seed of the instants: %s", seed)
    jobs = {cloud.send(message(engine, number, steps=instants.randint(2, 20))): number for number in range(1, JOBS + 1)}
    with ExitStack() as stack:
        proxies = [stack.enter_context(proxied(engine, 0.02)) for _ in range(2)]
        agents = [stack.enter_context(process(cloud, proxy, proxy.url, MAX_STARTS="9")) for proxy in proxies]
        eventually(lambda: any(proxy.gpu.begun for proxy in proxies))
        for number in range(KILLS):
            threading.Event().wait(instants.uniform(0, 0.7))
            place = instants.randrange(2)
            agents[place].process.kill()
            agents[place].process.wait()
            agents[place] = stack.enter_context(process(cloud, proxies[place], f"next-{number}", MAX_STARTS="9"))
        assert_ended_once(cloud, jobs)
    assert cloud.count(cloud.dead_letter_queue) == 0
    begun = Counter(seed for proxy in proxies for seed in proxy.gpu.begun)
    assert max(begun.values()) <= 1 + KILLS
    # One runs in an engine, and one waits there.
    assert begun.total() <= JOBS + 2 * KILLS


def test_a_job_that_waited_in_an_agent_that_was_killed_has_no_start_more(cloud: Cloud) -> None:
    with proxied("sdwebui") as proxy, process(cloud, proxy, "first") as agent:
        cloud.send(message("sdwebui", 1))  # tells the agent how soon a job may be over
        eventually(lambda: proxy.gpu.finished)
        with held(proxy.tempo):
            cloud.send(message("sdwebui", 2))
            eventually(lambda: proxy.gpu.begun == [1, 2])
            waiting = cloud.send(message("sdwebui", 3))
            eventually(lambda: state_of(cloud, waiting))
            agent.process.kill()
            agent.process.wait()
            state = state_of(cloud, waiting)
            assert 3 not in proxy.gpu.begun
    assert state is not None
    assert state.starts == 0

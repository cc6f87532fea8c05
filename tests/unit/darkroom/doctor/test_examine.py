"""Of several links that are broken, the first is the cause: of all runtimes' trouble, or of one's."""

import pytest

from darkroom.doctor.chain import Link, Section, examine
from darkroom.doctor.context import Context
from darkroom.doctor.finding import Finding, Health, ok, wrong
from tests.unit.darkroom.doctor.world import World

PLACES = {"topic": Section.ENTRANCE, "queue": Section.RUNTIME, "pods": Section.RUNTIME, "outputs": Section.EXIT}


def chain(broken: set[str]) -> tuple[Link, ...]:
    def link(name: str, section: Section) -> Link:
        def look(it: Context) -> Finding:
            is_broken = f"{it.runtime}/{name}" in broken if section is Section.RUNTIME else name in broken
            return wrong("broken") if is_broken else ok("well")

        return Link(name, look, section, ())

    return tuple(link(name, section) for name, section in PLACES.items())


@pytest.mark.parametrize(
    ("broken", "causes"),
    [
        ({"topic", "sdxl/queue", "outputs"}, ["topic"]),
        ({"sdxl/queue", "sdxl/pods"}, ["sdxl/queue"]),
        ({"sdxl/pods", "comfy/queue"}, ["sdxl/pods", "comfy/queue"]),
        ({"sdxl/pods", "outputs"}, ["sdxl/pods"]),
        ({"comfy/pods", "outputs"}, ["comfy/pods"]),
        ({"outputs"}, ["outputs"]),
    ],
)
def test_the_first_that_is_broken_is_the_cause(intact: World, broken: set[str], causes: list[str]) -> None:
    found = examine([intact.context("sdxl"), intact.context("comfy")], chain(broken))
    assert [f"{it.runtime}/{it.name}" if it.runtime else it.name for it in found if it.is_cause] == causes


@pytest.mark.parametrize("error", [AttributeError, IndexError, KeyError, TypeError, ValueError])
def test_an_answer_that_is_not_understood_is_unknown(intact: World, error: type[Exception]) -> None:
    def look(_: Context) -> Finding:
        raise error("surprise")

    [found] = examine([intact.context()], (Link("queue", look, Section.RUNTIME, ()),))
    assert found.finding.health is Health.UNKNOWN
    assert f"not understood: {error.__name__}" in found.finding.words

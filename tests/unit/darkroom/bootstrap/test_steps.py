"""What runs the steps: whatever they are, they are done once, in order, and it is clear where it stopped."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from darkroom.bootstrap.steps import ActRequired, Context, Options, StepFailed, run, undo
from darkroom.cluster_files import load_cluster
from darkroom.trouble import Trouble
from tests.unit.darkroom.bootstrap.fork import AT_ONCE, ROOT


@dataclass
class Switch:
    """A step that is done once it was done."""

    title: str
    log: list[str]
    is_on: bool = False
    act: Callable[[], None] = field(default=lambda: None)

    def is_done(self) -> bool:
        return self.is_on

    def do(self) -> None:
        self.log.append(f"do {self.title}")
        self.act()
        self.is_on = True

    def undo(self) -> None:
        self.log.append(f"undo {self.title}")
        self.is_on = False


def context(options: Options = AT_ONCE) -> Context:
    folder = ROOT / "clusters" / "local"
    console = Console(file=io.StringIO(), width=200, highlight=False)
    return Context(Path("clusters/local"), load_cluster(folder), console, options)


def said(of: Context) -> str:
    assert isinstance(of.console.file, io.StringIO)
    return of.console.file.getvalue()


def fails(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def test_steps_are_done_in_order_and_undone_the_other_way_round() -> None:
    log: list[str] = []
    steps = [Switch("one", log), Switch("two", log, is_on=True), Switch("three", log)]
    run(steps, context())
    undo(steps, context())
    assert log == ["do one", "do three", "undo three", "undo two", "undo one"]


def test_a_failure_names_the_step_and_how_to_go_on_and_nothing_comes_after_it() -> None:
    log: list[str] = []
    steps = [Switch("one", log, act=fails(Trouble("no luck"))), Switch("two", log)]
    with pytest.raises(StepFailed, match=r"^one: no luck\n.*run darkroom bootstrap clusters/local again$"):
        run(steps, context())
    assert log == ["do one"]


def test_a_step_that_does_not_reach_what_it_is_for_has_failed() -> None:
    class Idle(Switch):
        def do(self) -> None:
            pass

    with pytest.raises(StepFailed, match="one: everything was done, and it is still not as"):
        run([Idle("one", [])], context())


def test_what_takes_a_while_to_show_is_waited_for() -> None:
    @dataclass
    class Slow(Switch):
        looks: int = 0

        def is_done(self) -> bool:
            self.looks += 1
            return self.is_on and self.looks > 3

    run([Slow("one", [])], context(Options(poll_seconds=0.001, settle_seconds=30)))


def test_a_person_who_has_to_act_stops_it_and_is_told_the_same() -> None:
    log: list[str] = []
    with pytest.raises(ActRequired, match=r"^merge it$"):
        run([Switch("one", log, act=fails(ActRequired("merge it"))), Switch("two", log)], context())
    assert log == ["do one"]


def test_whoever_stops_it_by_the_keyboard_is_told_where_it_was() -> None:
    here = context()
    with pytest.raises(KeyboardInterrupt):
        run([Switch("one", [], act=fails(KeyboardInterrupt()))], here)
    assert "stopped at one; what is done stays done" in said(here)


def test_a_dry_run_of_either_kind_does_nothing() -> None:
    log: list[str] = []
    here = context(Options(dry_run=True))
    run([Switch("one", log), Switch("two", log, is_on=True)], here)
    undo([Switch("three", log)], here)
    assert log == []
    assert said(here).splitlines() == [" 1/2 one: would be made", " 2/2 two: there", " 1/1 three: would be taken away"]


def test_waiting_ends_with_what_was_waited_for_or_says_that_it_never_came() -> None:
    answers = iter([None, False, "here"])
    assert context().wait("it comes", lambda: next(answers)) == "here"
    with pytest.raises(StepFailed, match="it never comes: still not so after"):
        context(Options(poll_seconds=0.001, wait_seconds=0)).wait("it never comes", lambda: None)

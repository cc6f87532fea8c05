"""How an examination is told: lines as they come and the first broken link at the end, or JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape

from darkroom.doctor.chain import Examined, Section
from darkroom.doctor.finding import Finding, Health

_MARKS = {
    Health.OK: "[green]✓[/green]",
    Health.WRONG: "[red]✗[/red]",
    Health.UNKNOWN: "[yellow]?[/yellow]",
    Health.ABSENT: "[dim]-[/dim]",
}


def tell(console: Console, examined: Iterable[Examined]) -> list[Examined]:
    """Show each link when it was looked at, and return all of them."""
    told: list[Examined] = []
    for each in examined:
        title = f"runtime {each.runtime}" if each.runtime else each.section.value
        if not told or (told[-1].section, told[-1].runtime) != (each.section, each.runtime):
            console.print(f"[bold]{escape(title)}[/bold]")
        console.print(_line(each))
        told.append(each)
    return told


def conclude(console: Console, told: list[Examined]) -> None:
    """Say where it stops and what to do about it."""
    causes = [each for each in told if each.is_cause]
    unseen = [each.name for each in told if each.finding.health is Health.UNKNOWN]
    console.print()
    if causes:
        first = causes[0]
        console.print(f"[bold red]It stops at {escape(_place(first))}:[/bold red] {escape(first.finding.words)}")
        _remedy(console, first.finding)
    for other in causes[1:]:
        console.print(f"[red]Also {escape(_place(other))}:[/red] {escape(other.finding.words)}")
        _remedy(console, other.finding)
    if not causes:
        console.print(f"[green]Nothing is wrong[/green]{', as far as could be seen' if unseen else ''}.")
    if unseen:
        console.print(f"[yellow]Not seen:[/yellow] {', '.join(dict.fromkeys(unseen))}.")


def as_json(told: list[Examined]) -> dict[str, Any]:
    """The same as JSON: ``stops_at`` is the first broken link."""
    first = next((each for each in told if each.is_cause), None)
    return {
        "ok": first is None,
        "stops_at": {"link": first.name, "runtime": first.runtime} if first else None,
        "links": [
            {
                "link": each.name,
                "section": each.section.name.lower(),
                "runtime": each.runtime,
                "health": each.finding.health,
                "words": each.finding.words,
                "remedy": list(each.finding.remedy),
                "is_cause": each.is_cause,
            }
            for each in told
        ],
    }


def _line(each: Examined) -> str:
    finding = each.finding
    aside = f" [dim]({'; '.join(escape(words) for words in finding.remedy)})[/dim]"
    is_unseen = finding.health is Health.UNKNOWN and finding.remedy
    follows = finding.is_wrong and not each.is_cause and each.section is not Section.JOB
    after = aside if is_unseen else " [dim](perhaps only because of the above)[/dim]" if follows else ""
    words = f"[dim]{escape(finding.words)}[/dim]" if finding.health is Health.ABSENT else escape(finding.words)
    return f"  {_MARKS[finding.health]} {each.name:<13} {words}{after}"


def _place(each: Examined) -> str:
    return f"{each.name} of {each.runtime}" if each.runtime else each.name


def _remedy(console: Console, finding: Finding) -> None:
    for command in finding.remedy:
        console.print(f"    {escape(command)}")

"""``darkroom runtime redrive``: which dead letters are meant, and how they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from darkroom.dead_letters import DeadLetter, DeadLetterQueue, Outcome
from darkroom.prompting import UsageError
from darkroom_contract.types import utcnow

#: How long dead letters are hidden from others at most, in seconds: while they are looked at, and while they are sent
#: back, which takes about a quarter of a second each.
_LOOK_SECONDS = 30
_SEND_SECONDS = 900


@dataclass(frozen=True)
class Choice:
    """The dead letters that are to be sent back; none when they are only to be listed."""

    ids: tuple[str, ...] = ()
    everything: bool = False
    include_poison: bool = False

    def check(self) -> None:
        """Raises ``UsageError`` when it contradicts itself."""
        if self.ids and self.everything:
            raise UsageError("give either --id or --all")
        if self.include_poison and not self.everything:
            raise UsageError("--include-poison goes with --all; by its id poison is sent back without it")

    def of(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Those that are meant; raises ``UsageError`` when one is not there."""
        if self.everything:
            return [letter for letter in letters if letter.job or self.include_poison]
        known = {letter.job_id for letter in letters} | {letter.message_id for letter in letters}
        if missing := set(self.ids) - known:
            raise UsageError(f"there is no dead letter {', '.join(sorted(missing))}")
        return [letter for letter in letters if letter.job_id in self.ids or letter.message_id in self.ids]


def list_all(console: Console, queue: DeadLetterQueue, *, as_json: bool) -> None:
    """Show what is in the dead-letter queue."""
    with queue.holding(_LOOK_SECONDS) as letters:
        pass  # they are given back before anything is shown
    if as_json:
        console.print_json(data=[letter.describe() for letter in letters])
    elif letters:
        console.print(_table(letters))
    else:
        console.print("there are no dead letters")


def send_back(console: Console, queue: DeadLetterQueue, choice: Choice, *, as_json: bool) -> bool:
    """Send dead letters back to the runtime's queue; whether none of those that are meant is left."""
    sent = []
    with queue.holding(_SEND_SECONDS) as letters:
        chosen = choice.of(letters)
        for letter in chosen:
            outcome = queue.send_back(letter)
            sent.append({**letter.describe(), "outcome": outcome.name.lower()})
            if not as_json:
                console.print(f"{escape(letter.id)}  {outcome}")
    if as_json:
        console.print_json(data=sent)
    elif not chosen:
        console.print("there is nothing to send back")
    if choice.everything and not as_json and (poison := len(letters) - len(chosen)):
        console.print(f"{poison} that are no job are left: send them back with --include-poison, or one with --id")
    return all(one["outcome"] != Outcome.BUSY.name.lower() for one in sent)


def _table(letters: Sequence[DeadLetter]) -> Table:
    table = Table(
        Column("id", overflow="fold"), "tenant", Column("label", overflow="fold"), "reason", "age", "receives"
    )
    now = utcnow()
    for letter in sorted(letters, key=lambda letter: letter.sent_at):
        told = (letter.told("reason"), letter.told("message"))
        reason = ": ".join(text for text in told if text) or "received too often: SQS moved it"
        tenant, label = (letter.job.tenant, letter.job.label) if letter.job else ("", "(no job)")
        table.add_row(letter.id, tenant, label, escape(reason), _age(letter.sent_at, now), str(letter.receives))
    return table


def _age(sent_at: datetime, now: datetime) -> str:
    seconds = max(0, int((now - sent_at).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"

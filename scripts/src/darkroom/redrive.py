"""``darkroom runtime redrive``: which dead letters are meant, and how they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from darkroom.dead_letters import DeadLetter, DeadLetterQueue, Outcome
from darkroom.trouble import UsageError

#: How long dead letters are hidden from others at most, in seconds, should the command be killed: while they are looked
#: at, and while they are sent back, which takes about a quarter of a second each.
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
        return
    for letter in sorted(letters, key=lambda letter: letter.sent_at):
        console.print(_in_words(letter))
    if not letters:
        console.print("there are no dead letters")


def send_back(console: Console, queue: DeadLetterQueue, choice: Choice, *, as_json: bool) -> bool:
    """Send dead letters back to the runtime's queue; whether none is left that is meant, and that the agent takes."""
    sent, is_done, poison = [], True, 0
    with queue.holding(_SEND_SECONDS) as letters:
        chosen = choice.of(letters)
        for letter in chosen:
            outcome = queue.send_back(letter, even_poison=choice.include_poison or letter.message_id in choice.ids)
            sent.append({**letter.describe(), "outcome": outcome.name.lower()})
            is_done &= outcome.is_sent or (outcome is Outcome.UNSENT and choice.everything)
            poison += outcome is Outcome.UNSENT
            if not as_json:
                advice = f"; --id {letter.message_id} sends it all the same" if outcome is Outcome.UNSENT else ""
                console.print(f"{escape(letter.id)}  {outcome}{advice}")
    if as_json:
        console.print_json(data=sent)
        return is_done
    if not chosen:
        console.print("there is nothing to send back")
    if choice.everything and (poison := poison + len(letters) - len(chosen)):
        console.print(
            f"{'1 is no job and is' if poison == 1 else f'{poison} are no jobs and are'} left: "
            "send back with --all --include-poison, or one with --id"
        )
    return is_done


def _in_words(letter: DeadLetter) -> str:
    """In lines rather than columns: an id that is copied must never be folded."""
    label = f" {letter.job.label}" if letter.job and letter.job.label != letter.id else ""
    whose = f"job{label} of {letter.job.tenant}" if letter.job else "no job"
    times = "once" if letter.receives == 1 else f"{letter.receives} times"
    told = (letter.told("reason"), letter.told("message"))
    reason = ": ".join(text for text in told if text) or "received too often: SQS moved it"
    first = f"[bold]{escape(letter.id)}[/bold]  {whose}, {_age(letter.age_seconds)} old, received {times}"
    return f"{first}\n    {escape(reason)}"


def _age(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"

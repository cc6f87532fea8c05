"""Turns a prompt into what is to be seen: things with their colours, and a backdrop. Unknown words are left out.

Prompts are read from left to right, the longest name first; a colour or a number goes with the thing that follows it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from darkroom_demo.diffusion.colours import COLOURS
from darkroom_demo.diffusion.things import NAMES

#: Of a prompt; a picture shows no more.
MOST_THINGS = 6
#: With hyphens as spaces: "teddy-bear" is as good as "teddy bear", "t shirt" as "t-shirt".
_NAMES = {name.replace("-", " "): thing for name, thing in NAMES.items()}
_LONGEST_NAME = max(len(name.split()) for name in _NAMES)
_NUMBERS = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "dozen": 12,
    "2": 2,
    "3": 3,
    "4": 4,
    "5": 5,
    "6": 6,
    "pair": 2,
}
_SHADES = {
    "gray": "grey",
    "silver": "grey",
    "violet": "purple",
    "golden": "yellow",
    "gold": "yellow",
    "crimson": "red",
    "scarlet": "red",
    "azure": "blue",
    "navy": "blue",
    "teal": "green",
    "emerald": "green",
    "magenta": "pink",
}
_COLOUR_NAMES = {name: name for name in COLOURS} | _SHADES
_BACKDROPS = {"background", "backdrop", "sky", "wall", "paper", "ground"}
_NIGHT = {"night", "midnight", "darkness"}
_NIGHT_COLOUR = (0.09, 0.11, 0.22)
_SILENT = frozenset(
    (  # noqa: SIM905 - easier to read
        "a an the and or with of in on at by to for from near next beside side under over behind before above below "
        "between front it its is are some single one very small large big little tiny dark light bright pale "
        "picture photo image drawing painting emoji icon illustration "
        "break"  # the web UI's, between chunks of a prompt
    ).split()
)
_WITHOUT = {"without", "no"}
#: What prompts may hold beside words: the engines' weights, networks and brackets; endings.
_MARKUP = re.compile(r"<[^<>]*>|'s\b|:\s*-?\d+(?:\.\d+)?|[()\[\]{}|\\\"!?;+*#]")
_TOKEN = re.compile(r"[^\W_]+|,")


@dataclass(frozen=True)
class Wanted:
    """A thing, and the colour that it is to have if not its usual one."""

    thing: str
    colour: str | None = None


@dataclass(frozen=True)
class Scene:
    """What a prompt asks for; `backdrop` is red, green and blue from 0 to 1, or None where the prompt names none."""

    things: tuple[Wanted, ...]
    backdrop: tuple[float, float, float] | None
    unknown: tuple[str, ...]
    #: Known words that nothing came of: things that there was no room for, colours that nothing was to have.
    left_out: tuple[str, ...]


def read(prompt: str) -> Scene:
    """Read a prompt."""
    return _Reader(_TOKEN.findall(_MARKUP.sub(" ", prompt.lower()))).read()


class _Reader:
    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.things: list[Wanted] = []
        self.unknown: list[str] = []
        self.backdrop: tuple[float, float, float] | None = None
        self.unused: list[str] = []
        #: What was said of the thing to come: its colour, by the word for it, how many, and whether it is to be absent.
        self.colour: str | None = None
        self.number = 1
        self.absent = False

    def read(self) -> Scene:
        at = 0
        while at < len(self.words):
            at = self._read_from(at)
        self._end_of_phrase()
        kept, left_out = self.things[:MOST_THINGS], self.things[MOST_THINGS:]
        unseen = dict.fromkeys([*self.unused, *(wanted.thing for wanted in left_out)])
        return Scene(tuple(kept), self.backdrop, tuple(dict.fromkeys(self.unknown)), tuple(unseen))

    def _read_from(self, at: int) -> int:
        """Read a name or a word, and return where the next begins."""
        word, found = self.words[at], self._name_at(at)
        if word in _COLOUR_NAMES and (not found or (found[1] == 1 and self._describes_next(at))):
            self._leave_out_colour()
            self.colour = word
            return at + 1
        if found:
            thing, length = found
            if not self.absent:
                self.things += [Wanted(thing, self.colour and _COLOUR_NAMES[self.colour])] * self.number
            self.colour, self.number, self.absent = None, 1, False
            return at + length
        self._note_word(word)
        return at + 1

    def _note_word(self, word: str) -> None:
        """Note what a word that is neither a colour nor a name says."""
        if word in _BACKDROPS:
            if self.colour:
                self.backdrop, self.colour = COLOURS[_COLOUR_NAMES[self.colour]], None
        elif word in _NIGHT:
            self.backdrop = _NIGHT_COLOUR
        elif word in _NUMBERS:
            self.number = _NUMBERS[word]
        elif word in _WITHOUT:
            self.absent = True
        elif word == ",":
            self._end_of_phrase()
        elif word not in _SILENT:
            self.unknown.append(word)

    def _end_of_phrase(self) -> None:
        """Give a colour that nothing followed to the thing before it: "a car, blue"."""
        if self.colour and self.things and self.things[-1].colour is None:
            self.things[-1] = Wanted(self.things[-1].thing, _COLOUR_NAMES[self.colour])
            self.colour = None
        self._leave_out_colour()
        self.number, self.absent = 1, False

    def _leave_out_colour(self) -> None:
        if self.colour:
            self.unused.append(self.colour)
        self.colour = None

    def _describes_next(self, at: int) -> bool:
        """Whether what follows can have a colour, so that an "orange" is none."""
        return self._is_backdrop(at + 1) or self._name_at(at + 1) is not None

    def _is_backdrop(self, at: int) -> bool:
        return at < len(self.words) and self.words[at] in _BACKDROPS

    def _name_at(self, at: int) -> tuple[str, int] | None:
        """Return the thing whose longest name begins there, and how many words the name has."""
        for length in range(min(_LONGEST_NAME, len(self.words) - at), 0, -1):
            for name in _singulars(" ".join(self.words[at : at + length])):
                if name in _NAMES:
                    return _NAMES[name], length
        return None


def _singulars(name: str) -> Iterator[str]:
    yield name
    for ending, instead in (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe")):
        if name.endswith(ending):
            yield name.removesuffix(ending) + instead

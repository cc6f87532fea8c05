"""The pages of the documentation: their blocks, links, headings and tables. It reads files alone."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
_PARSER = MarkdownIt("commonmark").enable("table")
#: What a reader puts something of his own for: <cluster>, <a picture>.
_PLACEHOLDER = re.compile(r"<[a-z][a-z0-9 -]*>")
_ENDS_COMMAND = {"|", "||", "&&", "&", ";", ";;", "(", ")", "{", "}", "do", "done", "then", "fi"}
_REDIRECTS = {">", ">>", "<", "2>", "<<<"}


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    #: Of its first fence, as editors count.
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def pages() -> tuple[str, ...]:
    """Every page of the repository, by its path from the root: what git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(sorted(page for page in listed.stdout.splitlines() if (ROOT / page).is_file()))


@cache
def _parsed(page: str) -> tuple[Token, ...]:
    return tuple(_PARSER.parse((ROOT / page).read_text()))


def tokens(page: str) -> list[Token]:
    """A page's tokens, with those within lines in their place."""
    return [inner for token in _parsed(page) for inner in (token, *(token.children or ()))]


def blocks(*languages: str) -> list[Block]:
    """All blocks of these languages."""
    return [block for page in pages() for block in _blocks(page) if block.language in languages]


def _blocks(page: str) -> Iterator[Block]:
    for token in _parsed(page):
        if token.type == "fence":
            yield Block(page, (token.map or [0])[0] + 1, token.info.strip(), token.content)


def links(page: str) -> list[str]:
    """Where a page's links lead."""
    found = [token.attrGet("href") or token.attrGet("src") for token in tokens(page)]
    return [str(target) for target in found if target]


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for before, token in pairwise(_parsed(page)):
        if before.type == "heading_open":
            words = "".join(part.content for part in token.children or ())
            plain = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            found.add(plain if plain not in found else f"{plain}-1")
    return found


def inline_code(page: str) -> list[str]:
    """What stands in code within a page's sentences."""
    return [token.content for token in tokens(page) if token.type == "code_inline"]


def commands(text: str) -> list[list[str]]:
    """The simple commands of a shell's text, in their order, as words; placeholders are the word ``placeholder``.

    Of what is in ``$(…)`` the commands come by themselves.
    """
    text = _PLACEHOLDER.sub("placeholder", text)
    inner = [command for part in re.findall(r"\$\(([^()]+)\)", text) for command in commands(part)]
    lexer = shlex.shlex(re.sub(r"\\\n\s*", " ", text).replace("\n", "\n; "), posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if word in _ENDS_COMMAND or set(word) <= set(";&|()"):
            found.append([])
        else:
            found[-1].append(word)
    return [_without_surroundings(command) for command in found if command] + inner


def _without_surroundings(command: list[str]) -> list[str]:
    """A command without the variables before it and without where its output goes."""
    while command and re.fullmatch(r"[A-Za-z_]\w*=.*", command[0], re.DOTALL):
        command = command[1:]
    redirected = next((at for at, word in enumerate(command) if word in _REDIRECTS), len(command))
    return command[:redirected]

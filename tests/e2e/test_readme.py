"""A fresh clone follows README.md word by word: in an empty home, with nothing but what the page asks for.

What wants an AWS account is typed by other tests, against players of the programs and an AWS on loopback; what would
begin these tests anew is looked at, not run. Every other command of the page is typed here, in the page's order.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, blocks

README = [block for block in blocks("sh") if block.page == "README.md"]
#: Who types these commands, where it is not this test: a command's beginning, and a test.
ELSEWHERE = {
    ".venv/bin/darkroom bootstrap": "tests/e2e/test_bootstrap.py",
    ".venv/bin/darkroom models push": "tests/unit/darkroom/test_models.py",
    ".venv/bin/darkroom smoke": "tests/flow/test_smoke.py",
}
#: What a reader does in his editor.
EDITOR = r"""#!/bin/sh
sed -i 's/\bexample\b\(.*change\)/main\1/; s/"111122223333"/"444455556666"/' "$@"
sed -i 's/git.example.com/git.company.test/' "$@"
"""


class Terminal:
    """A shell that somebody types into. Leaving it ends what still runs in it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-e"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._shell.stdin
        self._shell.stdin.close()
        self._shell.terminate()
        self._shell.wait(60)

    def type(self, text: str, until: str = "") -> str:
        """Type it; what is said until a line has these words in it, or else until all of it has worked."""
        assert self._shell.stdin
        assert self._shell.stdout
        end = until or f"done-{os.urandom(8).hex()}"
        self._shell.stdin.write(f"{text}\n" if until else f"{text}\necho {end}\n")
        self._shell.stdin.flush()
        said = ""
        for line in self._shell.stdout:
            said += line
            if end in line:
                return said
        raise AssertionError(f"{text}\nfailed:\n{said}")


def typed(block: Block, placeholders: Mapping[str, str]) -> str:
    """What a reader types of a block: without what another test types."""
    text = block.text.replace("\\\n", "")
    for placeholder, value in placeholders.items():
        text = text.replace(placeholder, value)
    lines = (line for line in text.splitlines() if not line.startswith(tuple(ELSEWHERE)))
    return "\n".join(re.sub(r"^make test\b", "make --dry-run test >/dev/null", line) for line in lines)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home, but for what git wants to know of everybody; the fork is where the page says."""
    home, fork, tree = (tmp_path / name for name in ("home", "fork.git", "tree"))
    home.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    (home / ".gitconfig").write_text(
        "[user]\nname = A reader\nemail = reader@example.com\n[init]\ndefaultBranch = main\n"
        f'[url "file://{fork}"]\ninsteadOf = https://github.com/reader/darkroom.git\n'
    )
    editor = home / "editor"
    editor.write_text(EDITOR)
    editor.chmod(0o755)
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "The fork"]):
        subprocess.run(["git", *command], cwd=tree, env={**os.environ, "HOME": str(home)}, check=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", tree, fork], check=True)
    return home


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """The surroundings' own, without this environment's Python, and anything of AWS or Darkroom."""
    own = ("AWS_", "DARKROOM_", "PYTEST", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if folder != here)
    cache = subprocess.run(
        [Path(here, "uv"), "cache", "dir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    # Packages that were fetched before are not fetched again.
    return {**kept, "PATH": path, "HOME": str(home), "EDITOR": str(home / "editor"), "UV_CACHE_DIR": cache}


@contextmanager
def local_stack(clone: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """``make local`` in the first terminal, and the line by which another one finds it."""
    with Terminal(clone, environment) as terminal:
        said = terminal.type("exec make local", until="Ctrl-C")
        [export] = re.findall(r"export DARKROOM_URL=\S+ DARKROOM_API_KEY=\S+$", said, re.MULTILINE)
        yield export


def test_a_fresh_clone_follows_the_readme_word_by_word(tmp_path: Path, home: Path, environment: dict[str, str]) -> None:
    first, second, *others = README
    with Terminal(tmp_path, environment) as terminal:
        terminal.type(typed(first, {"<you>": "reader"}))
    clone = tmp_path / "darkroom"
    (drawn,) = (clone / "pictures").iterdir()
    with local_stack(clone, environment) as export, Terminal(clone, environment) as terminal:
        terminal.type(typed(second, {"<picture>.png": drawn.name}))
        terminal.type(export)
        said = "".join(terminal.type(typed(block, {})) for block in others)
    answers = [json.JSONDecoder().raw_decode(said, found.start())[0] for found in re.finditer(r'\{"id"', said)]
    assert [answer["id"] for answer in answers] == ["cat-001"] * 3, said
    assert len(list((clone / "pictures").iterdir())) == 4
    assert (clone / "clusters" / "main" / "runtimes" / "turbo" / "runtime.yaml").is_file()
    fork = ["git", "--git-dir", str(tmp_path / "fork.git")]
    pushed = subprocess.run([*fork, "log", "-1", "--format=%s"], capture_output=True, text=True, check=True)
    assert pushed.stdout == "Serve SDXL Turbo\n"


def test_what_the_page_says_of_a_runtime_is_what_its_command_writes() -> None:
    (example,) = [block for block in blocks("yaml") if block.page == "README.md"]
    (command,) = [block.text for block in README if "runtime new" in block.text]
    engine, checkpoint = re.findall(r"--(?:engine|checkpoint) (\S+)", command)
    assert f"engine: {engine}\n" in example.text
    assert f"checkpoint: {checkpoint}\n" in example.text


@pytest.mark.parametrize("test", ELSEWHERE.values())
def test_what_is_typed_elsewhere_is(test: str) -> None:
    assert (ROOT / test).exists()

"""What Renovate makes of the repository, as far as its configuration says: which versions it finds, in which groups.

Of Renovate's own managers it has only what they read here, as the real one was seen to do. Where the variable RENOVATE
names that one, a test compares.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import json5

from darkroom import programs
from tests.e2e.controlplane.binaries import COMPONENTS

ROOT = Path(__file__).parents[3]
CONFIGURATION: dict[str, Any] = json5.loads((ROOT / "renovate.json5").read_text())


@dataclass(frozen=True)
class Found:
    """A version that a manager found."""

    manager: str
    file: str
    #: Where the line begins in the file that has it; the version is in this line, or begins there.
    line: int
    name: str
    version: str
    kind: str = ""


#: Renovate's own managers: the files that they read by default, and for each kind of what they find there the name, if
#: the line does not say it, and what they read of a line.
_BUILT_IN: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
    "github-actions": (
        r"\.github/(workflows|actions)/.+\.yaml",
        [
            ("action", "", r"uses: (?P<name>[\w-]+/[\w-]+)(?:/[\w-]+)*@[0-9a-f]{40} # (?P<version>v\d+\.\d+\.\d+)$"),
            ("github-runner", "", r"runs-on: (?P<name>ubuntu)-(?P<version>\d+\.\d+)$"),
            ("uses-with", "python", r"python-version: \"(?P<version>[\d.]+)\"$"),
            ("uses-with", "sigstore/cosign", r"cosign-release: (?P<version>v[\d.]+)$"),
        ],
    ),
    "dockerfile": (
        r"(.+/)?Dockerfile",
        [
            (
                "stage",
                "",
                r"(?:ARG \w+_IMAGE=|FROM )(?P<name>[a-z][\w./-]+):(?P<version>[\w.-]+)(?:@sha256:\w+)?(?: AS \w+)?$",
            )
        ],
    ),
    "pep621": (
        r"(.+/)?pyproject\.toml",
        [("dependency-groups", "", r"\"(?P<name>[\w-]+)==(?P<version>[\d.]+)\"")],
    ),
    "npm": (
        r"(.+/)?package\.json",
        [("dependencies", "", r"\"(?P<name>@?[\w./-]+)\": \"(?P<version>\d+\.\d+\.\d+)\"")],
    ),
    "pip_requirements": ("", [("", "", r"^(?P<name>[\w.-]+)(?:\[[\w,-]+\])?==(?P<version>[\w.+-]+)")]),
    "crossplane": ("", [("provider", "", r"package: (?P<name>[\w./-]+):(?P<version>v[\d.]+)$")]),
}


@cache
def files() -> tuple[str, ...]:
    """The repository's files, by their paths in it, but for those that it leaves alone."""
    listed = programs.run("git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    ignored = [_pattern(each) for each in CONFIGURATION["ignorePaths"]]
    every = sorted({name for name in listed.split("\0") if name and (ROOT / name).is_file()})
    return tuple(name for name in every if not any(each.fullmatch(name) for each in ignored))


@cache
def found() -> tuple[Found, ...]:
    """Every version that its managers find."""
    return (*_found_by_its_own(), *_found_in_modules(), *_found_by_ours())


def group(one: Found) -> str | None:
    """The group in which it is raised: that of the last rule that says so."""
    names = [rule["groupName"] for rule in CONFIGURATION["packageRules"] if "groupName" in rule and _is_for(rule, one)]
    return names[-1] if names else None


def is_raised(one: Found) -> bool:
    """Whether it proposes newer versions: the last rule that says so counts."""
    said = [rule["enabled"] for rule in CONFIGURATION["packageRules"] if "enabled" in rule and _is_for(rule, one)]
    return not said or bool(said[-1])


def is_for(manager: dict[str, Any], name: str) -> bool:
    """Whether a manager's configuration has it read a file."""
    return any(_pattern(each).fullmatch(name) for each in manager.get("managerFilePatterns", ()))


def _found_by_its_own() -> Iterator[Found]:
    for manager, (default, kinds) in _BUILT_IN.items():
        for name in files():
            if re.fullmatch(default, name) or is_for(CONFIGURATION.get(manager, {}), name):
                for line, text in enumerate((ROOT / name).read_text().splitlines()):
                    for kind, dependency, pattern in kinds:
                        for match in re.finditer(pattern, text):
                            yield Found(manager, name, line, dependency or match["name"], match["version"], kind)


def _found_in_modules() -> Iterator[Found]:
    """Of a go.mod those that it requires itself, and those that its tools are of."""
    for component in COMPONENTS:
        name = f"tests/e2e/controlplane/modules/{component.name}/go.mod"
        for line, text in enumerate((ROOT / name).read_text().splitlines()):
            if match := re.match(rf"(?:require |\t){re.escape(component.module)} (?P<version>\S+)", text):
                yield Found("gomod", name, line, component.module, match["version"], "require")


def _found_by_ours() -> Iterator[Found]:
    for manager in CONFIGURATION["customManagers"]:
        for name in (name for name in files() if is_for(manager, name)):
            text = (ROOT / name).read_text()
            for each in manager["matchStrings"]:
                for match in re.finditer(each.replace("(?<", "(?P<"), text):
                    said = match.groupdict()
                    dependency = said.get("depName") or _filled(manager["depNameTemplate"], said)
                    for part in ("currentValue", "currentDigest"):
                        if part in said:
                            line = text.count("\n", 0, match.start(part))
                            yield Found("regex", name, line, dependency, said[part])


def _filled(template: str, said: dict[str, str]) -> str:
    return re.sub(r"\{\{\{(\w+)\}\}\}", lambda name: said[name[1]], template)


def _is_for(rule: dict[str, Any], one: Found) -> bool:
    wanted = {
        "matchManagers": one.manager,
        "matchPackageNames": one.name,
        "matchDepNames": one.name,
        "matchDepTypes": one.kind,
        "matchFileNames": one.file,
    }
    return all(_matches(rule[key], value) for key, value in wanted.items() if key in rule)


def _matches(patterns: list[str], value: str) -> bool:
    """Whether one of the patterns fits, if there are any, and none that begin with an exclamation mark."""
    wanted = [each for each in patterns if not each.startswith("!")]
    unwanted = [each[1:] for each in patterns if each.startswith("!")]
    fits = not wanted or any(_pattern(each).fullmatch(value) for each in wanted)
    return fits and not any(_pattern(each).fullmatch(value) for each in unwanted)


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    """A minimatch pattern: ** goes through folders, * does not."""
    parts = re.split(r"(\*\*/|\*\*|\*)", glob)
    return re.compile(
        "".join({"**/": "(?:.+/)?", "**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    )

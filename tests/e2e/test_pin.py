"""``darkroom pin`` with a real registry, cosign and git; GitHub's pull requests are played."""

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from darkroom import pin
from darkroom.cli import app
from darkroom.pin import Repositories
from tests.e2e import pins
from tests.e2e.pins import COSIGN, Clone, KeyPair
from tests.emulator import emulated_aws
from tests.programs import Programs, install
from tests.unit.darkroom.registries import FakeRegistry, named

_DARKROOM = str(Path(sys.executable).with_name("darkroom"))


@pytest.fixture
def registry() -> Iterator[str]:
    with pins.registry() as host:
        yield host


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return KeyPair.made(tmp_path_factory.mktemp("keys") / "own")


@pytest.fixture(scope="module")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return KeyPair.made(tmp_path_factory.mktemp("keys") / "other")


@dataclass(frozen=True)
class World:
    """A repository with a cluster, whose images are in a registry, and what ``darkroom pin`` meets on the PATH."""

    clone: Clone
    remote: Path
    registry: str
    keys: KeyPair
    programs: Programs

    def signed(self, image: str, content: str, tag: str = "latest") -> str:
        """Push and sign an image; its reference by digest."""
        reference = pins.push(f"{self.registry}/darkroom/{image}:{tag}", content)
        self.keys.sign(reference)
        return reference

    def pin(self, *arguments: str, status: int = 0, in_a_workflow: bool = False) -> str:
        """What ``darkroom pin`` says."""
        environment = {**self.programs.environment, "GITHUB_ACTIONS": "true" if in_a_workflow else ""}
        done = CliRunner().invoke(app, self._command(self.clone, *arguments), env=environment, catch_exceptions=False)
        assert done.exit_code == status, done.output
        return done.output

    def pin_at_once(self, *commands: tuple[Clone, str, *tuple[str, ...]]) -> None:
        """Run several, a process each, in these clones."""
        environment = {**os.environ, **self.programs.environment, "GITHUB_ACTIONS": ""}
        lines = [[_DARKROOM, *self._command(*command)] for command in commands]
        started = [subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) for line in lines]
        for process in started:
            said, _ = process.communicate()
            assert process.returncode == 0, said

    def _command(self, clone: Clone, *arguments: str) -> list[str]:
        options = ("--registry", self.registry, "--key", str(self.keys.public))
        return ["pin", str(clone.folder), *options, *arguments]

    def pulls(self) -> list[dict[str, str]]:
        """The pull requests that are open."""
        pulls = json.loads((self.programs.folder / "pulls.json").read_text())
        return [pull for pull in pulls if pull["state"] == "OPEN"]

    def on(self, branch: str) -> dict[str, str]:
        """The images on a branch of the remote's."""
        path = Path("clusters/main/images.yaml")
        content = pins.git(f"--git-dir={self.remote}", "show", f"{branch}:{path}")
        return {name: it for name, it in pin.images_in(path, content.encode()).items() if it}

    def gh(self) -> list[list[str]]:
        """The command lines that changed something on GitHub."""
        return [call for call in self.programs.calls("gh") if call[:3] != ["gh", "pr", "list"]]


@pytest.fixture
def world(tmp_path: Path, registry: str, keys: KeyPair) -> World:
    folder = tmp_path / "programs"
    folder.mkdir()
    programs = install(folder, "http://127.0.0.1:1", only=("gh",))
    (folder / "cosign").symlink_to(COSIGN)
    remote = folder / "repository.git"
    return World(Clone.of_new(remote, tmp_path / "clone"), remote, registry, keys, programs)


# What is pinned


def test_the_images_of_the_sources_are_pinned_and_those_that_are_not_built_are_named(world: World) -> None:
    agent = world.signed("agent", "agent", world.clone.tag("agent"))
    api = world.signed("api", "api", world.clone.tag("api"))
    said = world.pin()
    assert f"agent  nothing → {agent}" in said
    assert f"comfyui  not built yet: {world.registry}/darkroom/comfyui:{world.clone.tag('comfyui')}" in said
    assert world.clone.images == {"agent": agent, "api": api}
    expected = pins.IMAGES_FILE.replace('agent: ""', f"agent: {agent}").replace('api: ""', f"api: {api}")
    assert (world.clone.folder / "images.yaml").read_text() == expected


def test_the_signature_is_found_as_a_referrer_of_the_digest(world: World) -> None:
    """By the tag that stands for the list of referrers where a registry has no such list of its own."""
    reference = world.signed("agent", "referred to")
    assert reference.partition("@")[2].replace(":", "-") in pins.crane("ls", reference.partition("@")[0]).split()
    world.pin(f"agent={reference}")
    assert world.clone.images == {"agent": reference}


def test_the_same_pin_again_changes_nothing(world: World) -> None:
    reference = world.signed("agent", "agent")
    world.pin(f"agent={reference}")
    before = (world.clone.folder / "images.yaml").stat().st_ino
    assert "nothing has changed" in world.pin(f"agent={reference}")
    assert (world.clone.folder / "images.yaml").stat().st_ino == before


def test_two_pins_at_once_into_one_file_are_both_in_it(world: World) -> None:
    references = {image: world.signed(image, image) for image in ("agent", "api", "function", "sdwebui")}
    world.pin_at_once(*((world.clone, f"{image}={reference}") for image, reference in references.items()))
    assert world.clone.images == references
    assert sorted(path.name for path in world.clone.folder.iterdir()) == ["cluster.yaml", "images.yaml"]


# What is refused


@pytest.fixture(
    params=["tag", "wrong digest", "unsigned", "signed by another", "another's repository", "index", "name"]
)
def refused(request: pytest.FixtureRequest, world: World, other_keys: KeyPair) -> tuple[str, str]:  # noqa: PLR0911
    """What is given to the command, and a part of what it says."""
    own, kind = f"{world.registry}/darkroom", request.param
    if kind == "tag":
        world.signed("agent", "tagged", "v1")
        return f"agent={own}/agent:v1", "is not by digest"
    if kind == "wrong digest":
        return f"agent={own}/agent@sha256:{'0' * 64}", "is not in the registry"
    if kind == "unsigned":
        return f"agent={pins.push(f'{own}/agent:unsigned', 'unsigned')}", "has no signature that verifies"
    if kind == "signed by another":
        reference = pins.push(f"{own}/agent:other", "signed by another")
        other_keys.sign(reference)
        return f"agent={reference}", "has no signature that verifies"
    if kind == "another's repository":
        return f"api={world.signed('agent', 'agent')}", f"in another repository than its own, {own}/api"
    if kind == "index":
        part = world.signed("api", "part")
        pins.crane("index", "append", f"--manifest={part}", f"--tag={own}/api:index")
        index = f"{own}/api@{pins.crane('digest', f'{own}/api:index')}"
        world.keys.sign(index)
        return f"api={index}", "--provenance=false"
    return f"gateway={own}/gateway@sha256:{'0' * 64}", "there is no such image: it is one of agent, api, function"


def test_what_is_refused_is_said_and_nothing_is_written(world: World, refused: tuple[str, str]) -> None:
    given, words = refused
    good = world.signed("comfyui", "good")
    said = world.pin(f"comfyui={good}", given, status=1)
    assert words in said
    assert "Traceback" not in said
    assert "comfyui:" not in said
    assert (world.clone.folder / "images.yaml").read_text() == pins.IMAGES_FILE


def test_an_index_may_be_pinned_for_what_is_no_lambda(world: World) -> None:
    part, own = world.signed("agent", "part"), f"{world.registry}/darkroom/agent"
    pins.crane("index", "append", f"--manifest={part}", f"--tag={own}:index")
    index = f"{own}@{pins.crane('digest', f'{own}:index')}"
    world.keys.sign(index)
    world.pin(f"agent={index}")
    assert world.clone.images == {"agent": index}


def test_a_signature_of_another_digest_is_none(world: World) -> None:
    """Its owner may have put the referrers' tag of a signed image under that of another."""
    good, bad = world.signed("agent", "good"), pins.push(f"{world.registry}/darkroom/agent:bad", "bad")
    own = f"{world.registry}/darkroom/agent"
    signatures, forged = (f"{own}:{it.partition('@')[2].replace(':', '-')}" for it in (good, bad))
    pins.crane("copy", signatures, forged)
    assert "has no signature that verifies" in world.pin(f"agent={bad}", status=1)


def test_on_github_the_workflow_of_the_clusters_own_repository_and_branch_has_to_have_signed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.programs.folder / "cosign").unlink()
    install(world.programs.folder, "", only=("cosign",))
    world.programs.answer("cosign verify", "")
    for name, value in world.programs.environment.items():
        monkeypatch.setenv(name, value)
    cluster = pin.load(world.clone.folder)
    reference = pins.push(f"{world.registry}/darkroom/agent:keyless", "keyless")
    pin.pin(world.clone.folder, {"agent": reference}, Repositories(cluster, world.registry), pin.keyless(cluster))
    identity = "https://github.com/team/darkroom/.github/workflows/images.yaml@refs/heads/main"
    issuer = "https://token.actions.githubusercontent.com"
    who = ["--certificate-identity", identity, "--certificate-oidc-issuer", issuer]
    assert world.programs.calls("cosign") == [["cosign", "verify", "--k8s-keychain", *who, reference]]
    assert world.clone.images == {"agent": reference}


def test_cosign_logs_in_to_ecr_with_the_credentials_of_aws(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecr, login = "123456789012.dkr.ecr.eu-west-1.amazonaws.com", b64encode(b"AWS:123456789012-auth-token").decode()
    fake = FakeRegistry(login=f"Basic {login}", challenge=f'Basic realm="https://{ecr}/"')
    with emulated_aws() as aws, named(fake, tmp_path, ecr) as environment:
        own = {**world.programs.environment, "AWS_ENDPOINT_URL": aws, "AWS_ECR_DISABLE_CACHE": "true"}
        for name, value in {**own, **environment}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(pin.PinRefused):  # it has no signatures
            pin.by_key(world.keys.public)(f"{ecr}/darkroom/agent@sha256:{'0' * 64}")
    assert f"Basic {login}" in {request.headers.get("Authorization") for request in fake.asked}


# By a pull request


def test_a_pull_request_says_what_changes_and_leaves_the_working_tree_as_it_is(world: World) -> None:
    old = world.signed("agent", "old", world.clone.tag("agent"))
    world.pin()
    world.clone.commit("The first pin")
    world.clone.write("agent/Dockerfile", "FROM newer\n")
    world.clone.commit("A newer base\n\n@everyone")
    new = world.signed("agent", "new", world.clone.tag("agent"))
    world.clone.write("clusters/main/images.yaml", "being edited")
    head = world.clone.git("rev-parse", "HEAD")
    said = world.pin("--pull-request")
    (pull,) = world.pulls()
    assert f"pull request  {pull['url']}" in said
    branch, where = pull["headRefName"], ["--base", "main"]
    title = ["--title", "Pin agent of main", "--body-file", "-"]
    create = ["gh", "pr", "create", "--repo", "team/darkroom", "--head", branch, *where, *title]
    assert world.gh() == [create]
    assert branch.startswith("pin/main/")
    assert world.on(branch) == {"agent": new}
    log = world.clone.git("rev-parse", "--short", "HEAD") + " A newer base\n"
    for part in (f"- from `{old}`", f"- to `{new}`", f"`{world.clone.tag('agent')}`", f"~~~~\n{log}~~~~"):
        assert part in pull["body"]
    assert world.clone.git("rev-parse", "HEAD") == head
    assert world.clone.git("status", "--short") == "M clusters/main/images.yaml"
    assert world.clone.git("branch", "--format=%(refname:short)") == "main"
    changed = pins.git(f"--git-dir={world.remote}", "diff", "--name-only", "main", branch)
    assert changed == "clusters/main/images.yaml"


def test_a_pull_request_of_the_same_content_is_found(world: World) -> None:
    reference = world.signed("agent", "agent")
    said = world.pin(f"agent={reference}", "--pull-request")
    assert world.pin(f"agent={reference}", "--pull-request") == said
    assert len(world.gh()) == 1


def test_what_is_merged_needs_no_pull_request(world: World) -> None:
    reference = world.signed("agent", "agent")
    world.pin(f"agent={reference}")
    world.clone.commit("Pinned")
    assert "nothing has changed" in world.pin(f"agent={reference}", "--pull-request")
    assert world.gh() == []


def test_a_newer_pull_request_has_the_pins_of_the_older_and_closes_it(world: World) -> None:
    agent, old, new = world.signed("agent", "agent"), world.signed("api", "old"), world.signed("api", "new")
    world.pin(f"agent={agent}", f"api={old}", "--pull-request")
    (older,) = world.pulls()
    world.clone.write("README.md", "Something else is pushed meanwhile.")
    world.clone.commit("Something else")
    world.pin(f"api={new}", "--pull-request")
    (newer,) = world.pulls()
    assert world.on(newer["headRefName"]) == {"agent": agent, "api": new}
    assert "Supersedes #1" in newer["body"]
    said = f"Superseded by {newer['url']}, which has these pins, too."
    close = ["gh", "pr", "close", "--repo", "team/darkroom", "1", "--comment", said, "--delete-branch"]
    assert world.gh()[-1] == close
    branches = pins.git(f"--git-dir={world.remote}", "branch", "--format=%(refname:short)").split()
    assert branches == ["main", newer["headRefName"]]
    assert older["headRefName"] not in branches


def test_a_pull_request_of_a_cluster_whose_name_begins_the_same_is_left_alone(world: World) -> None:
    others = "pin/main-2/0123456789ab"
    world.clone.git("push", "--quiet", "origin", f"main:{others}")
    other = {
        "number": 1,
        "url": "-",
        "headRefName": others,
        "isCrossRepository": False,
        "state": "OPEN",
        "base": "main",
    }
    (world.programs.folder / "pulls.json").write_text(json.dumps([other]))
    world.pin(f"agent={world.signed('agent', 'agent')}", "--pull-request")
    assert other in world.pulls()
    assert len(world.pulls()) == 2


def test_a_pull_request_of_what_is_not_wanted_any_more_is_closed(world: World) -> None:
    now, then = world.signed("agent", "now"), world.signed("agent", "then")
    world.pin(f"agent={now}")
    world.clone.commit("Pinned")
    world.pin(f"agent={then}", "--pull-request")
    assert "nothing has changed" in world.pin(f"agent={now}", "--pull-request")
    assert world.pulls() == []


def test_an_older_pull_request_does_not_take_back_what_was_pinned_meanwhile(world: World) -> None:
    world.pin(f"agent={world.signed('agent', 'older')}", "--pull-request")
    references = {image: world.signed(image, "by hand") for image in ("agent", "api")}
    world.pin(f"agent={references['agent']}")
    world.clone.commit("By hand")
    world.pin(f"api={references['api']}", "--pull-request")
    (pull,) = world.pulls()
    assert world.on(pull["headRefName"]) == references


def test_a_pull_request_that_somebody_has_changed_gets_its_content_back(world: World) -> None:
    reference = world.signed("agent", "agent")
    world.pin(f"agent={reference}", "--pull-request")
    (pull,) = world.pulls()
    branch = pull["headRefName"]
    world.clone.git("push", "--quiet", "--force", "origin", f"main:{branch}")
    world.pin(f"agent={reference}", "--pull-request")
    assert world.pulls() == [pull]
    assert world.on(branch) == {"agent": reference}


def test_of_two_clones_that_pin_at_once_no_pin_is_lost(world: World, tmp_path: Path) -> None:
    references = {image: world.signed(image, image) for image in ("agent", "api")}
    other = Clone.of(world.remote, tmp_path / "other")
    agent, api = (f"{image}={reference}" for image, reference in references.items())
    world.pin_at_once((world.clone, agent, "--pull-request"), (other, api, "--pull-request"))
    (pull,) = world.pulls()
    assert world.on(pull["headRefName"]) == references


def test_one_that_was_killed_before_its_pull_request_goes_on(world: World) -> None:
    reference = world.signed("agent", "agent")
    world.programs.fail("gh pr create")
    assert "it was to fail" in world.pin(f"agent={reference}", "--pull-request", status=1)
    world.pin(f"agent={reference}", "--pull-request")
    assert len(world.pulls()) == 1


def test_what_somebody_else_put_into_a_pull_request_is_not_taken_on_unsigned(world: World) -> None:
    world.pin(f"agent={world.signed('agent', 'agent')}", "--pull-request")
    (older,) = world.pulls()
    unsigned = pins.push(f"{world.registry}/darkroom/api:unsigned", "by somebody")
    world.clone.git("fetch", "--quiet", "origin", older["headRefName"])
    world.clone.git("checkout", "--quiet", "--detach", "FETCH_HEAD")
    path = world.clone.folder / "images.yaml"
    path.write_text(path.read_text().replace('api: ""', f"api: {unsigned}"))
    identity = ("-c", "user.name=B", "-c", "user.email=b@example.org")
    world.clone.git(*identity, "commit", "--quiet", "--all", "--message=More")
    world.clone.git("push", "--quiet", "origin", f"HEAD:{older['headRefName']}")
    function = world.signed("function", "function")
    said = world.pin(f"function={function}", "--pull-request", status=1)
    assert f"api: {unsigned} has no signature that verifies" in said
    assert world.pulls() == [older]
    world.keys.sign(unsigned)
    world.pin(f"function={function}", "--pull-request")
    (newer,) = world.pulls()
    assert list(world.on(newer["headRefName"])) == ["agent", "api", "function"]


def test_a_pull_request_of_a_workflow_is_checked_by_ci(world: World) -> None:
    world.programs.answer("gh workflow run", "")
    reference = world.signed("agent", "agent")
    world.pin(f"agent={reference}", "--pull-request", in_a_workflow=True)
    (pull,) = world.pulls()
    run = ["gh", "workflow", "run", "ci.yaml", "--repo", "team/darkroom", "--ref", pull["headRefName"]]
    assert world.gh()[-1] == run


def test_without_github_there_are_no_pull_requests(world: World) -> None:
    elsewhere = pins.CLUSTER.replace("github.com", "git.team.net")
    (world.clone.folder / "cluster.yaml").write_text(elsewhere)
    reference = world.signed("agent", "agent")
    said = world.pin(f"agent={reference}", "--pull-request", status=1)
    assert "pin without --pull-request, and commit the file" in said
    world.pin(f"agent={reference}")
    assert world.clone.images == {"agent": reference}

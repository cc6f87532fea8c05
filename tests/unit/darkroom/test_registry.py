import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom import registry
from darkroom.local.kubelet import free_port
from darkroom.registry import Manifest, RegistryTrouble
from darkroom.trouble import UsageError
from tests.emulator import emulated_aws
from tests.unit.darkroom.registries import INDEX, MANIFEST, FakeRegistry, digest, manifest, named, serving

_ECR = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"
_CHINA = "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn"
_PUBLIC = "registry.example.org"


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry({f"darkroom/agent/{name}": manifest() for name in ("v1", digest(manifest()))})


@pytest.fixture
def host(fake: FakeRegistry) -> Iterator[str]:
    """The registry on loopback."""
    with serving(fake) as host:
        yield host


@pytest.fixture
def names(fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The registry under the names that registries have on the Internet."""
    with named(fake, tmp_path, _ECR, _CHINA, _PUBLIC) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.parametrize("wanted", [":v1", f"@{digest(manifest())}"])
def test_a_manifest_is_found_by_its_tag_and_by_its_digest(host: str, wanted: str) -> None:
    assert registry.manifest_of(f"{host}/darkroom/agent{wanted}") == Manifest(digest(manifest()), MANIFEST)


def test_what_is_not_there_has_no_digest(host: str) -> None:
    assert registry.digest_of(f"{host}/darkroom/agent:v2") is None
    assert registry.digest_of(f"{host}/darkroom/other:v1") is None


def test_an_index_is_told_from_a_manifest_by_its_own_words(fake: FakeRegistry, host: str) -> None:
    """Its bytes are what the digest is of; the header of the answer is the registry's."""
    fake.manifests["darkroom/agent/index"] = manifest(INDEX)
    found = registry.manifest_of(f"{host}/darkroom/agent:index")
    assert found is not None
    assert found.is_index


def test_what_is_no_image_is_refused(fake: FakeRegistry, host: str) -> None:
    fake.manifests["darkroom/agent/other"] = manifest("application/vnd.cncf.helm.config.v1+json")
    with pytest.raises(RegistryTrouble, match=r"is no image: its manifest is of the type application/vnd\.cncf\.helm"):
        registry.digest_of(f"{host}/darkroom/agent:other")


@pytest.mark.parametrize("content", [b"[]", b"\xff", b'{"mediaType": []}'])
def test_what_is_no_manifest_is_refused(fake: FakeRegistry, host: str, content: bytes) -> None:
    fake.manifests["darkroom/agent/other"] = content
    with pytest.raises(RegistryTrouble, match="is no image"):
        registry.digest_of(f"{host}/darkroom/agent:other")


def test_bytes_that_do_not_have_the_digest_are_refused(fake: FakeRegistry, host: str) -> None:
    wanted = f"sha256:{'0' * 64}"
    fake.manifests[f"darkroom/agent/{wanted}"] = manifest()
    with pytest.raises(RegistryTrouble, match=f"is {wanted}, but it sends {digest(manifest())}: do not use it"):
        registry.digest_of(f"{host}/darkroom/agent@{wanted}")


def test_a_digest_in_the_header_that_the_bytes_do_not_have_is_refused(fake: FakeRegistry, host: str) -> None:
    fake.headers["Docker-Content-Digest"] = f"sha256:{'0' * 64}"
    with pytest.raises(RegistryTrouble, match="do not use it"):
        registry.digest_of(f"{host}/darkroom/agent:v1")


@pytest.mark.parametrize(
    "reference",
    [
        "agent:v1",
        "127.0.0.1:5000/agent",
        "127.0.0.1:5000/agent@sha256:12",
        "127.0.0.1:5000/a/../b:v1",
        "127.0.0.1/A:v1",
    ],
)
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(UsageError, match="say <registry>/<repository>:<tag>"):
        registry.digest_of(reference)


def test_a_registry_that_is_not_there_is_said() -> None:
    with pytest.raises(RegistryTrouble, match="cannot be reached"):
        registry.digest_of(f"127.0.0.1:{free_port()}/darkroom/agent:v1")


def test_a_registry_that_fails_is_said(fake: FakeRegistry, host: str) -> None:
    fake.status = 503
    with pytest.raises(RegistryTrouble, match=r"HTTP 503\. Try again later"):
        registry.digest_of(f"{host}/darkroom/agent:v1")


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("ecr", [_ECR, _CHINA])
def test_ecr_is_logged_in_to_with_the_credentials_of_aws(
    fake: FakeRegistry, ecr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = base64.b64encode(b"AWS:123456789012-auth-token").decode()
    fake.login = f"Basic {password}"
    with emulated_aws() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        assert registry.digest_of(f"{ecr}/darkroom/agent:v1") == digest(manifest())
        fake.login = "Basic another"
        with pytest.raises(RegistryTrouble, match=r"HTTP 401, authentication required.*ecr:BatchGetImage"):
            registry.digest_of(f"{ecr}/darkroom/agent:v1")


@pytest.mark.usefixtures("names")
def test_a_token_for_everyone_is_asked_for_where_a_registry_wants_one(fake: FakeRegistry) -> None:
    scope = "repository:darkroom/agent:pull"
    fake.challenge = f'Bearer realm="https://{_PUBLIC}/token",service="{_PUBLIC}",scope="{scope}"'
    fake.token, fake.login = "everyone's", "Bearer everyone's"
    assert registry.digest_of(f"{_PUBLIC}/darkroom/agent:v1") == digest(manifest())
    (asked,) = (request for request in fake.asked if request.path == "/token")
    assert asked.args.to_dict() == {"service": _PUBLIC, "scope": scope}


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("challenge", ["Basic", f'Bearer realm="https://{_PUBLIC}/token"', 'Bearer realm="http://x"'])
def test_a_registry_that_is_not_for_everyone_is_said(fake: FakeRegistry, challenge: str) -> None:
    fake.login, fake.challenge, fake.token = "Bearer of somebody", challenge, "everyone's"
    with pytest.raises(RegistryTrouble, match=r"does not let you read .*make it public, or have the image in ECR"):
        registry.digest_of(f"{_PUBLIC}/darkroom/agent:v1")

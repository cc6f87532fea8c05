"""``darkroom doctor`` as it is typed."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from darkroom import endpoint
from darkroom.cli import app
from darkroom.doctor.chain import CHAIN
from tests.unit.darkroom.doctor.world import World

DOCS = Path(__file__).parents[4] / "docs" / "troubleshooting.md"


@pytest.fixture
def folder(intact: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The world's cluster as files, in an environment that leads to its AWS."""
    folder = tmp_path / intact.names.cluster
    runtime = folder / "runtimes" / "sdxl"
    runtime.mkdir(parents=True)
    described = intact.files.cluster.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    (folder / "cluster.yaml").write_text(yaml.safe_dump({"cluster": described}))
    checkpoint = intact.files.runtimes["sdxl"].checkpoint
    (runtime / "runtime.yaml").write_text(f"runtime: {{engine: sdwebui, checkpoint: {checkpoint}}}\n")
    url = intact.aws.endpoint_url
    assert url
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "DARKROOM_URL": intact.api.url,
        "DARKROOM_API_KEY": intact.api_key,
        "PATH": str(tmp_path),  # neither aws nor kubectl
    }.items():
        monkeypatch.setenv(name, value)
    return folder


def doctor(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["doctor", "--cluster", str(folder), *options])


def test_what_is_well_is_said_and_what_could_not_be_seen(folder: Path) -> None:
    run = doctor(folder)
    assert run.exit_code == 0, run.output
    assert "Nothing is wrong, as far as could be seen." in run.output
    assert "aws is not installed" in run.output
    assert "Not seen: composite, scaler, deployment, nodes, pods, engine." in run.output


def test_where_it_stops_comes_last_with_what_to_type(intact: World, folder: Path) -> None:
    intact.api.status = 403
    run = doctor(folder, "--runtime", "sdxl", "--api-key", "of-nobody")
    assert run.exit_code == 1
    said = run.output
    assert "✓ gateway" in said
    assert "(perhaps only because of the above)" in said  # the API's answer
    end = said[said.index("It stops at key: DARKROOM_API_KEY is of no tenant") :]
    assert "\n    kubectl -n darkroom get secret api-key-default" in end
    assert "Also " not in end
    assert "of-nobody" not in said


def test_json_has_the_same(intact: World, folder: Path) -> None:
    intact.api.status = 502
    run = doctor(folder, "--json")
    assert run.exit_code == 1
    told = json.loads(run.output)
    assert (told["ok"], told["stops_at"]) == (False, {"link": "answer", "runtime": None})
    assert [each["link"] for each in told["links"]] == [link.name for link in CHAIN]
    assert intact.api_key not in run.output


def test_a_job_is_followed_first_and_its_runtime_examined(intact: World, folder: Path) -> None:
    intact.submit("mine")
    run = doctor(folder, "--job", "mine")
    assert run.exit_code == 0, run.output
    assert run.output.startswith("the job\n  ✓ request")
    assert "runtime sdxl" in run.output
    assert "a secret wish" not in run.output
    missing = doctor(folder, "--job", "none")
    assert (missing.exit_code, "there is no job none" in missing.output) == (1, True)


def test_a_prompt_to_try_is_not_sent_to_the_local_stack_of_another_cluster(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DARKROOM_URL", "DARKROOM_API_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with endpoint.reserved() as publish:
        publish(endpoint.LocalStack("local", "http://127.0.0.1:1", "key", "http://127.0.0.1:1"))
        run = CliRunner().invoke(app, ["smoke", "--cluster", str(folder)])
    assert run.exit_code == 1
    assert "the local stack that runs is the cluster local" in run.output
    assert "set DARKROOM_URL" in run.output


def test_an_unknown_runtime_is_refused_with_those_that_there_are(folder: Path) -> None:
    run = doctor(folder, "--runtime", "flux")
    assert (run.exit_code, run.output) == (1, "the cluster has no runtime flux; there are sdxl\n")


def test_another_account_is_refused(folder: Path) -> None:
    text = (folder / "cluster.yaml").read_text()
    (folder / "cluster.yaml").write_text(text.replace("123456789012", "444455556666"))
    run = doctor(folder)
    assert (run.exit_code, "these credentials are for account 123456789012" in run.output) == (1, True)


def test_without_a_local_stack_the_default_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    cluster = Path(__file__).parents[4] / "clusters" / "local"
    monkeypatch.chdir(tmp_path)
    run = doctor(cluster)
    assert (run.exit_code, "make local" in run.output) == (1, True)


def test_the_page_has_every_permission_that_a_look_takes() -> None:
    page = DOCS.read_text()
    missing = {permission for link in CHAIN for permission in link.permissions if permission not in page}
    assert not missing
    assert all(f"`{link.name}`" in page for link in CHAIN)

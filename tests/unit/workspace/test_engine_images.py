"""The engines' images, as far as their Dockerfiles tell: what the chart and the documentation ask of them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENGINES = ("comfyui", "sdwebui")

pytestmark = pytest.mark.parametrize("engine", ENGINES)


def _dockerfile(engine: str) -> str:
    return (ROOT / "engines" / engine / "Dockerfile").read_text()


def _last_stage(engine: str) -> str:
    return _dockerfile(engine).rpartition("\nFROM ")[2]


def test_an_init_starts_it_as_user_1000_who_has_a_name(engine: str) -> None:
    stage = _last_stage(engine)
    assert re.search(r'^ENTRYPOINT \["tini", "--", "python", "[a-z]+\.py"\]$', stage, re.M)
    assert re.search(r"^USER 1000:1000$", stage, re.M)
    assert re.search(r"^RUN useradd --uid 1000 --user-group ", stage, re.M)


def test_it_says_which_of_the_drivers_parts_it_needs_and_where_its_tokenizers_are(engine: str) -> None:
    stage = _last_stage(engine)
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in stage
    assert "HF_HOME=/app/huggingface" in stage


def test_it_listens_where_the_chart_looks_for_it(engine: str) -> None:
    (port,) = re.findall(r"^EXPOSE (\d+)$", _last_stage(engine), re.M)
    template = (ROOT / "apps/sd-runtime/templates/_engine.tpl").read_text()
    (arguments,) = re.findall(rf'define "engine\.arguments\.{engine}" -\}}\}}(.*?)\n\{{\{{- end \}}', template, re.S)
    assert f"- --port={port}\n" in arguments


def test_what_changes_seldom_and_is_large_is_in_layers_of_its_own(engine: str) -> None:
    copied = re.findall(r"^COPY --from=build (\S+) \S+$", _last_stage(engine), re.M)
    large = [path for path in copied if path.startswith("/layers/")]
    assert len(large) >= 3
    assert copied[1 : 1 + len(large)] == large
    assert set(re.findall(r"/layers/([a-z]+)", _dockerfile(engine).partition("\nFROM ")[2])) == {
        path.split("/")[2] for path in large
    }


def test_sources_are_fetched_by_their_commits(engine: str) -> None:
    text = _dockerfile(engine)
    assert "git clone" not in text
    commits = re.findall(r"_COMMIT=(\S+)", text)
    assert [len(commit) for commit in commits] == [40]
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in commits)


def test_pytorch_is_locked_with_the_cuda_that_it_is_built_for(engine: str) -> None:
    lock = (ROOT / "requirements" / f"{engine}.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.M))
    assert {"torch", "torchvision", "triton"} <= set(pinned)
    assert any(name.startswith("nvidia-cudnn-cu") for name in pinned)
    assert lock.count("--hash=sha256:") >= len(pinned)

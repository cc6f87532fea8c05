"""What Argo CD says of the composites: its script, run on the objects of ``health/``, each with what is to come out."""

from pathlib import Path
from typing import Any

import lupa.lua51
import pytest
import yaml

from darkroom_function.conditions import DEFECT, INVALID
from tests.charts.helm import APPS

CASES = sorted(Path(__file__).parent.glob("health/*.yaml"))


def _script() -> str:
    settings = yaml.safe_load((APPS / "root/values/argo-cd.yaml").read_text())["configs"]["cm"]
    script: str = yaml.safe_load(settings["resource.customizations"])["darkroom.dev/*"]["health.lua"]
    return script


def _health(composite: dict[str, Any]) -> tuple[str, str]:
    # As Argo CD runs it: Lua 5.1, without the libraries that reach outside.
    lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=False)
    for library in ("python", "io", "os", "package", "debug", "require", "dofile", "loadfile"):
        lua.globals()[library] = None
    lua.globals()["obj"] = lua.table_from(composite, recursive=True)
    health: Any = lua.execute(_script())
    return health["status"], health["message"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_health_of_a_composite(case: Path) -> None:
    expected = yaml.safe_load(case.read_text())
    status, message = _health(expected["object"])
    assert status == expected["status"], expected["reason"]
    assert expected["message"] in message, expected["reason"]
    assert (not message) == (not expected["message"]), expected["reason"]


@pytest.mark.parametrize("reason", [INVALID, DEFECT])
def test_the_script_knows_why_nothing_is_changed(reason: str) -> None:
    assert f'"{reason}"' in _script()

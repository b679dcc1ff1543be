from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dvid_es.settings import Settings

HERE = Path(__file__).parent
SCENARIOS = sorted(path.stem for path in (HERE / "scenarios").glob("*.py"))

# Scenarios that do not agree wholly yet, with the steps that differ (from 1) or, when the scenario
# cannot run because a datatype does not exist, "all". The list may only get shorter.
OPEN: dict[str, Any] = json.loads((HERE / "open.json").read_text())


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance", HERE / "conformance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["conformance"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def base(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("conformance") / "data"
    with run_server(Settings(data=data, admin_token="secret", allow_split=True)) as live:
        yield live.base


@pytest.mark.parametrize("name", SCENARIOS)
def test_answers_agree_with_the_recorded_ones(name: str, base: str, runner: ModuleType) -> None:
    expected = json.loads((HERE / "recordings" / f"{name}.json").read_text())
    if OPEN.get(name) == "all":
        with pytest.raises(Exception, match=r"cannot|Error|Expecting|JSON"):
            runner.run(name, HERE / "scenarios", base, "t", "secret")
        return
    session = runner.run(name, HERE / "scenarios", base, "t", "secret")
    found = runner.differences(expected, session.steps)
    differing = [int(text.split()[1]) if text.startswith("step ") else 0 for text in found]
    assert differing == OPEN.get(name, []), "\n".join(["", *found])

"""What the image runs is run here without Docker: command, health check, settings; and the files are linted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner
from yamllint import linter
from yamllint.config import YamlLintConfig

from dvid_es.cli.main import main
from dvid_es.settings import load
from tests.servers import ServerProcess, dvid_es

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
IMAGE = (DOCKER / "Dockerfile").read_text("utf-8")


def listed(instruction: str) -> list[str]:
    """The JSON list behind an instruction of the Dockerfile."""
    joined = IMAGE.replace("\\\n", " ")
    found = re.search(rf"^.*{instruction} (\[.*\])$", joined, re.MULTILINE)
    assert found, instruction
    words: list[str] = json.loads(found[1])
    return words


def compose() -> Any:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))


def test_the_compose_file_has_no_faults() -> None:
    rules = YamlLintConfig(
        "{extends: default, rules: {line-length: {max: 120}, document-start: disable}}"
    )
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    assert [str(problem) for problem in linter.run(text, rules)] == []
    broken = text.replace("services:", "services: ", 1)
    assert list(linter.run(broken, rules))


def test_the_command_of_the_image_serves_and_is_healthy(tmp_path: Path) -> None:
    assert listed("ENTRYPOINT") == ["dvid-es"]
    name, *options = listed("^CMD")
    assert name == "serve"
    given = dict(zip(options[::2], options[1::2], strict=False))
    assert given["--data"] == "/data"
    assert given["--host"] == "0.0.0.0"
    assert "--insecure-bind" in options
    with ServerProcess(tmp_path / "data", "--host", "0.0.0.0", "--insecure-bind") as server:
        check = listed(r"CMD(?= \[\"python\")")
        assert check[0] == "python"
        code = check[2].replace("8000", str(server.port))
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
        assert server.stop() == 0
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode


def test_the_kernels_are_warmed_by_a_command_that_there_is() -> None:
    assert "RUN dvid-es warmup" in IMAGE
    assert dvid_es("warmup", "--help").returncode == 0


def test_the_server_is_no_root_and_writes_to_its_volume_only() -> None:
    user = re.search(r"^USER (\w+)$", IMAGE, re.MULTILINE)
    assert user
    assert user[1] != "root"
    assert IMAGE.index("USER ") < IMAGE.index("RUN dvid-es warmup") < IMAGE.index("ENTRYPOINT")
    assert "VOLUME /data" in IMAGE


def test_the_compose_file_runs_the_server_on_the_broker_beside_it() -> None:
    services = compose()["services"]
    server = services["dvid_es"]
    assert set(server["depends_on"]) <= set(services)
    assert (DOCKER / server["build"]["context"] / server["build"]["dockerfile"]).resolve() == (
        DOCKER / "Dockerfile"
    )
    word, *options = server["command"]
    with main.make_context("dvid-es", [word, *options, "--help"], resilient_parsing=True):
        answer = CliRunner().invoke(main, [word, "--help"])
    assert all(option in answer.output for option in options if option.startswith("--"))
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in server["volumes"]}
    file = DOCKER / mounted[options[options.index("--config") + 1]]
    settings = load(file)
    assert str(settings.data) in mounted
    assert settings.log_backend == "kafka"
    assert [address.partition(":")[0] for address in settings.kafka_servers] == ["kafka"]
    advertised = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert advertised.endswith(settings.kafka_servers[0])


def test_nothing_that_the_package_needs_is_left_out_of_the_build() -> None:
    left_out = (ROOT / ".dockerignore").read_text("utf-8").split()
    for needed in ("dvid_es", "logs", "projections", "replay", "pyproject.toml", "README.md"):
        assert needed not in left_out
        assert f"/{needed}" not in left_out
        assert (ROOT / needed).exists()

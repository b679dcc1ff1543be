from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dvid_es.cli import main
from tests.servers import ServerProcess


def run(*words: object, **more: str) -> Result:
    return CliRunner().invoke(
        main, [str(word) for word in words], env={"DVID_ADMIN_TOKEN": None, **more}
    )


@pytest.fixture
def server(tmp_path: Path) -> ServerProcess:
    with ServerProcess(tmp_path / "data") as running:
        yield running


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    data = tmp_path_factory.mktemp("history") / "data"
    with ServerProcess(data) as running:
        root = running.new_repo()
        path = running.new_instance(root, "keyvalue", "kv")
        for number in range(20):
            running.ok("POST", f"{path}/key/{number % 7}", b"value %d" % number)
        running.ok("DELETE", f"{path}/key/3")
        assert running.stop() == 0
    return data, root


@pytest.fixture
def stopped(history: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    """A data folder with a history, and the root of its one repository; nobody serves it."""
    shutil.copytree(history[0], tmp_path / "data")
    return tmp_path / "data", history[1]


def test_repositories_and_instances_are_made_listed_renamed_and_deleted(
    server: ServerProcess,
) -> None:
    at = ("--server", server.url)
    root = run("repo", "new", "hemibrain", "--description", "half", *at).output.strip()
    assert len(root) == 32
    assert run("instance", "new", root, "keyvalue", "kv", "versioned=false", *at).exit_code == 0
    assert run("instance", "new", root, "labelmap", "seg", *at).exit_code == 0
    (listed,) = json.loads(run("repo", "list", "--json", *at).output)
    assert listed == {"root": root, "alias": "hemibrain", "versions": 1, "instances": 2}
    instances = json.loads(run("instance", "list", root[:6], "--json", *at).output)
    assert [(one["name"], one["versioned"]) for one in instances] == [("kv", False), ("seg", True)]
    assert run("repo", "rename", root, "whole brain", *at).exit_code == 0
    shown = run("repo", "info", root, *at).output
    assert "whole brain" in shown
    assert "master" in shown
    assert json.loads(run("instance", "info", root, "kv", *at).output)["Base"]["Name"] == "kv"
    assert run("instance", "rename", root, "kv", "values", *at).exit_code == 0
    assert run("instance", "delete", root, "seg", "--yes", *at).exit_code == 0
    names = [one["name"] for one in json.loads(run("instance", "list", root, "--json", *at).output)]
    assert names == ["values"]
    assert run("instance", "undelete", root, "seg", *at).exit_code == 0
    assert len(json.loads(run("instance", "list", root, "--json", *at).output)) == 2
    assert run("repo", "delete", root, *at).exit_code == 1  # nobody said yes
    assert run("repo", "delete", root, "--yes", *at).exit_code == 0
    assert json.loads(run("repo", "list", "--json", *at).output) == []
    assert run("repo", "undelete", root, *at).exit_code == 0
    assert run("repo", "info", root, *at).exit_code == 0


def test_what_the_server_refuses_is_exit_code_4_with_its_own_text(server: ServerProcess) -> None:
    refused = run("repo", "info", "abc", "--server", server.url)
    assert refused.exit_code == 4
    assert "could not find UUID" in refused.output


def test_a_server_that_does_not_answer_is_exit_code_6() -> None:
    assert run("repo", "list", "--server", "http://127.0.0.1:9").exit_code == 6


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    assert run("rebuild", "--upto", "3", "--data", tmp_path).exit_code == 2
    assert run("nothing").exit_code == 2
    assert run("instance", "new", "u", "keyvalue", "kv", "odd").exit_code == 2


def test_verify_rebuild_and_verify_again(stopped: tuple[Path, str]) -> None:
    data, root = stopped
    first = run("verify", "--data", data, "--json")
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert report["differences"] == []
    assert report["events"] == {root: 23}
    assert "keyvalue values" in {part["name"] for part in report["parts"]}
    assert run("rebuild", "--data", data).exit_code == 0
    assert json.loads(run("verify", "--data", data, "--json").stdout)["parts"] == report["parts"]
    assert sorted(path.name for path in data.iterdir()) == [
        "clean-stop", "lock", "projections", "repos",
    ]  # fmt: skip


def test_verify_of_spoiled_projections_is_exit_code_1_and_shows_the_key(
    stopped: tuple[Path, str],
) -> None:
    from dvid_es.projections.store import Store

    data, root = stopped
    store = Store(data / "projections")
    with store.write() as batch:
        batch.scope(root, None, None).put(b"\0\0\0\1\x20zzz", b"planted")
    store.close()
    found = run("verify", "--data", data)
    assert found.exit_code == 1
    assert "DIFFERENT: keyvalue values of instance 1" in found.output
    assert b"planted".hex() in found.output
    assert run("rebuild", "--data", data, "--repo", root).exit_code == 0
    assert run("verify", "--data", data).exit_code == 0


def test_a_store_as_of_an_earlier_event_is_built_aside(
    stopped: tuple[Path, str], tmp_path: Path
) -> None:
    data, root = stopped
    made = run(
        "rebuild",
        "--data",
        data,
        "--repo",
        root,
        "--upto",
        10,
        "--into",
        tmp_path / "new",
        "--json",
    )
    assert json.loads(made.stdout)["events"] == 10
    assert run("rebuild", "--data", data, "--into", tmp_path / "new").exit_code == 2


def test_a_snapshot_of_a_running_server_is_what_the_next_start_goes_on_from(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ServerProcess(data) as running:
        path = running.new_instance(running.new_repo(), "keyvalue", "kv")
        running.ok("POST", f"{path}/key/a", b"1")
        taken = run("snapshot", "--data", data, "--json")
        assert taken.exit_code == 0, taken.output
        assert sum(json.loads(taken.stdout)["offsets"].values()) == 3
        running.ok("POST", f"{path}/key/a", b"2")
        running.kill()
    assert run("snapshot", "--data", data, "--list").exit_code == 0
    shutil.rmtree(data / "projections")
    with ServerProcess(data) as running:
        assert running.ok("GET", f"{path}/key/a") == b"2"
        assert running.stop() == 0
    assert run("verify", "--data", data).exit_code == 0
    copy = data / "snapshots" / "00000001" / "data.mdb"
    copy.write_bytes(copy.read_bytes()[:-1])
    assert run("snapshot", "--data", data, "--list").exit_code == 1


def test_log_stat_and_tail_work_beside_a_running_server(
    server: ServerProcess, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    root = server.new_repo()
    path = server.new_instance(root, "keyvalue", "kv")
    server.ok("POST", f"{path}/key/a?u=kat&app=test", b"x" * 5000)
    (stat,) = json.loads(run("log", "stat", "--data", data, "--json").stdout)
    assert (stat["repo"], stat["events"], stat["segments"]) == (root, 3, 1)
    assert stat["pack_bytes"] > 5000
    tail = run("log", "tail", "--data", data, "--repo", root, "-n", "1", "--json")
    event = json.loads(tail.stdout)
    assert event["event"] == "keyvalue.put"
    assert (event["offset"], event["user"], event["app"]) == (2, "kat", "test")
    assert "keyvalue.put" in run("log", "tail", "--data", data, "--repo", root[:5]).output
    assert run("log", "tail", "--data", data, "--repo", "zz").exit_code == 4


def test_a_damaged_log_is_found_refused_repaired_and_rebuilt(stopped: tuple[Path, str]) -> None:
    data, root = stopped
    assert run("log", "verify", "--data", data).exit_code == 0
    (segment,) = (data / "repos" / root / "log").glob("*.log")
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    segment.write_bytes(damaged)
    found = run("log", "verify", "--data", data)
    assert found.exit_code == 1
    assert str(segment) in found.output
    refused = run("verify", "--data", data)
    assert refused.exit_code == 5
    assert "log repair --accept-loss" in refused.output
    assert run("log", "repair", "--data", data, "--repo", root).exit_code == 1
    assert segment.read_bytes() == bytes(damaged)
    assert run("log", "repair", "--data", data, "--repo", root, "--accept-loss").exit_code == 0
    ahead = run("verify", "--data", data)
    assert ahead.exit_code == 5
    assert "hold 23 events, its log only" in ahead.output
    assert run("rebuild", "--data", data).exit_code == 0
    assert run("verify", "--data", data).exit_code == 0
    assert run("log", "repair", "--data", data, "--repo", root).exit_code == 0


def test_a_configuration_is_checked_and_shown(tmp_path: Path) -> None:
    file = tmp_path / "dvid.toml"
    file.write_text('[server]\nhttpAddress = "localhost:9999"\nrwmode = "readonly"\n')
    assert run("config", "check", file).exit_code == 0
    shown = json.loads(run("config", "show", file, "--json", DVID_ADMIN_TOKEN="hush").stdout)
    assert (shown["port"], shown["mode"], shown["admin_token"]) == (9999, "readonly", "(set)")
    assert "hush" not in run("config", "show", file, DVID_ADMIN_TOKEN="hush").output
    file.write_text('[server]\nhttpAdress = "localhost:9999"\n')
    wrong = run("config", "check", file)
    assert wrong.exit_code == 3
    assert "httpAddress" in wrong.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed_for_each_shell(shell: str) -> None:
    printed = run("completion", shell)
    assert printed.exit_code == 0
    assert "_DVID_ES_COMPLETE" in printed.output


def test_the_script_for_bash_is_valid(tmp_path: Path) -> None:
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    script = tmp_path / "script"
    script.write_text(run("completion", "bash").output)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_every_command_and_option_explains_itself() -> None:
    import click

    def walk(command: click.Command, name: str) -> list[str]:
        missing = [] if command.help else [name]
        for option in command.params:
            if isinstance(option, click.Option) and not option.help and option.name not in (
                "server", "description", "as_json",
            ):  # fmt: skip
                missing.append(f"{name} --{option.name}")
        for word, inner in getattr(command, "commands", {}).items():
            missing += walk(inner, f"{name} {word}")
        return missing

    assert walk(main, "dvid-es") == []

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINKED = ("logs", "projections", "replay")
PACKAGES = ("dvid_es", *LINKED)
LINES_MAX = 600
FUNCTION_LINES_MAX = 70
GENERATED = {"messages_pb2.py"}


def modules() -> list[Path]:
    found = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name not in GENERATED and not _below_link(path)
    ]
    assert len(found) > 60
    return found


def _below_link(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return parts[0] == "dvid_es" and parts[1] in LINKED


def git(*words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git here")
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", LINKED)
def test_the_package_links_to_the_folders_at_the_root(name: str) -> None:
    link = ROOT / "dvid_es" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert (ROOT / name / "__init__.py").is_file()


def test_git_stores_the_links_as_links() -> None:
    listed = git("ls-files", "-s", *(f"dvid_es/{name}" for name in LINKED))
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["120000"] * 3


def test_git_ignores_none_of_our_modules() -> None:
    # A template's `logs/` in .gitignore would drop the package from the wheel without a word.
    paths = [str(path.relative_to(ROOT)) for path in modules()]
    ignored = git("check-ignore", "--no-index", *paths)
    assert ignored.stdout == ""
    assert ignored.returncode == 1


def test_no_folder_is_imported_by_its_bare_name() -> None:
    assert not {name for name in LINKED if name in sys.modules}


def test_no_module_grows_beyond_what_can_be_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in modules()
        if (lines := len(path.read_text("utf-8").splitlines())) > LINES_MAX
    }
    assert not long


def test_no_function_grows_beyond_a_screen() -> None:
    long = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                start = first.end_lineno if documented else node.lineno
                assert node.end_lineno is not None
                assert start is not None
                if node.end_lineno - start > FUNCTION_LINES_MAX and "kernel" not in path.name:
                    long.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not long


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path}: a relative import depends on which path found the file"
            )
            found.add((node.module or "").partition(".")[0])
    return found


HOMES = {
    "lmdb": ("projections/store.py",),
    "sanic": (
        "dvid_es/http/", "dvid_es/datatypes/*/endpoints*.py", "dvid_es/datatypes/*/answers.py",
        "dvid_es/repos/endpoints*.py",
        "dvid_es/repos/asking.py", "dvid_es/bootstrap.py",
    ),
    "aiokafka": ("logs/kafka_client.py",),
    "lz4": ("dvid_es/codecs/",),
    "isal": ("dvid_es/codecs/",),
    "numba": ("dvid_es/codecs/", "dvid_es/datatypes/*/kernels*.py"),
    "llvmlite": ("dvid_es/codecs/", "dvid_es/datatypes/*/kernels*.py"),
    "duckdb": ("dvid_es/analytics/guard.py", "dvid_es/analytics/worker.py"),
    "pyarrow": ("dvid_es/analytics/", "dvid_es/datatypes/labelmap/export/arrow.py"),
    "google_crc32c": ("logs/checksums.py",),
    "re2": ("dvid_es/codecs/patterns.py",),
    "jsonschema": ("dvid_es/datatypes/neuronjson/posted.py",),
    "PIL": ("dvid_es/codecs/images.py",),
    "crackle": ("dvid_es/bench/",),
    "click": ("dvid_es/cli/", "dvid_es/bench/"),
    "uvloop": ("dvid_es/http/serving.py",),
    "tomllib": ("dvid_es/settings_toml.py",),
    "uuid": ("dvid_es/clock.py",),
}  # fmt: skip


@pytest.mark.parametrize("package", HOMES)
def test_a_dependency_has_one_home(package: str) -> None:
    strays = [
        str(relative)
        for path in modules()
        if package in imports(path)
        and not any(_matches(relative := path.relative_to(ROOT), home) for home in HOMES[package])
    ]
    assert not strays


def _matches(path: Path, home: str) -> bool:
    # A star also reaches into the folders of a datatype.
    return str(path).startswith(home) if home.endswith("/") else fnmatch(str(path), home)


def test_numpy_stays_out_of_what_knows_bytes_only() -> None:
    small = [ROOT / "dvid_es" / f"{name}.py" for name in ("errors", "ids", "settings", "events")]
    for path in [*small, *(ROOT / "logs").glob("*.py")]:
        assert "numpy" not in imports(path), path


def test_errors_import_nothing() -> None:
    assert imports(ROOT / "dvid_es" / "errors.py") == set()


def test_commands_events_and_folds_read_no_clock_and_no_disk() -> None:
    impure = {
        "os",
        "time",
        "datetime",
        "random",
        "secrets",
        "uuid",
        "socket",
        "pathlib",
        "shutil",
        "lmdb",
        "sanic",
    }
    pure = [
        path
        for pattern in ("events*.py", "fold.py", "fold_*.py", "commands*.py")
        for folder in ("dvid_es/repos", "dvid_es/datatypes/*", "dvid_es/datatypes/*/*")
        for path in ROOT.glob(f"{folder}/{pattern}")
    ]
    assert len(pure) >= 12
    # Formatting a recorded time is no reading of the clock.
    allowed = {"dvid_es/repos/fold.py": {"datetime"}, "dvid_es/repos/commands.py": {"datetime"}}
    for path in pure:
        relative = str(path.relative_to(ROOT))
        assert not (imports(path) & impure) - allowed.get(relative, set()), path


def test_the_layers_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_the_layers_break_when_a_module_climbs(tmp_path: Path) -> None:
    for name in ("dvid_es", *LINKED):
        shutil.copytree(
            ROOT / name, tmp_path / name, symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "*.nb?", "bench", "cli"),
        )  # fmt: skip
    (tmp_path / "dvid_es" / "cli").mkdir()
    (tmp_path / "dvid_es" / "cli" / "__init__.py").touch()
    (tmp_path / "dvid_es" / "bench").mkdir()
    (tmp_path / "dvid_es" / "bench" / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "dvid_es" / "versions.py").open("a") as file:
        file.write("\nimport dvid_es.writer  # planted\n")
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "dvid_es.versions" in done.stdout


@pytest.mark.parametrize("words", [["check", "."], ["format", "--check", "."]])
def test_ruff_has_nothing_to_say(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_types_are_right() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:]

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dvid_es.bootstrap import row_kinds
from dvid_es.cli import main
from dvid_es.datatypes import DATATYPES
from dvid_es.events import BY_NUMBER
from dvid_es.http.datatype import Datatype
from dvid_es.http.jobs import JOB_ROUTES
from dvid_es.http.server import SERVER_ROUTES
from dvid_es.replay.digest import REPO_KINDS
from dvid_es.repos import endpoints as repos
from tests.conftest import Live
from tests.servers import environment

ROOT = Path(__file__).parent.parent


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented(text: str, method: str, word: str) -> bool:
    """Whether a line names the method, perhaps among others, and the path's word."""
    pattern = rf"^.*\b{method}\b.*/{re.escape(word)}(?![\w-])"
    return re.search(pattern, text, re.MULTILINE) is not None


def routes(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in table:
        method, _, word = key.partition(" ")
        # "*" tables answer any method as DVID does; HEAD goes with GET.
        if method not in ("*", "HEAD") and word not in ("", "*"):
            yield method, word


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda found: found.name)
def test_every_endpoint_of_a_datatype_is_in_its_help(datatype: Datatype) -> None:
    missing = [
        f"{method} {word}"
        for method, word in routes(datatype.endpoints)
        if not documented(datatype.help, method, word)
    ]
    assert not missing


def test_every_endpoint_of_server_repositories_versions_and_instances_is_in_the_help(
    live: Live,
) -> None:
    page = unescape(re.sub(r"</?[a-z][^>]*>", " ", live.ok("GET", "/api/help").text))
    tables = (
        SERVER_ROUTES, JOB_ROUTES, repos.REPOS_ROUTES, repos.REPO_ROUTES, repos.NODE_ROUTES,
        repos.COMMON_ROUTES,
    )  # fmt: skip
    missing = [
        f"{method} {word}"
        for table in tables
        for method, word in routes(table)
        if not documented(page, method, word)
    ]
    assert not missing


def test_the_check_of_endpoints_finds_a_missing_one() -> None:
    assert documented("  GET  {base}/key/<key>   a value", "GET", "key")
    assert not documented("  GET  {base}/keys\n  POST {base}/key/<key>", "GET", "key")
    assert not documented("  GET  {base}/key-range", "GET", "key")


@pytest.mark.parametrize("page", ["events.md", "settings.md"])
def test_the_pages_made_from_the_code_are_up_to_date(page: str) -> None:
    written = (ROOT / "docs" / page).read_text("utf-8")
    assert generator().PAGES[page]() == written, "run: make docs"


def test_every_event_has_a_sentence() -> None:
    for known in BY_NUMBER.values():
        assert known.kind.__doc__, known.name
        assert len(known.kind.__doc__.split()) > 3, known.name


def test_every_command_is_in_the_page_of_commands() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for path, command in generator()._walk(main, "dvid-es"):
        assert f"\n## {path}\n" in page, path
        for option in command.params:
            for name in option.opts:
                if name.startswith("--"):
                    assert name in page, f"{path} {name}"


def test_what_ci_runs_is_the_command_in_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    extract = next(line for line in script.splitlines() if line.startswith("command="))
    done = subprocess.run(
        ["sh", "-euc", f'{extract}\nprintf %s "$command"'],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    readme = (ROOT / "README.md").read_text("utf-8")
    assert done.stdout in readme
    assert done.stdout.endswith("-m pytest")


def links(path: Path) -> Iterator[Path]:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text("utf-8")):
        if "://" not in target:
            yield path.parent / target


def test_links_between_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "logs" / "FORMAT.md"]
    missing = [
        f"{page.name}: {link}" for page in pages for link in links(page) if not link.exists()
    ]
    assert not missing


def test_decisions_are_numbered_without_a_gap_and_each_fits_on_a_page() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04d}" for n in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text("utf-8")
        assert text.startswith(f"# {page.name[:4]}")
        assert len(text.splitlines()) < 70


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"^## \[(.+?)\]", text, re.MULTILINE)[1] == "Unreleased"  # type: ignore[index]


def test_the_generator_runs_as_a_script() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert done.stderr == ""
    assert "out of date:" in done.stdout


def test_every_kind_of_row_is_in_the_page_of_keys() -> None:
    page = (ROOT / "projections" / "KEYS.md").read_text("utf-8")
    kinds = {int(cell) for cell in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert kinds >= {*REPO_KINDS, *row_kinds()}

"""The manual builds strictly, needs no other machine, and holds what a stranger needs."""

import os
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
ELSEWHERE = re.compile(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?(?:https?:)?//[^>]*>""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: every link, anchor and place in the navigation is true."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = "\n".join(line for line in built.stderr.splitlines() if not line.startswith("INFO"))
    assert built.returncode == 0, said
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    pages = {page.with_name("index.html") if page.name == "README.html" else page for page in pages}
    assert {page for page in pages if not (site / page).is_file()} == set()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    found = {page.name: ELSEWHERE.findall(page.read_text("utf-8")) for page in site.rglob("*.html")}
    assert {page: links for page, links in found.items() if links} == {}


def test_the_search_works_from_a_folder(site: Path) -> None:
    index = (site / "index.html").read_text("utf-8")
    for script in re.findall(r'<script src="([^"]+)"', index):
        assert (site / script).is_file(), script
    assert "assets/iframe-worker.js" in index
    assert (site / "search" / "search_index.js").is_file()


def test_files_that_are_linked_are_there_to_open(site: Path) -> None:
    assert tomllib.loads((site / "repository" / "config.example.toml").read_text("utf-8"))["watch"]
    assert (site / "schemas" / "well-result.schema.json").is_file()
    assert (site / "repository" / "CHANGELOG.html").is_file()


def test_every_reader_has_a_place_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text("utf-8")
    for reader in ("Scientist", "Facility engineer", "ML scientist", "Developer"):
        assert reader in index


def test_links_between_pages_are_true_in_the_repository_too() -> None:
    wrong = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in [ROOT / "README.md", *DOCS.rglob("*.md")]
        for link in re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", page.read_text("utf-8"))
        if not (page.parent / link).exists()
    ]
    assert wrong == []


def test_the_first_plate_shows_every_command_of_a_new_user() -> None:
    text = (DOCS / "first-plate.md").read_text("utf-8")
    shown = " ".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    for name in ("simulate", "validate", "check", "process", "trace", "ledger verify", "run", "status"):
        assert f"hcs-daemon {name} " in shown


def blocks(page: str, start: str) -> list[str]:
    """Indented blocks of a page whose first line begins so."""
    text = (DOCS / page).read_text("utf-8")
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)
    return [
        block
        for block in (re.sub(r"^    ", "", one, flags=re.MULTILINE).strip() for one in found)
        if block.startswith(start)
    ]


def test_the_service_for_windows_is_well_formed_and_starts_the_daemon() -> None:
    text = re.findall(r"^```xml\n(.*?)^```", (DOCS / "install-windows.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    service = ET.fromstring(text[0])  # noqa: S314 (our own page)
    said = {element.tag: element.text or "" for element in service}
    assert said["id"] == "hcs-daemon"
    assert said["arguments"].startswith("run -c ")
    assert int(said["stoptimeout"].split()[0]) > 30  # seconds that a stop may take


@pytest.mark.parametrize("page", ["install-windows.md", "settings.md", "instruments.md"])
def test_settings_that_are_shown_are_toml(page: str) -> None:
    for block in blocks(page, "["):
        assert tomllib.loads(block)

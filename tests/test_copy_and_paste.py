"""As a new user would: from the README to a running service on a fresh Debian, by copy and paste alone."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from debian_tree import ROOT, copy_project, inside
from tree_systemd import put_stand_ins

INSTALLING = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("install*.md"))
LAST = "docs/install-offline.md"
"""It makes `.venv` anew."""
PAGES = ("README.md", *(page for page in INSTALLING if page != LAST), "docs/first-plate.md", LAST)
"""In the order in which they are worked through."""
OTHER_PAGES = {
    "docs/install-windows.md": "PowerShell, on Windows",
    "docs/install-container.md": "docker, which cannot run in a tree; test_container.py builds and runs the image",
}
"""Pages of which nothing can run here, and why."""
NO_COMMANDS = {
    "RESULTS/<plate>/<acquisition>/": "files that are written",
}
"""Blocks by their first line, and what they are."""
NOT_RUN = {
    "systemd-analyze security hcs-daemon": "asks systemd, which does not run in a tree; test_unit_file.py",
    "git clone … hcs-daemon && cd hcs-daemon": "the copy of the project stands for the clone",
    "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make install": "an index that the tests do not ask",
    "python3 bootstrap.py wheelhouse for-windows --for win_amd64 --python 3.12": "needs an index; test_wheelhouse.py",
    "python3 bootstrap.py wheelhouse for-linux --for linux_x86_64 --python 3.11": "needs an index; test_wheelhouse.py",
}
"""Commands that cannot run in the tree, and why."""
BY_HAND = {
    "cp config.example.toml config.toml": r"""
        sed -i -e 's/^package = .*/package = "demo"/' -e '/^ignore_channels/d' -e 's/^min_free_bytes.*//' \
            -e 's/^channels = .*/channels = { DNA = "1", ER = "2", RNA = "3", AGP = "4", Mito = "5" }/' config.toml"""
}
"""After a command: what the manual asks a person to do in an editor."""
SHELLS = {"", "sh", "bash", "shell", "console"}
USER = "newcomer"


@dataclass(frozen=True, slots=True)
class Block:
    """Code of a page. commands: one a line of an indented block, all of a fenced one together."""

    page: str
    commands: tuple[str, ...]


def blocks(page: str) -> list[Block]:
    """The shell's code of a page, in order."""
    found = []
    for token in MarkdownIt("commonmark").parse((ROOT / page).read_text("utf-8")):
        if token.type == "fence" and token.info.strip() in SHELLS:
            found.append(Block(page, (token.content.strip(),)))
        elif token.type == "code_block":
            found.append(Block(page, tuple(_lines(token.content))))
    return found


def _lines(text: str) -> Iterator[str]:
    """Each command without the remark behind it; a backslash joins lines."""
    for line in text.replace("\\\n", " ").splitlines():
        if command := re.sub(r"\s+#\s.*$", "", line).strip():
            yield re.sub(r"\s+", " ", command)


def to_run(page: str) -> list[str]:
    """The commands of a page that run in the tree."""
    if page in OTHER_PAGES:
        return []
    chosen = [block.commands for block in blocks(page) if block.commands[0] not in NO_COMMANDS]
    return [command for commands in chosen for command in commands if command not in NOT_RUN]


def as_typed(command: str) -> str:
    """What a person's hands add: an editor's work, and the end of a service once it is up."""
    if "\n" not in command and (service := re.fullmatch(r".*hcs-daemon run (-c \S+)", command)):
        up = f"until .venv/bin/hcs-daemon status {service[1]} 2> /dev/null; do sleep 1; done"
        return f"{command} & daemon=$!\n{up}\nkill $daemon\nwait $daemon"
    return command + BY_HAND.get(command, "")


@pytest.fixture
def machine(debian_tree: Path, project: Path, wheelhouse: Path, tmp_path: Path) -> Iterator[Path]:
    """A fresh Debian of a new user with a copy of the project; a folder of wheels is all it has of the internet."""
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", debian_tree, tree], check=True)
    shutil.copytree(wheelhouse, tree / "wheels", copy_function=os.link)
    download = [sys.executable, "-m", "pip", "download", "--quiet", "-c", str(ROOT / "constraints.txt"), "--dest"]
    subprocess.run([*download, str(tree / "wheels"), "hatchling", "editables"], check=True, capture_output=True)
    (tree / "etc" / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n", "utf-8")
    copy_project(project, tree / "home" / USER / "hcs-daemon")
    prepare = f"""
        useradd --home-dir /home/{USER} --shell /bin/bash {USER} && mkdir -p /data/incoming /data/results
        echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{USER}
        chown -R {USER}: /home/{USER} /data
    """
    assert inside(tree, prepare, user="root").returncode == 0
    put_stand_ins(tree)
    yield tree
    shutil.rmtree(tree)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_of_the_manual_runs_on_a_fresh_debian(machine: Path) -> None:
    for page in PAGES:
        commands = [as_typed(command) for command in to_run(page)]
        script = "\n".join(["cd hcs-daemon; set -ex", *commands])
        done = inside(machine, script, user=USER, timeout_s=900)
        assert done.returncode == 0, f"{page}:\n{done.stdout[-4000:]}"
    home = machine / "home" / USER / "hcs-daemon"
    assert list(home.glob("hcs-demo/results/*/*/wells/B03.json")), "the demonstration wrote nothing"
    assert list(home.glob("first-plate/results/PLATE2/*/wells/*.json")), "the service wrote nothing"
    assert (home / ".venv" / "bin" / "hcs-daemon").is_file()
    assert "service.ready" in (machine / "run" / "hcs-daemon@confocal.log").read_text("utf-8")


@pytest.mark.parametrize("command", [*NO_COMMANDS, *NOT_RUN, *BY_HAND])
def test_what_is_treated_otherwise_stands_in_a_page(command: str) -> None:
    assert any(command in block.commands for page in PAGES for block in blocks(page))


@pytest.mark.parametrize("page", OTHER_PAGES)
def test_pages_that_are_passed_over_have_commands(page: str) -> None:
    assert blocks(page)


def test_what_runs_leads_to_a_service() -> None:
    running = [command for page in PAGES for command in to_run(page)]
    assert "make demo" in running
    assert any(re.search(r"hcs-daemon run -c \S+.*&$", command, re.MULTILINE) for command in running)
    assert "python3 bootstrap.py install --wheelhouse wheelhouse" in running

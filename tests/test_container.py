"""The image: built without a network, run on a read-only root by a user without rights; and the compose example."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from debian_tree import ROOT, copy_project, need
from processes import SIMULATED_CHANNELS, free_port, make_place, run_program

COMPOSE = ROOT / "compose.example.yaml"
USER = 10001
WRITABLE = "/data/results"


@dataclass(frozen=True, slots=True)
class Image:
    """A container of the built image, which buildah runs commands in."""

    buildah: tuple[str, ...]
    container: str
    about: dict[str, Any]
    """The image's configuration, as Docker reads it."""

    @property
    def root(self) -> str:
        """Its root file system."""
        return buildah(*self.buildah, "mount", self.container)

    def run(self, *command: str, folder: Path, options: tuple[str, ...] = ()) -> tuple[int, str]:
        """Run a command as the image's user, on a root that is mounted read-only, with what `folder` holds in /data.

        Its exit status and all it wrote. The status is told by a shell inside: buildah's own is lost when it wants to
        take its mount points away from a root that is read-only.
        """
        volumes = [
            f"{folder}/etc:/etc/hcs-daemon:ro",
            f"{folder}/incoming:/data/incoming:ro",
            f"{folder}/results:{WRITABLE}",
        ]
        mounts = [word for volume in volumes for word in ("--volume", volume)]
        run = [*self.buildah, "run", "--cap-drop", "ALL", *mounts, "--mount", "type=tmpfs,destination=/tmp", *options]
        read_only = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
        inside = ["sh", "-c", '"$@" 2>&1; echo "exit status $?"', "sh", *command]
        sealed = ["unshare", "--mount", "sh", "-c", read_only, self.root, *run, self.container, "--", *inside]
        done = subprocess.run(sealed, capture_output=True, text=True, env=environment(), timeout=240, check=False)
        said, _, status = done.stdout.rpartition("exit status ")
        assert status.strip().isdigit(), done.stdout[-2000:] + done.stderr[-2000:]
        return int(status), said


def environment() -> dict[str, str]:
    return {**os.environ, "BUILDAH_ISOLATION": "chroot"}


def buildah(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(
    debian_tree: Path, project: Path, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Image]:
    """Built on a Debian with Python, with loopback alone, from a wheelhouse."""
    need("buildah", "unshare")
    work = tmp_path_factory.mktemp("container")
    call = ("buildah", "--root", str(work / "root"), "--runroot", str(work / "run"))
    base = buildah(*call, "from", "scratch")
    subprocess.run(["cp", "-a", f"{debian_tree}/.", buildah(*call, "mount", base)], check=True)
    buildah(*call, "commit", "--quiet", "--rm", base, "localhost/base")
    copy_project(project, work / "project")
    options = ("--format", "docker", "--build-arg", "BASE=localhost/base", "--pull-never")
    context = ("--build-context", f"wheelhouse={wheelhouse}", "--tag", "localhost/hcs-daemon", str(work / "project"))
    buildah("unshare", "--net", *call, "build", *options, *context)
    container = buildah(*call, "from", "localhost/hcs-daemon")
    root = Path(buildah(*call, "mount", container))
    for mounted in ("etc/hcs-daemon", "data/incoming", "data/results"):
        (root / mounted).mkdir(parents=True)
    (root / "run" / ".containerenv").touch()  # buildah's own
    about = json.loads(buildah(*call, "inspect", "--type", "image", "localhost/hcs-daemon"))
    yield Image(call, container, about["Docker"])
    buildah(*call, "rm", "--all")
    buildah(*call, "rmi", "--all", "--force")
    shutil.rmtree(work)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Settings, a simulated plate of six wells, and results that belong to the image's user."""
    place = make_place(tmp_path, SIMULATED_CHANNELS, explain="hits")
    made = run_program("simulate", place.watched, "--wells", 6, "--sites", 1)
    assert made.returncode == 0, made.stderr
    (tmp_path / "etc").mkdir()
    text = place.config.read_text("utf-8")
    inside = text.replace(str(place.watched), "/data/incoming").replace(str(place.results), WRITABLE)
    (tmp_path / "etc" / "config.toml").write_text(inside, "utf-8")
    place.results.mkdir()
    os.chown(place.results, USER, USER)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first of these makes the tree and the image
def test_the_image_holds_the_program_and_nothing_that_builds_or_tests(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    config = image.about["config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["hcs-daemon"]
    assert config["StopSignal"] == "SIGTERM"
    assert "9464/tcp" in config["ExposedPorts"]
    installed = next(Path(image.root).glob("opt/hcs-daemon/.venv/lib/python3*/site-packages"))
    names = {path.name for path in installed.iterdir()}
    assert {"hcs_daemon", "torch"} <= names
    assert not {"pip", "setuptools", "hatchling", "pytest"} & names
    assert [path for path in installed.rglob("tests") if path.is_dir()] == []
    assert sorted(path.name for path in (Path(image.root) / "opt" / "hcs-daemon").iterdir()) == [".venv"]
    size = sum(path.stat().st_size for path in installed.rglob("*") if path.is_file() and not path.is_symlink())
    with capsys.disabled():
        sys.stdout.write(f"\nthe image holds {size / 1e6:.0f} MB beside its base\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_root_is_read_only_even_for_root(image: Image, folder: Path) -> None:
    status, said = image.run("sh", "-c", "touch /tmp/x && touch /etc/x", folder=folder, options=("--user", "0"))
    assert status != 0
    assert "Read-only file system" in said


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_plate_goes_through_the_image(image: Image, folder: Path) -> None:
    settings = ("-c", "/etc/hcs-daemon/config.toml")
    status, said = image.run("hcs-daemon", "check", *settings, folder=folder)
    assert status == 0, said
    assert "temporary" not in said  # no cache that had to be put elsewhere
    status, said = image.run("hcs-daemon", "process", "/data/incoming", *settings, folder=folder)
    assert status == 0, said
    assert "6 wells: 6 complete" in said
    written = list((folder / "results").rglob("*"))
    assert {path.stat().st_uid for path in written} == {USER}
    assert len([path for path in written if path.parent.name == "wells" and path.suffix == ".png"]) == 6


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_service_is_healthy_by_the_image_s_own_check_and_stops_cleanly(image: Image, folder: Path) -> None:
    kind, *words = image.about["config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    service = shlex.join(image.about["config"]["Entrypoint"] + image.about["config"]["Cmd"])
    script = f"""
        {shlex.join(words)} 2> /tmp/said && exit 40
        {service} & daemon=$!
        for look in $(seq 100); do {shlex.join(words)} 2> /tmp/said && break; sleep 0.5; done
        {shlex.join(words)} || exit 41
        kill -TERM $daemon; wait $daemon
    """
    port = ("--env", f"HCS_DAEMON__HTTP__PORT={free_port()}")
    status, said = image.run("sh", "-c", script, folder=folder, options=port)
    assert status == 0, said


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    return found


def uncommented(text: str) -> str:
    """The example with its commented settings taken in, as its remarks invite to."""
    lines = [
        line.replace("# ", "", 1) if line.strip().startswith("# ") and _is_setting(line) else line
        for line in text.splitlines()
    ]
    return "\n".join(lines)


def _is_setting(line: str) -> bool:
    words = line.strip().removeprefix("# ")
    return line.startswith(" ") and (words.startswith(" ") or words.split(" ")[0].endswith(":"))


@pytest.mark.parametrize("change", [str, uncommented])
def test_the_example_is_what_the_compose_specification_takes(tmp_path: Path, change: Any) -> None:
    example = tmp_path / "compose.yaml"
    example.write_text(change(COMPOSE.read_text("utf-8")), "utf-8")
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", example], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_commented_settings_are_a_card_and_a_wheelhouse() -> None:
    service = yaml.safe_load(uncommented(COMPOSE.read_text("utf-8")))["services"]["hcs-daemon"]
    assert service["build"]["additional_contexts"] == {"wheelhouse": "wheelhouse"}
    (card,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert card["capabilities"] == ["gpu"]


def test_every_service_is_in_a_sandbox_and_answers_this_machine_only(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert "latest" not in service["image"]


def test_every_file_that_is_mounted_is_there(compose: dict[str, Any]) -> None:
    mounted = [volume for service in compose["services"].values() for volume in service["volumes"]]
    files = [volume.split(":")[0] for volume in mounted if isinstance(volume, str) and volume.startswith("./")]
    missing = {name for name in files if not (ROOT / name).exists()}
    assert missing == {"./settings"}  # in which everybody puts a copy of config.example.toml


def test_prometheus_and_grafana_find_what_they_are_given(compose: dict[str, Any]) -> None:
    services = compose["services"]
    scrape = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "scrape-compose.yaml").read_text("utf-8"))
    (job,) = scrape["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["hcs-daemon:9464"]}]
    for rules in scrape["rule_files"]:
        assert (ROOT / "monitoring" / "prometheus" / rules).is_file()
    assert "--config.file=/etc/prometheus/scrape-compose.yaml" in services["prometheus"]["command"]
    provisioning = ROOT / "monitoring" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text("utf-8"))["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "hcs-daemon.yaml").read_text("utf-8"))["providers"]
    targets = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/hcs-daemon.json" in targets


def test_compose_and_a_lone_prometheus_scrape_alike() -> None:
    folder = ROOT / "monitoring" / "prometheus"
    lone, composed = (
        yaml.safe_load((folder / f"scrape-{name}.yaml").read_text("utf-8")) for name in ("example", "compose")
    )
    for config in (lone, composed):
        for job in config["scrape_configs"]:
            del job["static_configs"]
    assert lone == composed


def test_the_base_is_pinned_by_its_digest() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    (base,) = [line for line in text.splitlines() if line.startswith("ARG BASE=")]
    assert len(base.partition("@sha256:")[2]) == 64

"""`hcs-daemon trace`: every step again, beside what was recorded; whatever was tampered with, it names that step."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from hcs_daemon.__main__ import main
from hcs_daemon.commands.retracing import Match, Values, compare
from hcs_daemon.novelty import Novelty
from hcs_daemon.publish.documents import predictions
from hcs_daemon.publish.schemas import WellResult
from hcs_daemon.tiff import encode_plane
from hostile_tiffs import plane
from model_packages import CHANNELS, manifest, write_tiny_package

WIDTH, HEIGHT = 80, 72
FILE = "P1__M1/Images/r02c03f01p02-ch1sk1fk1fl1.tiff"
STEPS = ["file", "decoded", "projected", "corrected", "resampled", "normalised", "tensor", "logits", "embedding"]


@dataclass(frozen=True)
class Traced:
    """One analysed plate: what was watched, the results and the package, all in one folder that may be moved."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def result(self) -> Path:
        return next((self.folder / "out").glob("*/*/wells/B03.json"))

    @property
    def plate(self) -> Path:
        return self.result.parent.parent / "plate.json"

    @property
    def index(self) -> Path:
        return self.folder / "in" / "P1__M1" / "Images" / "Index.idx.xml"

    def edit(self, path: Path, change: Callable[[Any], object]) -> None:
        """Change a JSON file."""
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document), "utf-8")

    def say(self, *more: str) -> tuple[int, str, str]:
        """Exit code, and what was said and what was complained of."""
        self.capsys.readouterr()
        moved = ("--root", str(self.folder / "in"), "--package", str(self.folder / "package"))
        code = main(["trace", str(self.result), *moved, *more])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def trace(self, *more: str) -> tuple[int, Any]:
        """Exit code, and the JSON."""
        code, said, _ = self.say("--json", *more)
        return code, json.loads(said)

    def named(self) -> tuple[int, str, str, int | None]:
        """Exit code, and of the first step that differs its name, what of, and the site."""
        code, found = self.trace()
        first = found["first"]
        assert first is not None
        assert code == found["exit_code"]
        return code, first["step"], first["of"], first["site"]


def profile(channel: int, tilt: float) -> str:
    """Harmony's entry of a channel, with a flat field."""
    form = f"Dims: [{WIDTH}, {HEIGHT}], Origin: [39.5, 35.5], Scale: [0.0125, 0.0125], Type: Polynomial"
    return (
        f"<Entry ChannelID='{channel}'><FlatfieldProfile>{{Channel: {channel}, ChannelName: A, Foreground: {{"
        f"Character: NonFlat, Profile: {{Coefficients: [[1.0], [{tilt}, 0.05]], {form}}}, Quality: 1.0}}, "
        f"Version: Acapella:2013}}</FlatfieldProfile></Entry>"
    )


def name(channel: int, site: int, z: int) -> str:
    return f"r02c03f{site:02d}p{z:02d}-ch{channel}sk1fk1fl1.tiff"


def analyse(folder: Path, projection: str = "max", novelty: Novelty | None = None) -> None:
    """A stack of two steps in three channels of two sites, with a flat field: written, and processed for real."""
    images = folder / "in" / "P1__M1" / "Images"
    images.mkdir(parents=True)
    entries = []
    for channel, site, z in [(channel, site, z) for channel in (1, 2, 3) for site in (1, 2) for z in (1, 2)]:
        seed = 100 * channel + 10 * site + z
        (images / name(channel, site, z)).write_bytes(encode_plane(plane(HEIGHT, WIDTH, seed=seed)))
        entries.append(
            f"<Image><URL>{name(channel, site, z)}</URL><Row>2</Row><Col>3</Col><FieldID>{site}</FieldID>"
            f"<PlaneID>{z}</PlaneID><TimepointID>1</TimepointID><ChannelID>{channel}</ChannelID>"
            "<ImageResolutionX>0.5e-6</ImageResolutionX></Image>"
        )
    profiles = "".join(profile(channel, 0.1 * channel) for channel in (1, 2, 3))
    (images / "Index.idx.xml").write_text(
        f"<EvaluationInputData><PlateID>BR1</PlateID>{''.join(entries)}<Maps><Map>{profiles}</Map></Maps>"
        "</EvaluationInputData>",
        "utf-8",
    )
    write_tiny_package(folder / "package", made=manifest(flatfield="instrument"), novelty=novelty)
    channels = ", ".join(f'{channel} = "{number}"' for number, channel in enumerate(CHANNELS, 1))
    more = f'flatfield = "instrument"\nprojection = "{projection}"'
    process(folder, f"bit_depth = 16\n{more}\nchannels = {{ {channels} }}")


def process(folder: Path, expect: str) -> None:
    (folder / "config.toml").write_text(
        f'[watch]\ndirectory = "{(folder / "in").as_posix()}"\n[expect]\n{expect}\n'
        f'[model]\npackage = "{(folder / "package").as_posix()}"\ndevice = "cpu"\n[explain]\npolicy = "none"\n'
        f'[results]\ndirectory = "{(folder / "out").as_posix()}"\npictures = "none"\nmin_free_bytes = 0\n'
        '[log]\nlevel = "error"\n',
        "utf-8",
    )
    assert main(["process", str(folder / "in"), "-c", str(folder / "config.toml")]) == 0


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()  # a command's log must not outlive it


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analysed")
    analyse(folder)
    return folder


@pytest.fixture
def traced(analysed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Traced:
    """A copy, to be tampered with."""
    shutil.copytree(analysed, tmp_path / "moved")
    return Traced(tmp_path / "moved", capsys)


# ---- nothing was changed


def test_where_nothing_was_changed_every_step_is_the_same_to_the_bit(traced: Traced) -> None:
    code, found = traced.trace()
    assert (code, found["first"], found["notes"]) == (0, None, [])
    assert [step["step"] for step in found["steps"] if step["of"] in {"", "DNA"} and step["site"] == 1] == STEPS[2:]
    assert {step["match"] for step in found["steps"] if step["step"] not in {"logits", "embedding"}} == {"same"}
    assert {step["match"] for step in found["steps"]} <= {"same", "rounded"}
    assert {step["site"] for step in found["steps"]} == {1, 2, None}


def test_the_result_says_itself_where_the_images_and_the_package_are(
    analysed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", str(next((analysed / "out").glob("*/*/wells/B03.json")))]) == 0
    assert "Every step of 2 sites is as it was recorded" in capsys.readouterr().out


def test_each_step_shows_shape_type_extremes_mean_and_digest(traced: Traced) -> None:
    _, found = traced.trace("--site", "2")
    now = {step["step"]: step["now"] for step in found["steps"] if step["of"] in {"", "DNA", "DNA z1"}}
    assert now["decoded"]["shape"] == now["projected"]["shape"] == now["corrected"]["shape"] == [HEIGHT, WIDTH]
    assert [now[step]["dtype"] for step in ("decoded", "projected", "corrected")] == ["uint16"] * 3
    assert now["resampled"]["shape"] == [HEIGHT // 2, WIDTH // 2]
    assert now["normalised"]["dtype"] == now["tensor"]["dtype"] == "float32"
    assert now["tensor"]["shape"] == [6, 3, 18, 18]
    assert now["normalised"]["mean"] == pytest.approx((now["resampled"]["mean"] - 100) / 100, rel=1e-5)
    assert all(len(now[step]["digest"]) == 64 for step in ("file", "decoded", "projected", "corrected", "tensor"))


def test_one_site_can_be_asked_for(traced: Traced) -> None:
    _, found = traced.trace("--site", "2")
    assert {step["site"] for step in found["steps"]} == {2, None}
    code, _, complaint = traced.say("--site", "7")
    assert code == 2
    assert "site 7 of B03 was not analysed\n--site takes 1, 2" in complaint


def test_a_person_reads_a_table_a_site_and_a_sentence(traced: Traced) -> None:
    code, said, _ = traced.say()
    assert code == 0
    lines = said.splitlines()
    assert [line for line in lines if line.startswith(("site", "the well"))] == ["site 1", "site 2", "the well"]
    assert any(line.split()[:8] == ["tensor", "6", "x", "3", "x", "18", "x", "18"] for line in lines)
    assert FILE in said


def test_an_older_revision_is_traced_as_the_newest_is(traced: Traced) -> None:
    older = traced.result.parent.parent / "revisions" / "B03.r1.json"
    older.parent.mkdir(exist_ok=True)
    shutil.copy(traced.result, older)
    moved = ("--root", str(traced.folder / "in"), "--package", str(traced.folder / "package"))
    assert main(["trace", str(older), *moved]) == 0


@pytest.mark.parametrize("projection", ["mean", "best_focus", "middle"])
def test_any_projection_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str], projection: str) -> None:
    analyse(tmp_path, projection)
    traced = Traced(tmp_path, capsys)
    code, found = traced.trace()
    assert (code, found["first"]) == (0, None)
    files = [step["path"] for step in found["steps"] if step["step"] == "file"]
    assert len(files) == (12 if projection == "mean" else 6)


def test_planes_that_were_imaged_again_since_are_left_out(traced: Traced) -> None:
    def supersede(result: Any) -> None:
        result["inputs"].append({**result["inputs"][0], "path": "P1__M1/Images/older.tiff", "used": "superseded"})

    traced.edit(traced.result, supersede)
    assert traced.trace()[0] == 0
    traced.edit(traced.plate, lambda plate: plate["expectations"].update(projection="mean"))
    assert traced.named() == (1, "projected", "DNA", 1)


def test_what_is_recorded_is_small_and_comes_back_as_it_was(traced: Traced) -> None:
    result = WellResult.model_validate_json(traced.result.read_bytes())
    for entry in result.site_results:
        assert [step.step for step in entry.steps] == STEPS[2:7]
        written = json.dumps([step.model_dump() for step in entry.steps])
        assert len(written) < 600 * len(CHANNELS)
    for prediction in predictions(result).values():
        entry = next(each for each in result.site_results if each.site == prediction.site.site)
        assert [step.digest for step in prediction.steps] == [tuple(step.digest) for step in entry.steps]
        assert [step.mean for step in prediction.steps] == [tuple(step.mean) for step in entry.steps]


# ---- what was changed is named


def test_other_pixels_in_a_file(traced: Traced) -> None:
    (traced.folder / "in" / FILE).write_bytes(encode_plane(plane(HEIGHT, WIDTH, seed=9)))
    code, found = traced.trace("--site", "1")
    assert code == 1
    assert (found["first"]["step"], found["first"]["of"], found["first"]["path"]) == ("file", "DNA z2", FILE)
    differ = {step["step"] for step in found["steps"] if step["match"] == "differs"}
    assert {"file", "decoded", "projected", "corrected", "resampled", "normalised", "tensor"} <= differ
    assert {step["of"] for step in found["steps"] if step["match"] == "differs"} <= {"DNA", "DNA z2", ""}


def test_a_single_pixel_in_a_file(traced: Traced) -> None:
    pixels = plane(HEIGHT, WIDTH, seed=112)
    pixels[40, 40] += 60
    (traced.folder / "in" / FILE).write_bytes(encode_plane(pixels))
    assert traced.named() == (1, "file", "DNA z2", 1)


def test_bytes_of_a_tag_leave_all_that_follows_the_same(traced: Traced) -> None:
    pixels = plane(HEIGHT, WIDTH, seed=112)
    (traced.folder / "in" / FILE).write_bytes(encode_plane(pixels, software="another program, of that name"))
    code, found = traced.trace()
    assert (code, found["first"]["step"], found["first"]["of"]) == (1, "file", "DNA z2")
    assert [step["step"] for step in found["steps"] if step["match"] == "differs"] == ["file"]


def test_a_file_that_is_refused_now(traced: Traced) -> None:
    data = (traced.folder / "in" / FILE).read_bytes()
    (traced.folder / "in" / FILE).write_bytes(data[: len(data) // 2])
    code, found = traced.trace("--site", "1")
    assert (code, found["first"]["step"]) == (1, "file")
    decoded = next(step for step in found["steps"] if step["step"] == "decoded" and step["of"] == "DNA z2")
    assert decoded["match"] == "differs"
    assert "truncated" in decoded["detail"]


def test_a_file_that_is_gone(traced: Traced) -> None:
    (traced.folder / "in" / FILE).unlink()
    code, found = traced.trace()
    assert (code, found["first"]["step"], found["first"]["path"]) == (4, "file", FILE)
    assert found["first"]["match"] == "unreachable"
    code, said, _ = traced.say()
    assert f"The first step that cannot be followed is file of DNA z2 of site 1 ({FILE}): the file is not" in said


def test_another_projection_in_the_settings(traced: Traced) -> None:
    traced.edit(traced.plate, lambda plate: plate["expectations"].update(projection="mean"))
    assert traced.named() == (1, "projected", "DNA", 1)
    traced.edit(traced.plate, lambda plate: plate["expectations"].update(projection="middle"))
    assert traced.named() == (1, "projected", "DNA", 1)


def test_a_coefficient_of_the_flat_field(traced: Traced) -> None:
    text = traced.index.read_text("utf-8")
    traced.index.write_text(text.replace("[0.2, 0.05]", "[0.21, 0.05]"), "utf-8")
    assert traced.named() == (1, "corrected", "ER", 1)


def test_a_flat_field_that_is_not_there_any_more(traced: Traced) -> None:
    traced.index.unlink()
    assert traced.named() == (4, "corrected", "DNA", 1)


def test_another_pixel_size_in_the_metadata(traced: Traced) -> None:
    text = traced.index.read_text("utf-8")
    traced.index.write_text(text.replace("0.5e-6", "0.55e-6"), "utf-8")
    assert traced.named() == (1, "resampled", "DNA", 1)


def test_a_constant_of_the_normalisation(traced: Traced) -> None:
    traced.edit(
        traced.folder / "package" / "manifest.json", lambda made: made["normalisation"][2].update(scale=100.001)
    )
    assert traced.named() == (1, "normalised", "Mito", 1)


def test_other_tiles(traced: Traced) -> None:
    """The weights do not fit them, so that the package is refused too; what differs counts first."""
    traced.edit(traced.folder / "package" / "manifest.json", lambda made: made.update(tile_px=16))
    assert traced.named() == (1, "tensor", "", 1)


def test_other_bytes_in_the_weights(traced: Traced) -> None:
    with (traced.folder / "package" / "model.pt2").open("ab") as weights:
        weights.write(b"\0")
    code, found = traced.trace()
    assert (code, found["first"]["step"], found["first"]["match"]) == (3, "logits", "no_model")
    assert "model.pt2 has the SHA-256" in found["first"]["detail"]
    before = [step["match"] for step in found["steps"] if step["step"] in STEPS[:7]]
    assert before == ["same"] * len(before)


def test_another_package(traced: Traced) -> None:
    other = manifest(flatfield="instrument", name="other")
    from model_packages import ChannelMeans  # noqa: PLC0415 (torch, for this row only)

    shutil.rmtree(traced.folder / "package")
    write_tiny_package(traced.folder / "package", ChannelMeans([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]), other)
    code, found = traced.trace()
    assert (code, found["first"]["step"]) == (3, "logits")
    assert "is another package, other 1.0" in found["first"]["detail"]


def test_no_package(traced: Traced) -> None:
    shutil.rmtree(traced.folder / "package")
    code, found = traced.trace()
    assert (code, found["first"]["step"]) == (3, "resampled")
    assert "manifest.json cannot be read" in found["first"]["detail"]
    assert {step["match"] for step in found["steps"] if step["step"] in STEPS[:4]} == {"same"}


@pytest.mark.parametrize("field", ["logits", "embedding"])
def test_what_the_network_gave_in_the_result(traced: Traced, field: str) -> None:
    def change(result: Any) -> None:
        result["site_results"][1][field][-1] += 0.001

    traced.edit(traced.result, change)
    assert traced.named() == (1, field, "", 2)


@pytest.mark.parametrize("field", ["label", "probabilities", "hit"])
def test_the_verdict_in_the_result(traced: Traced, field: str) -> None:
    def change(result: Any) -> None:
        said = result["prediction"]
        said["label"] = "odd" if field == "label" else said["label"]
        said["hit"] = said["hit"] != (field == "hit")
        if field == "probabilities":
            said["probabilities"]["odd"] = round(said["probabilities"]["odd"] / 2, 6)

    traced.edit(traced.result, change)
    assert traced.named() == (1, "verdict", "", None)


@pytest.mark.parametrize("step", STEPS[2:7])
def test_a_recorded_step_in_the_result(traced: Traced, step: str) -> None:
    def change(result: Any) -> None:
        found = next(each for each in result["site_results"][0]["steps"] if each["step"] == step)
        found["mean"][-1] *= 1.001

    traced.edit(traced.result, change)
    assert traced.named() == (1, step, "" if step == "tensor" else "Mito", 1)


def test_the_recorded_digest_of_a_decoded_plane(traced: Traced) -> None:
    def change(result: Any) -> None:
        plane_entry = next(entry for entry in result["inputs"] if entry["used"] == "analysed")
        assert len(plane_entry["pixel_digest"]) == 64
        plane_entry["pixel_digest"] = "0" * 64

    traced.edit(traced.result, change)
    assert traced.named()[:2] == (1, "decoded")


# ---- what is not a difference


def test_floats_of_another_machine_are_the_same_but_for_rounding(traced: Traced) -> None:
    def change(result: Any) -> None:
        steps = {each["step"]: each for each in result["site_results"][0]["steps"]}
        steps["tensor"]["digest"] = ["0" * 64]
        steps["normalised"]["mean"][0] *= 1 + 1e-7

    traced.edit(traced.result, change)
    code, said, _ = traced.say()
    assert code == 0
    assert "is as it was recorded, but for rounding from normalised of DNA of site 1 on" in said


def test_counts_are_never_rounded() -> None:
    here = Values((2, 2), "uint16", 1, 9, 4.0, "a" * 64)
    assert compare(here, here)[0] is Match.SAME
    assert compare(here, Values((2, 2), "uint16", 1, 9, 4.0, "b" * 64))[0] is Match.DIFFERS
    assert compare(here, Values((2, 2), "uint16", 1, 9, 4.0, "b" * 64), within=1e-6)[0] is Match.ROUNDED
    assert compare(here, Values(mean=float("nan")), within=1e-6)[0] is Match.DIFFERS


def test_a_well_that_was_unlike_all_seen_still_is_and_whatever_is_changed_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = Novelty(np.full((1, 3), 1e3), np.eye(3), threshold=1.0, false_alarm_rate=0.05, fitted=50, held_out=50)
    analyse(tmp_path, novelty=far)
    traced = Traced(tmp_path, capsys)
    assert json.loads(traced.result.read_bytes())["prediction"]["label"] == "unlike"
    assert traced.trace()[0] == 0

    def nearer(result: Any) -> None:
        result["prediction"]["novelty"]["score"] /= 2

    whole = traced.result.read_bytes()
    traced.edit(traced.result, nearer)
    assert traced.named() == (1, "verdict", "", None)
    traced.result.write_bytes(whole)
    (tmp_path / "package" / "novelty.npz").unlink()
    code, said, _ = traced.say()
    assert "whether this is one is not traced" in said
    assert code == 3, "the package is refused"


def test_a_result_of_an_older_version_is_compared_by_its_keys_and_its_logits(traced: Traced) -> None:
    def forget(result: Any) -> None:
        for entry in result["site_results"]:
            del entry["steps"]

    traced.edit(traced.result, forget)
    code, said, _ = traced.say()
    assert code == 0
    assert said.endswith("an older version recorded less.\n")
    text = traced.index.read_text("utf-8")
    traced.index.write_text(text.replace("[0.2, 0.05]", "[0.21, 0.05]"), "utf-8")
    assert traced.named() == (1, "corrected", "ER", 1)


def test_settings_that_changed_since_are_said_and_not_applied(traced: Traced) -> None:
    def change(plate: Any) -> None:
        plate["expectations"].update(projection="mean", flatfield="off")
        plate["settings_fingerprint"] = "0" * 64

    traced.edit(traced.plate, change)
    code, found = traced.trace()
    assert code == 0
    assert "plate.json holds other settings than this result was made with" in found["notes"][0]


def test_what_follows_from_a_difference_is_not_put_down_to_rounding(traced: Traced) -> None:
    def change(result: Any) -> None:
        steps = {each["step"]: each for each in result["site_results"][0]["steps"]}
        steps["resampled"]["max"][0] += 1
        for name in ("normalised", "tensor"):
            steps[name]["mean"][0] *= 1 + 1e-7
        steps["normalised"]["mean"][1] *= 1 + 1e-7

    traced.edit(traced.result, change)
    code, found = traced.trace()
    steps = {(step["step"], step["of"]): step for step in found["steps"] if step["site"] == 1}
    assert code == 1
    first, other = steps["normalised", "DNA"], steps["normalised", "ER"]
    assert (first["match"], other["match"]) == ("differs", "rounded")
    assert first["detail"] == "by no more than rounding might, but because resampled of DNA does"
    assert "because resampled of DNA does" in steps["tensor", ""]["detail"]


# ---- what cannot be traced


def test_a_root_that_is_another_folder_is_said_to_be_so(traced: Traced) -> None:
    code, found = traced.trace("--root", str(traced.folder / "in" / "P1__M1"))
    assert code == 4
    said = found["first"]["detail"]
    assert said.startswith(f"the file is not below {traced.folder / 'in' / 'P1__M1'}, ")
    root = json.loads(traced.plate.read_bytes())["root"]
    assert said.endswith(f"the present place of {root}, which holds P1__M1")


def test_a_share_that_is_away_is_told_apart_from_a_file_that_is_gone(traced: Traced) -> None:
    code = main(["trace", str(traced.result), "--root", str(traced.folder / "nowhere")])
    assert code == 4
    assert "--root" in traced.capsys.readouterr().err


def test_what_is_no_result_is_refused(traced: Traced) -> None:
    assert main(["trace", str(traced.plate)]) in {2, 4}
    assert main(["trace", str(traced.folder / "nothing.json")]) == 4
    traced.edit(traced.result, lambda result: result.pop("status"))
    code, _, complaint = traced.say()
    assert code == 2
    assert "is no result of a well: status" in complaint


def test_a_page_of_a_bundle_is_traced_to_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--size", "96", "--wells", "6")
    assert main(["simulate", str(tmp_path / "in"), "--instrument", "ome", *size, "--plate", "P1"]) == 0
    made = manifest(pixel_size_um=1.196)
    write_tiny_package(tmp_path / "package", made=made)
    channels = 'channels = { DNA = "DNA", ER = "ER", Mito = "Mito" }\nignore_channels = ["RNA", "AGP"]'
    process(tmp_path, f"bit_depth = 16\n{channels}")
    result = next((tmp_path / "out").glob("*/*/wells/A01.json"))
    capsys.readouterr()
    assert main(["trace", str(result), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    paths = [step["path"] for step in found["steps"] if step["step"] == "file"]
    assert all("#" in path for path in paths)
    bundle = tmp_path / "in" / paths[0].partition("#")[0]
    bundle.write_bytes(bundle.read_bytes() + b"\0")
    assert main(["trace", str(result), "--json"]) == 1
    again = json.loads(capsys.readouterr().out)
    assert again["first"]["step"] == "file"
    assert {step["match"] for step in again["steps"] if step["step"] in STEPS[1:7]} == {"same"}

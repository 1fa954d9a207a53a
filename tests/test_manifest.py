import json
from pathlib import Path

import pytest

from hcs_daemon.config import Expect
from hcs_daemon.device.manifest import (
    Manifest,
    check_covers,
    package_folder,
    read_manifest,
    scale_problem,
)
from hcs_daemon.errors import PackageError, SettingsError
from model_packages import manifest


def expect(**changes: object) -> Expect:
    fields: dict[str, object] = {"bit_depth": 16, "channels": {"Mito": "4", "DNA": "5", "ER": "2"}}
    return Expect.model_validate(fields | changes)


def written(folder: Path, **changes: object) -> Path:
    fields = json.loads(manifest().text()) | changes
    (folder / "manifest.json").write_text(json.dumps(fields), "utf-8")
    return folder


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest().text(), "utf-8")
    assert read_manifest(tmp_path) == manifest()
    assert read_manifest(tmp_path).channel_names == ("DNA", "ER", "Mito")


def test_the_demonstration_package_ships_with_the_program() -> None:
    folder = package_folder("demo")
    assert read_manifest(folder).demonstration
    assert folder.is_relative_to(Path(__file__).resolve().parent.parent / "hcs_daemon")


def test_any_other_package_is_a_path(tmp_path: Path) -> None:
    assert package_folder(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "hcs-daemon/model-package/2"}, "which a newer hcs-daemon wrote"),
        ({"schema": "hcs-daemon/model-package/0"}, "schema"),
        ({"colour": "red"}, "colour"),
        ({"bit_depth": 11}, "bit_depth"),
        ({"container": "float32"}, "container"),
        ({"weights_sha256": "abc"}, "weights_sha256"),
        ({"tile_px": 0}, "tile_px"),
        ({"pixel_size_um": 0.0}, "pixel_size_um"),
        ({"channels": []}, "channels"),
        ({"channels": [{"name": "DNA"}, {"name": "DNA"}, {"name": "ER"}]}, "'DNA' stands there 2 times"),
        ({"classes": ["control", "control"]}, "'control' stands there 2 times"),
        ({"classes": ["control"]}, "one class is no choice"),
        ({"classes": []}, "control_class 'control' has no place in a model without classes"),
        ({"classes": [], "control_class": ""}, "references have no place in a model without classes"),
        ({"novelty_sha256": "abc"}, "novelty_sha256"),
        ({"control_class": "DMSO"}, "control_class 'DMSO' is not one of the classes"),
        ({"references": {"broken": ["A01"]}}, "references has no entry for the control class"),
        ({"references": {"control": ["A01"], "new": ["A02"]}}, "references has 'new'"),
        ({"normalisation": [{"kind": "linear", "offset": 0.0, "scale": 1.0}]}, "normalisation has 1 entries"),
        (
            {"normalisation": [{"kind": "linear", "offset": 0.0, "scale": 0.0}] * 3},
            "normalisation.0.scale",
        ),
    ],
)
def test_what_is_wrong_with_a_manifest_is_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(PackageError, match=r"manifest\.json") as caught:
        read_manifest(written(tmp_path, **changes))
    assert said in caught.value.message
    assert caught.value.exit_code == 3


def test_a_model_that_only_embeds_has_no_classes(tmp_path: Path) -> None:
    found = read_manifest(written(tmp_path, classes=[], control_class="", references={}))
    assert (found.classes, found.control_class, found.references) == ((), "", {})


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(PackageError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="cannot be read: No such file") as caught:
        read_manifest(tmp_path / "nothing")
    assert '"demo"' in caught.value.hint


def test_settings_that_bring_what_the_model_needs_are_taken() -> None:
    check_covers(manifest(), expect())
    check_covers(manifest(), expect(pixel_size_um=0.5))
    check_covers(manifest(), expect(channels={"Mito": "4", "DNA": "5", "ER": "2", "AGP": "3"}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": {"DNA": "5", "ER": "2"}}, "needs a channel Mito"),
        ({"bit_depth": 12}, "was made for 16 bits in uint16, the settings expect 12 bits in uint16"),
        ({"bit_depth": 8}, "the settings expect 8 bits in uint8"),
        ({"pixel_size_um": 0.2}, "5 times the site's 0.2 µm"),
        ({"pixel_size_um": 4.5}, "outside 0.25 to 4 is refused"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_covers(manifest(), expect(**changes))
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(("pixel_size_um", "fits"), [(0.25, True), (4.0, True), (0.249, False), (4.01, False)])
def test_a_site_may_be_resampled_up_to_four_times_either_way(pixel_size_um: float, *, fits: bool) -> None:
    assert (scale_problem(manifest(), pixel_size_um) is None) is fits


def test_the_manifest_of_a_package_says_which_schema_it_has() -> None:
    assert json.loads(manifest().text())["schema"] == "hcs-daemon/model-package/1"
    assert Manifest.model_validate_json(manifest().text()) == manifest()

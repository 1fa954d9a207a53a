"""What settings are taken, from where, and how a bad one is refused."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.config import Expect, canonical_channel, check_apart, known_keys, live_keys, load_settings
from hcs_daemon.errors import SettingsError

LEAST: dict[str, dict[str, str]] = {
    "watch": {"directory": '"incoming"'},
    "expect": {"bit_depth": "16", "channels": '{ DNA = "5", ER = "2" }'},
    "model": {"package": '"demo"'},
    "results": {"directory": '"results"'},
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("HCS_DAEMON__"):
            monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder / "config.toml"


def toml(**changes: str | None) -> str:
    """The least settings there can be, with `section__key="TOML value"` put in, or with None taken out."""
    tables = {section: dict(values) for section, values in LEAST.items()}
    for name, value in changes.items():
        section, key = name.split("__")
        table = tables.setdefault(section, {})
        if value is None:
            del table[key]
        else:
            table[key] = value
    return "\n".join(
        f"[{section}]\n" + "\n".join(f"{key} = {value}" for key, value in table.items())
        for section, table in tables.items()
    )


def refusal(path: Path, text: str) -> SettingsError:
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    return caught.value


def test_the_least_settings_are_the_folders_the_bit_depth_the_channels_and_the_model(path: Path) -> None:
    path.write_text(toml(), "utf-8")
    settings = load_settings(path)
    assert settings.expect.bit_depth == 16
    assert settings.expect.channels == {"DNA": "5", "ER": "2"}
    assert settings.model.package == "demo"
    assert settings.watch.settle_s == 2.0


@pytest.mark.parametrize(
    "key", ["watch__directory", "expect__bit_depth", "expect__channels", "model__package", "results__directory"]
)
def test_what_an_experiment_decides_has_no_default(path: Path, key: str) -> None:
    error = refusal(path, toml(**{key: None}))
    assert f"{key.replace('__', '.')} is missing" in error.message
    assert "no default" in error.hint


def test_a_missing_section_says_which_keys_it_needs(path: Path) -> None:
    error = refusal(path, toml(results__directory=None).replace("[results]", ""))
    assert "results is missing" in error.message
    assert error.hint == "add a section [results] with directory"


def test_a_settings_error_ends_the_program_with_2(path: Path) -> None:
    assert refusal(path, "").exit_code == 2


# Where a value comes from


def test_relative_folders_are_relative_to_the_file(path: Path) -> None:
    path.write_text(toml(model__package='"packages/mine"'), "utf-8")
    settings = load_settings(path)
    assert settings.watch.directory == path.parent / "incoming"
    assert settings.results.directory == path.parent / "results"
    assert settings.model.package == str(path.parent / "packages" / "mine")


def test_a_package_of_a_known_name_is_not_a_path(path: Path) -> None:
    path.write_text(toml(), "utf-8")
    assert load_settings(path).model.package == "demo"
    path.write_text(toml(model__package='"./demo"'), "utf-8")
    assert load_settings(path).model.package == str(path.parent / "demo")


def test_the_home_folder_may_be_written_short(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    path.write_text(toml(results__directory='"~/results"'), "utf-8")
    assert load_settings(path).results.directory == tmp_path / "results"


def test_the_environment_is_taken_over_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(toml(watch__settle_s="3.0"), "utf-8")
    monkeypatch.setenv("HCS_DAEMON__WATCH__SETTLE_S", "7.5")
    monkeypatch.setenv("HCS_DAEMON__EXPECT__BIT_DEPTH", "12")
    monkeypatch.setenv("HCS_DAEMON__HTTP__PORT", "0")
    settings = load_settings(path)
    assert (settings.watch.settle_s, settings.expect.bit_depth, settings.http.port) == (7.5, 12, 0)


def test_a_relative_folder_in_the_environment_is_relative_to_the_working_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path.write_text(toml(), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HCS_DAEMON__RESULTS__DIRECTORY", "elsewhere")
    assert load_settings(path).results.directory == tmp_path / "elsewhere"


def test_channels_in_the_environment_replace_the_files_as_a_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(toml(expect__ignore_channels='["9"]'), "utf-8")
    monkeypatch.setenv("HCS_DAEMON__EXPECT__CHANNELS", '{"Mito": "4"}')
    monkeypatch.setenv("HCS_DAEMON__EXPECT__IGNORE_CHANNELS", '["1", 2]')
    expect = load_settings(path).expect
    assert expect.channels == {"Mito": "4"}
    assert expect.ignore_channels == ["1", "2"]


def test_a_command_lines_word_is_taken_over_both(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path.write_text(toml(watch__settle_s="3.0"), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HCS_DAEMON__WATCH__SETTLE_S", "7.5")
    settings = load_settings(path, {"watch": {"settle_s": 9.0}, "results": {"directory": Path("here")}})
    assert settings.watch.settle_s == 9.0
    assert settings.results.directory == tmp_path / "here"


def test_a_command_line_may_give_a_section_that_the_file_lacks(path: Path) -> None:
    path.write_text(toml(results__directory=None).replace("[results]", ""), "utf-8")
    settings = load_settings(path, {"results": {"directory": path.parent / "given"}})
    assert settings.results.directory == path.parent / "given"


def test_a_command_lines_bad_word_is_refused_like_any_other(path: Path) -> None:
    path.write_text(toml(), "utf-8")
    with pytest.raises(SettingsError, match=r"explain\.policy = 'some'"):
        load_settings(path, {"explain": {"policy": "some"}})


# Files that are not settings


def test_the_mark_that_windows_editors_write_does_no_harm(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + toml().replace("\n", "\r\n").encode())
    assert load_settings(path).expect.bit_depth == 16


def test_a_file_that_is_not_there_is_refused_with_its_name(path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file") as caught:
        load_settings(path)
    assert str(path) in caught.value.message
    assert "-c" in caught.value.hint


def test_a_windows_path_in_double_quotes_is_refused_with_the_cure(path: Path) -> None:
    error = refusal(path, toml(watch__directory='"D:\\screens"'))
    assert "is not TOML" in error.message
    assert "single quotes" in error.hint


def test_other_broken_toml_is_refused_with_its_place(path: Path) -> None:
    error = refusal(path, "[watch\n")
    assert "line 1" in error.message
    assert "single quotes" not in error.hint


def test_a_file_in_another_encoding_is_refused(path: Path) -> None:
    path.write_bytes(toml().encode("utf-16"))
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings(path)


def test_a_key_outside_any_section_is_refused(path: Path) -> None:
    error = refusal(path, "settle_s = 2.0\n" + toml())
    assert "settle_s stands outside any section" in error.message
    assert "watch, expect, model" in error.hint


# Unknown keys


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [
        ("watch", "setle_s", "watch.settle_s"),
        ("watch", "direcotry", "watch.directory"),
        ("expect", "channel", "expect.channels"),
        ("watch", "bit_depth", "expect.bit_depth"),
        ("results", "pixel_size_um", "expect.pixel_size_um"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(path: Path, section: str, key: str, nearest: str) -> None:
    error = refusal(path, toml(**{f"{section}__{key}": "1"}))
    assert f"{section}.{key} is no setting" in error.message
    assert error.hint == f"the nearest known is {nearest}"


def test_an_unknown_key_like_no_other_is_answered_with_all_of_its_section(path: Path) -> None:
    assert "[http] has host, port" in refusal(path, toml(http__qqqq="1")).hint


def test_an_unknown_section_is_refused_with_the_nearest_known_one(path: Path) -> None:
    error = refusal(path, toml(logs__level='"info"'))
    assert "logs is no setting" in error.message
    assert error.hint == "the nearest known section is [log]"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HCS_DAEMON__WATCH__SETLE_S", "1", "no setting watch.setle_s"),
        ("HCS_DAEMON__WACH__SETTLE_S", "1", "no setting wach.settle_s"),
        ("HCS_DAEMON__WATCH", '{"settle_s": 1}', "no setting watch"),
        ("HCS_DAEMON__", "1", "HCS_DAEMON__"),
        ("HCS_DAEMON__WATCH__SETTLE_S__X", "1", "watch.settle_s has no parts"),
        ("HCS_DAEMON__EXPECT__CHANNELS", "DNA=5", "expect.channels as a whole, in JSON"),
        ("HCS_DAEMON__EXPECT__CHANNELS__DNA", "9", "expect.channels as a whole, in JSON"),
        ("HCS_DAEMON__EXPECT__IGNORE_CHANNELS", "1,2", "expect.ignore_channels as a whole, in JSON"),
    ],
)
def test_an_environment_that_says_nothing_known_is_refused_by_name(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    error = refusal(path, toml())
    assert name in error.message
    assert said in error.message
    assert error.hint


def test_a_bad_value_from_the_environment_says_that_it_is_from_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCS_DAEMON__WATCH__SETTLE_S", "soon")
    error = refusal(path, toml())
    assert "watch.settle_s = 'soon'" in error.message
    assert "set by HCS_DAEMON__WATCH__SETTLE_S" in error.message


# Bad values


@pytest.mark.parametrize(
    ("change", "value", "right"),
    [
        ("watch__directory", '""', "a folder"),
        ("watch__directory", '"  "', "a folder"),
        ("watch__directory", "5", "path"),
        ("watch__instrument", '"opera"', "'harmony'"),
        ("watch__settle_s", "-1", "greater than or equal to 0"),
        ("watch__settle_s", "true", "true or false"),
        ("watch__settle_s", "inf", "finite"),
        ("watch__settle_s", "nan", "finite"),
        ("watch__rescan_s", "0", "greater than 0"),
        ("watch__polling", "true", "true or false"),
        ("watch__backlog_h", "-1", "greater than or equal to 0"),
        ("watch__cache_bytes", "-1", "greater than or equal to 0"),
        ("watch__readers", "65", "less than or equal to 64"),
        ("expect__bit_depth", "13", "8, 10, 12, 14 or 16"),
        ("expect__bit_depth", "true", "8, 10, 12, 14 or 16"),
        ("expect__bit_depth", '"sixteen"', "8, 10, 12, 14 or 16"),
        ("expect__container", '"uint32"', "'uint16'"),
        ("expect__channels", "{}", "empty"),
        ("expect__channels", '["DNA"]', "table"),
        ("expect__channels", "{ DNA = 5.5 }", "text, in quotes"),
        ("expect__ignore_channels", '"1"', "list"),
        ("expect__ignore_channels", "[true]", "text, in quotes"),
        ("expect__pixel_size_um", "-0.1", "greater than or equal to 0"),
        ("expect__pixel_size_um", "598", "less than or equal to 100"),
        ("expect__sites_per_well", "1.5", "integer"),
        ("expect__well_timeout_s", "0", "greater than 0"),
        ("expect__plate_timeout_s", "0", "greater than 0"),
        ("model__package", '""', "empty"),
        ("model__device", '"gpu"', "auto, cpu, cuda or cuda:N"),
        ("model__batch_sites", "0", "greater than or equal to 1"),
        ("model__max_wait_s", "-1", "greater than or equal to 0"),
        ("model__hit_probability", "1.1", "less than or equal to 1"),
        ("explain__policy", '"some"', "'per_well'"),
        ("explain__method", '"saliency"', "'integrated_gradients'"),
        ("explain__max_wait_s", "-1", "greater than or equal to 0"),
        ("explain__max_wait_s", "3601", "less than or equal to 3600"),
        ("results__min_free_bytes", "-1", "greater than or equal to 0"),
        ("results__pictures", "false", "true or false"),
        ("results__plate_refresh_s", "-1", "greater than or equal to 0"),
        ("http__host", '""', "empty"),
        ("http__port", "65536", "less than or equal to 65535"),
        ("log__format", '"xml"', "'json'"),
        ("log__level", '"loud"', "'warning'"),
    ],
)
def test_a_bad_value_is_named_by_its_key_with_what_would_be_right(
    path: Path, change: str, value: str, right: str
) -> None:
    error = refusal(path, toml(**{change: value}))
    assert change.replace("__", ".") in error.message
    assert right in f"{error.message} {error.hint}"
    assert len(error.message.splitlines()) == len(error.hint.splitlines()) == 1


def test_several_bad_values_are_all_named_each_above_what_to_do(path: Path) -> None:
    error = refusal(path, toml(watch__settle_s="-1", expect__bit_depth="13", logs__level='"info"'))
    lines = error.message.splitlines()
    assert "3 settings are refused" in lines[0]
    assert ["watch.settle_s" in lines[1], "expect.bit_depth" in lines[3], "logs" in lines[5]] == [True] * 3
    assert len(lines) == 7


# Channels


def test_a_channel_id_may_be_written_without_quotes(path: Path) -> None:
    path.write_text(toml(expect__channels="{ DNA = 5 }", expect__ignore_channels="[1]"), "utf-8")
    expect = load_settings(path).expect
    assert expect.channels == {"DNA": "5"}
    assert expect.ignore_channels == ["1"]


@pytest.mark.parametrize(("one", "other"), [("1", "w1"), ("1", "C01"), ("w1", "W01"), ("DAPI", "dapi"), ("d0", "0")])
def test_case_leading_letters_and_leading_zeros_of_a_channel_id_do_not_matter(one: str, other: str) -> None:
    assert canonical_channel(one) == canonical_channel(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "10"), ("DAPI", "GFP"), ("1", "1a"), ("488 nm", "488"), ("Cy5", "5"), ("Cy5", "C05")]
)
def test_other_differences_of_a_channel_id_do(one: str, other: str) -> None:
    assert canonical_channel(one) != canonical_channel(other)


@given(st.text(max_size=12))
def test_a_canonical_channel_id_is_its_own(channel_id: str) -> None:
    assert canonical_channel(canonical_channel(channel_id)) == canonical_channel(channel_id)


@given(st.sampled_from(["", *"abcwCD", "ch", "Ch", "channel"]), st.integers(0, 3), st.integers(0, 999))
def test_a_letter_and_zeros_before_a_number_never_matter(letters: str, zeros: int, number: int) -> None:
    assert canonical_channel(f"{letters}{'0' * zeros}{number}") == str(number)


def test_two_names_for_one_channel_are_refused_however_it_is_written(path: Path) -> None:
    error = refusal(path, toml(expect__channels='{ DNA = "1", ER = "w01" }'))
    assert "DNA = '1' and ER = 'w01' are the same channel" in error.message


def test_a_channel_cannot_be_analysed_and_ignored(path: Path) -> None:
    error = refusal(path, toml(expect__ignore_channels='["C05"]'))
    assert "'C05'" in error.message
    assert "DNA" in error.message


def test_channels_that_nobody_needs_are_ignored() -> None:
    channels = {"DNA": "5", "ER": "2", "AGP": "3"}
    expect = Expect.model_validate({"bit_depth": 16, "channels": channels, "ignore_channels": ["1"]})
    found = expect.only(["ER", "DNA", "Mito"])
    assert found.channels == {"DNA": "5", "ER": "2"}
    assert found.ignore_channels == ["1", "3"]
    assert expect.only(list(channels)) == expect


@pytest.mark.parametrize("name", ["D/A", "", "..", "x" * 41, "DNA\\n"])
def test_a_channel_name_that_could_not_be_a_column_or_a_file_is_refused(path: Path, name: str) -> None:
    assert "is no channel name" in refusal(path, toml(expect__channels=f'{{ "{name}" = "1" }}')).message


@pytest.mark.parametrize(
    ("change", "value"), [("expect__channels", '{ DNA = " " }'), ("expect__ignore_channels", '[""]')]
)
def test_an_empty_channel_id_is_refused(path: Path, change: str, value: str) -> None:
    assert "empty" in refusal(path, toml(**{change: value})).message


# Bit depth and container


@pytest.mark.parametrize(
    ("bit_depth", "container", "dtype"),
    [("8", "auto", "uint8"), ("10", "auto", "uint16"), ("16", "auto", "uint16"), ("8", "uint16", "uint16")],
)
def test_the_container_follows_from_the_bit_depth_unless_it_is_said(
    path: Path, bit_depth: str, container: str, dtype: str
) -> None:
    path.write_text(toml(expect__bit_depth=bit_depth, expect__container=f'"{container}"'), "utf-8")
    assert load_settings(path).expect.dtype == dtype


def test_eight_bits_cannot_hold_sixteen(path: Path) -> None:
    error = refusal(path, toml(expect__container='"uint8"'))
    assert "cannot hold" in error.message
    assert "auto" in error.hint


# Patterns


GOOD_PATTERN = r"'(?P<well>[A-P]\d\d)_s(?P<site>\d)_(?P<channel>\w+)\.tif'"


def test_a_pattern_is_taken_with_the_instrument_pattern(path: Path) -> None:
    path.write_text(toml(watch__instrument='"pattern"', watch__pattern=GOOD_PATTERN), "utf-8")
    assert load_settings(path).watch.pattern == GOOD_PATTERN.strip("'")


def test_row_and_column_do_for_a_well(path: Path) -> None:
    pattern = r"'(?P<row>\d+)-(?P<col>\d+)-(?P<channel>\d)\.tif'"
    path.write_text(toml(watch__instrument='"pattern"', watch__pattern=pattern), "utf-8")
    assert "(?P<row>" in load_settings(path).watch.pattern


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("'(?P<channel>.'", "not a regular expression"),
        ("'(?P<channel>.)'", "channel and well (or row and col)"),
        ("'(?P<row>.)(?P<channel>.)'", "channel and well (or row and col)"),
        ("'(?P<well>...)'", "channel and well (or row and col)"),
        ("'(?P<well>...)(?P<channel>.)(?P<field>.)'", "the group 'field'"),
    ],
)
def test_a_pattern_that_cannot_name_a_plane_is_refused(path: Path, pattern: str, said: str) -> None:
    error = refusal(path, toml(watch__instrument='"pattern"', watch__pattern=pattern))
    assert "watch.pattern" in error.message
    assert said in error.message


def test_the_instrument_pattern_needs_a_pattern(path: Path) -> None:
    assert "watch.pattern is empty" in refusal(path, toml(watch__instrument='"pattern"')).message


def test_a_pattern_that_nothing_would_read_is_refused(path: Path) -> None:
    assert "only read with" in refusal(path, toml(watch__pattern=GOOD_PATTERN)).message


# Folders


@pytest.mark.parametrize(
    ("watched", "results", "said"),
    [
        ("a", "a/results", "lies inside watch.directory"),
        ("results/a", "results", "lies inside results.directory"),
        ("a", "a", "are one folder"),
        ("a", "b/../a/c", "lies inside watch.directory"),
    ],
)
def test_results_and_watched_folder_must_lie_apart(path: Path, watched: str, results: str, said: str) -> None:
    error = refusal(path, toml(watch__directory=f'"{watched}"', results__directory=f'"{results}"'))
    assert said in error.message
    assert "of their own" in error.hint


def test_folders_whose_names_only_begin_alike_lie_apart(path: Path) -> None:
    path.write_text(toml(watch__directory='"data"', results__directory='"data-results"'), "utf-8")
    assert load_settings(path).results.directory.name == "data-results"


def test_a_link_does_not_hide_that_results_lie_in_the_watched_folder(path: Path) -> None:
    (path.parent / "incoming" / "deep").mkdir(parents=True)
    try:
        (path.parent / "link").symlink_to(path.parent / "incoming" / "deep", target_is_directory=True)
    except OSError as problem:
        pytest.skip(f"no links here: {problem}")
    error = refusal(path, toml(results__directory='"link/results"'))
    assert "lies inside watch.directory" in error.message


def test_a_link_that_leads_to_itself_is_refused_in_words(path: Path) -> None:
    try:
        (path.parent / "loop").symlink_to(path.parent / "loop")
    except OSError as problem:
        pytest.skip(f"no links here: {problem}")
    assert "results.directory" in refusal(path, toml(results__directory='"loop/results"')).message


def test_folders_from_a_command_line_are_checked_alike(tmp_path: Path) -> None:
    check_apart(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match="lies inside"):
        check_apart(tmp_path / "a", tmp_path / "a" / "b")


def test_every_setting_is_known_by_section_and_key() -> None:
    keys = known_keys()
    assert len(keys) == len(set(keys))
    assert {"watch.directory", "expect.channels", "model.package", "http.port"} <= set(keys)


def test_no_setting_that_decides_what_a_result_says_or_where_it_goes_is_live() -> None:
    live = set(live_keys())
    assert live < set(known_keys())
    assert {"log.level", "explain.policy", "expect.well_timeout_s", "results.pictures"} <= live
    decided_once = {"watch.directory", "watch.instrument", "expect.bit_depth", "expect.channels", "model.package"}
    assert not live & (decided_once | {"model.hit_probability", "explain.method", "results.directory", "http.port"})


def test_settings_that_are_no_regular_file_are_refused_without_waiting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no regular file"):
        load_settings(tmp_path)

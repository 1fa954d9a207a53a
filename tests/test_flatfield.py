"""Uneven light, taken out with what the instrument says of it."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import percentile_filter

from hcs_daemon.instruments.flatfield import ImageProfile, PolynomialProfile
from hcs_daemon.instruments.harmony_index import read_index
from hcs_daemon.records import Pixels
from hcs_daemon.tiff import decode_plane, encode_plane

TINY = PolynomialProfile(
    coefficients=((1.0,), (0.5, -0.25), (0.125, 0.0625, -0.5)), dims=(3, 2), origin=(1.0, 0.5), scale=(0.5, 1.0)
)
PUBLISHED = (
    "{Background: {Character: NonFlat, Mean: 373.69866, NoiseConst: 1.3, NonFlatness: {Corrected: 0.026984985, "
    "Original: 0.47285813, Random: 0.024891443}, Profile: {Coefficients: [[9.0]], Dims: [1080, 1080], Origin: "
    "[539.5, 539.5], Scale: [0.00092592593, 0.00092592593], Type: Polynomial}, Quality: 1.0}, Channel: 1, "
    "ChannelName: NAME, Foreground: {Character: NonFlat, Profile: {Coefficients: [[1.0698], [-0.0261, -0.1196], "
    "[2.5e-1, -.071, 0.2161]], Dims: [1080, 1080], Origin: [539.5, 539.5], Scale: [0.00092592593, 0.00092592593], "
    "Type: Polynomial}, Quality: 1.0}, Version: Acapella:2013}"
)


def evaluated(profile: PolynomialProfile) -> NDArray[np.float64]:
    """Term by term, as the formula is written."""
    width, height = profile.dims
    found = np.zeros((height, width))
    for y, x in product(range(height), range(width)):
        u, v = (x - profile.origin[0]) * profile.scale[0], (y - profile.origin[1]) * profile.scale[1]
        for n, row in enumerate(profile.coefficients):
            for k, coefficient in enumerate(row):
                found[y, x] += coefficient * u ** (n - k) * v**k
    return found


def test_the_text_of_a_profile_is_read_as_harmony_writes_it() -> None:
    assert PolynomialProfile.parse(PUBLISHED.replace("NAME", "HOECHST 33342")) == PolynomialProfile(
        coefficients=((1.0698,), (-0.0261, -0.1196), (0.25, -0.071, 0.2161)),
        dims=(1080, 1080),
        origin=(539.5, 539.5),
        scale=(0.00092592593, 0.00092592593),
    )


@pytest.mark.parametrize(
    "name", ["Fluorescein (FITC)", "Alexa 488, long", "a: b", "Foreground", "[DAPI]", "µ, 50 %", ""]
)
def test_a_channel_may_have_any_name(name: str) -> None:
    assert PolynomialProfile.parse(PUBLISHED.replace("NAME", name)) is not None


def test_quoted_words_and_line_breaks_do_not_matter() -> None:
    quoted = PUBLISHED.replace("NAME", '"DAPI"').replace("Polynomial", '"Polynomial"').replace("Profile:", '"Profile":')
    assert PolynomialProfile.parse(quoted.replace(", ", ",\n  ")) == PolynomialProfile.parse(PUBLISHED)


@pytest.mark.parametrize(
    ("wording", "otherwise"),
    [
        ("Foreground: {", "Middleground: {"),
        ("Quality: 1.0}, Version", "Quality: 1.0, Version"),
        ("Type: Polynomial}, Quality: 1.0}, Version", "Type: Spline}, Quality: 1.0}, Version"),
        ("Type: Polynomial}, Quality: 1.0}, Version", "Type: Identity}, Quality: 1.0}, Version"),
        (", Type: Polynomial}, Quality: 1.0}, Version", "}, Quality: 1.0}, Version"),
        ("[2.5e-1, -.071, 0.2161]", "[2.5e-1, -.071]"),
        ("[2.5e-1, -.071, 0.2161]", "[2.5e-1, -.071, 0.2161, 1.0]"),
        ("[2.5e-1, -.071, 0.2161]", "[2.5e-1, -.071, NaN]"),
        ("[2.5e-1, -.071, 0.2161]", "[2.5e-1, -.071, 1e999]"),
        ("[2.5e-1, -.071, 0.2161]", "[2.5e-1, -.071, [0.2161]]"),
        ("[[1.0698], ", "[[-1.0698], "),
        ("[[1.0698], ", "[[0.01], "),
        ("[[1.0698], ", "[[1.0698] "),
        ("[539.5, 539.5], Scale: [0.00092592593, 0.00092592593], Type: Polynomial}, Quality: 1.0}, Version", "[1], V"),
        ("Coefficients: [[1.0698], [-0.0261, -0.1196], [2.5e-1, -.071, 0.2161]]", "Coefficients: []"),
        ("Coefficients: [[1.0698], [-0.0261, -0.1196], [2.5e-1, -.071, 0.2161]]", "Coefficients: 1.0"),
        ("{Character: NonFlat, Profile: {", "{Character: NonFlat, Profile: Flat, Other: {"),
        ("Acapella:2013}", "Acapella:2013} and more"),
    ],
)
def test_a_profile_that_is_not_wholly_understood_is_none(wording: str, otherwise: str) -> None:
    assert wording in PUBLISHED
    assert PolynomialProfile.parse(PUBLISHED.replace(wording, otherwise)) is None


@pytest.mark.parametrize("dims", ["[1080.5, 1080]", "[0, 1080]", "[-4, 4]", "[100000, 4]", "[1080]", "[4, 4, 4]"])
def test_a_profile_of_an_impossible_size_is_none(dims: str) -> None:
    assert PolynomialProfile.parse(PUBLISHED.replace("[1080, 1080]", dims)) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", "[[1]]", "{" * 5000, "{a: " * 5000, "{a: " + "[" * 50_000, "{a: b" + " " * 60_000, ", " * 30_000],
)
def test_any_other_text_is_none(text: str) -> None:
    assert PolynomialProfile.parse(text) is None


@given(st.text(alphabet='{}[]:,. -0123456789eTypeProfileForeground\n"', max_size=200))
def test_no_text_is_a_fault(text: str) -> None:
    assert PolynomialProfile.parse(text) is None


def test_the_profile_is_a_polynomial_in_scaled_distances_from_the_origin() -> None:
    width, height = TINY.dims
    found = TINY.at(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    np.testing.assert_allclose(found, evaluated(TINY), rtol=1e-12)
    # by hand, at x = 2, y = 1: u = v = 0.5; 1 + 0.25 - 0.125 + (0.125 + 0.0625 - 0.5) / 4
    assert found[1, 2] == pytest.approx(1.046875)


@pytest.mark.parametrize(
    "raw",
    [
        np.array([[0, 1, 7], [100, 127, 255]], dtype=np.uint8),
        np.array([[0, 1, 7], [100, 32_767, 65_535]], dtype=np.uint16),
    ],
)
def test_counts_are_divided_rounded_and_clipped_in_their_own_type(raw: Pixels) -> None:
    before = raw.copy()
    corrected = TINY.correct(raw)
    expected = np.clip(np.rint(raw.astype(float) / evaluated(TINY)), 0, np.iinfo(raw.dtype).max)
    assert corrected.dtype == raw.dtype
    np.testing.assert_array_equal(corrected, expected.astype(raw.dtype))
    np.testing.assert_array_equal(raw, before)


def test_halves_are_rounded_to_even_and_what_is_too_bright_is_clipped() -> None:
    half = PolynomialProfile(((2.0,),), dims=(4, 1), origin=(0.0, 0.0), scale=(1.0, 1.0))
    twice = PolynomialProfile(((0.5,),), dims=(4, 1), origin=(0.0, 0.0), scale=(1.0, 1.0))
    assert half.correct(np.array([[1, 3, 5, 7]], dtype=np.uint16)).tolist() == [[0, 2, 2, 4]]
    assert twice.correct(np.array([[1, 100, 40_000, 65_535]], dtype=np.uint16)).tolist() == [[2, 200, 65_535, 65_535]]


@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (1, 1)])
def test_a_plane_of_another_size_is_refused_in_words(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"made for 3 x 2 pixels, the plane has {shape[1]} x {shape[0]}"):
        TINY.correct(np.ones(shape, dtype=np.uint16))


def test_a_profile_that_is_not_above_zero_everywhere_corrects_nothing() -> None:
    steep = PolynomialProfile(((1.0,), (1.0, 0.0)), dims=(3, 1), origin=(1.0, 0.0), scale=(1.0, 1.0))
    with pytest.raises(ValueError, match="not above zero"):
        steep.correct(np.ones((1, 3), dtype=np.uint16))


def test_the_digest_changes_with_the_correction_and_with_nothing_else() -> None:
    one, same = (PolynomialProfile.parse(PUBLISHED.replace("NAME", name)) for name in ("DNA", "ER"))
    other = PolynomialProfile.parse(PUBLISHED.replace("0.2161", "0.2162"))
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.digest == same.digest != other.digest
    assert one.words == "divided by Harmony's foreground profile, a polynomial of degree 2"


def test_the_real_profile_is_one_on_average_and_follows_the_shade_in_the_real_images(shared_data: Path) -> None:
    """No document says how the coefficients are ordered; the images of the same plate do.

    Compared with the dark parts of its two images, which show the light through the medium: of all orders and
    directions this one follows it best.
    """
    images = shared_data / "operetta-index" / "Images"
    manifest = read_index(images / "Index.idx.xml")
    assert manifest is not None
    profile = manifest.flatfields["1"]
    assert isinstance(profile, PolynomialProfile)
    every = np.arange(1080.0)
    assert profile.at(every, every).mean() == pytest.approx(1.0, abs=1e-5)

    planes = [decode_plane(path.read_bytes()).pixels for path in sorted(images.glob("*.tiff"))]
    shade = np.mean([percentile_filter(plane[::8, ::8].astype(float), 5, size=21) for plane in planes], axis=0)
    seen = profile.at(every[::8], every[::8])
    others = {
        (transposed, flipped_y, flipped_x): _alike(
            _turned(seen, transposed=transposed, flipped_y=flipped_y, flipped_x=flipped_x), shade
        )
        for transposed, flipped_y, flipped_x in product((False, True), repeat=3)
    }
    assert max(others, key=lambda how: others[how]) == (False, False, False)


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def _turned(profile: NDArray[np.float64], *, transposed: bool, flipped_y: bool, flipped_x: bool) -> NDArray[np.float64]:
    turned = profile.T if transposed else profile
    return turned[:: -1 if flipped_y else 1, :: -1 if flipped_x else 1]


def test_the_real_images_are_evener_after_the_correction(shared_data: Path) -> None:
    images = shared_data / "operetta-index" / "Images"
    manifest = read_index(images / "Index.idx.xml")
    assert manifest is not None
    for path in images.glob("*.tiff"):
        raw = decode_plane(path.read_bytes()).pixels
        corrected = manifest.flatfields["1"].correct(raw)
        assert _unevenness(corrected) < 0.7 * _unevenness(raw)
        assert corrected.mean() == pytest.approx(raw.mean(), rel=0.05)


def _unevenness(plane: NDArray[np.generic]) -> float:
    """Spread of the dark parts, relative to their median."""
    dark = percentile_filter(plane[::8, ::8].astype(float), 5, size=21)
    low, middle, high = np.percentile(dark, [5, 50, 95])
    return float((high - low) / middle)


LIGHT = np.array([[200, 400, 600], [300, 500, 1000]], dtype=np.uint16)
DARK = np.array([[100, 100, 100], [100, 150, 200]], dtype=np.uint16)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, NDArray[np.uint16]], Path]:
    def written(name: str, pixels: NDArray[np.uint16]) -> Path:
        path = tmp_path / name
        path.write_bytes(encode_plane(pixels))
        return path

    return written


Write = Callable[[str, NDArray[np.uint16]], Path]


def test_an_image_of_the_light_evens_what_it_shows(write: Write) -> None:
    """A field that is evenly bright comes out at its mean everywhere."""
    profile = ImageProfile(write("SC_1.tif", LIGHT), write("DC_1.tif", DARK))
    signal = LIGHT.astype(float) - DARK
    np.testing.assert_array_equal(profile.correct(LIGHT), np.full((2, 3), np.rint(signal.mean()), dtype=np.uint16))
    raw = np.array([[150, 100, 65_535], [50, 151, 201]], dtype=np.uint16)
    expected = np.clip(np.rint((raw.astype(float) - DARK) * signal.mean() / signal), 0, 65_535)
    np.testing.assert_array_equal(profile.correct(raw), expected.astype(np.uint16))
    assert profile.correct(raw)[1, 0] == 0


def test_without_a_dark_image_darkness_is_zero(write: Write) -> None:
    profile = ImageProfile(write("SC_1.tif", LIGHT))
    assert profile.correct(LIGHT).tolist() == [[500] * 3] * 2
    assert profile.words == "divided by the instrument's image of the light SC_1.tif relative to its mean"


def test_the_digest_is_of_the_images_contents_wherever_they_lie(write: Write, tmp_path: Path) -> None:
    one = ImageProfile(write("SC_1.tif", LIGHT), write("DC_1.tif", DARK))
    copied = ImageProfile(write("SC_2.tif", LIGHT), write("DC_2.tif", DARK))
    assert one.digest == copied.digest
    assert len({one.digest, ImageProfile(one.shading).digest, ImageProfile(write("SC_3.tif", LIGHT + 1)).digest}) == 3


def test_an_image_that_was_written_again_is_read_again(write: Write) -> None:
    profile = ImageProfile(write("SC_1.tif", LIGHT))
    before, corrected = profile.digest, profile.correct(LIGHT)
    os.utime(write("SC_1.tif", LIGHT[:, ::-1].copy()), ns=(1, 1))
    assert profile.digest != before
    assert profile.correct(LIGHT).tolist() != corrected.tolist()


def test_an_image_that_is_not_there_yet_is_an_os_error_and_has_a_digest_of_its_own(
    write: Write, tmp_path: Path
) -> None:
    profile = ImageProfile(tmp_path / "SC_1.tif")
    awaited = profile.digest
    with pytest.raises(FileNotFoundError):
        profile.correct(LIGHT)
    write("SC_1.tif", LIGHT)
    assert profile.correct(LIGHT).tolist() == [[500] * 3] * 2
    assert profile.digest != awaited


@pytest.mark.parametrize(
    ("light", "dark", "words"),
    [
        (LIGHT, DARK[:, :2], "are of different sizes"),
        (LIGHT[:1], None, "SC_1.tif has 3 x 1 pixels, the plane has 3 x 2"),
        (DARK, DARK, "6 pixels of SC_1.tif are not brighter than darkness"),
        (np.zeros_like(LIGHT), None, "6 pixels of SC_1.tif are not brighter than darkness"),
    ],
)
def test_images_that_correct_nothing_are_refused_in_words(
    write: Write, light: NDArray[np.uint16], dark: NDArray[np.uint16] | None, words: str
) -> None:
    profile = ImageProfile(write("SC_1.tif", light), None if dark is None else write("DC_1.tif", dark.copy()))
    with pytest.raises(ValueError, match=words):
        profile.correct(LIGHT)
    assert len(profile.digest) == 64


def test_what_is_no_image_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "SC_1.tif").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"SC_1\.tif: does not begin like a TIFF"):
        ImageProfile(tmp_path / "SC_1.tif").correct(LIGHT)


def test_reader_threads_share_a_correction(write: Write) -> None:
    profile = ImageProfile(write("SC_1.tif", LIGHT), write("DC_1.tif", DARK))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(profile.correct, [LIGHT] * 20))
    assert all(np.array_equal(result, results[0]) for result in results)


def test_the_real_correction_images_of_a_yokogawa_are_all_zero_and_refused(shared_data: Path) -> None:
    (folder,) = (path for path in (shared_data / "cv8000-stack").iterdir() if path.is_dir())
    for path in folder.glob("SC_*.tif"):
        shape = decode_plane(path.read_bytes()).pixels.shape
        with pytest.raises(ValueError, match="not brighter than darkness"):
            ImageProfile(path).correct(np.zeros(shape, dtype=np.uint16))

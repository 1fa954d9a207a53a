"""Bytes to pixels: what decodes is exactly what was written, what does not is one TiffProblem, cheaply."""

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

import hostile_tiffs as hostile
from hcs_daemon.records import Pixels
from hcs_daemon.tiff import (
    TiffProblem,
    decode_page,
    decode_plane,
    encode_pages,
    encode_plane,
    harmony_xml,
    replace_harmony_xml,
    write_tiff,
)
from hcs_daemon.vocabulary import Reason
from hostile_tiffs import DIRECTORY_FIRST, HARMONY, ONE_STRIP, PLAIN, Form, plane, tiff

PHENIX = "opera-phenix-6ch/Images/r03c03f03p01-ch{}sk1fk1fl1.tiff"
SIXTEENTHS = range(1, 16)
SMALL_PLANES: st.SearchStrategy[Pixels] = arrays.arrays(
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    # long runs of zeros are what the search for holes could mistake
    elements=st.one_of(st.just(0), st.integers(0, 255)),
)


def problem(data: bytes, max_plane_bytes: int = 1 << 26) -> TiffProblem:
    with pytest.raises(TiffProblem) as caught:
        decode_plane(data, max_plane_bytes)
    assert caught.value.detail
    assert caught.value.hint
    return caught.value


def written(path: Path, pixels: NDArray[np.generic], **options: object) -> bytes:
    write_tiff(path, pixels, **options)
    return path.read_bytes()


# What decodes


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "zstd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_come_back_as_they_were_written(tmp_path: Path, compression: str | None, dtype: type) -> None:
    pixels: NDArray[np.generic] = (plane() % 251).astype(dtype)
    decoded = decode_plane(written(tmp_path / "a.tif", pixels, compression=compression, photometric="minisblack"))
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.pixels.dtype == dtype


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"bigtiff": True, "byteorder": ">"},
        {"tile": (32, 32)},
        {"tile": (32, 48), "compression": "lzw"},
        {"compression": "lzw", "predictor": True},
        {"compression": "lzw", "byteorder": ">"},
        {"rowsperstrip": 1},
        {"rowsperstrip": 7, "compression": "deflate"},
    ],
    ids=str,
)
def test_every_honest_layout_decodes(tmp_path: Path, options: dict[str, object]) -> None:
    pixels = plane()
    decoded = decode_plane(written(tmp_path / "a.tif", pixels, photometric="minisblack", **options))
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.pixels.dtype.isnative


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("directory_last", [False, True])
@pytest.mark.parametrize("compression", [hostile.NONE, hostile.LZW, hostile.DEFLATE])
def test_a_file_written_tag_by_tag_decodes(order: str, big: bool, directory_last: bool, compression: int) -> None:  # noqa: FBT001 (rows of a table)
    form = Form(order, big, directory_last, compression)
    np.testing.assert_array_equal(decode_plane(tiff(form=form)).pixels, plane())


def test_a_file_without_a_colour_scheme_is_grey() -> None:
    data = tiff(tags={hostile.PHOTOMETRIC: None})
    np.testing.assert_array_equal(decode_plane(data).pixels, plane())


def test_the_compression_is_told_by_name() -> None:
    assert decode_plane(tiff(form=HARMONY)).compression == "lzw"
    assert decode_plane(tiff()).compression == "none"


@given(SMALL_PLANES)
def test_what_is_encoded_decodes_to_the_same(pixels: Pixels) -> None:
    decoded = decode_plane(encode_plane(pixels))
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.pixels.dtype == pixels.dtype


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "packbits"])
def test_a_plane_comes_back_from_every_codec_with_its_description(
    compression: Literal["none", "lzw", "deflate", "packbits"],
) -> None:
    pixels = plane()
    decoded = decode_plane(encode_pages([pixels], description="<a>µm</a>", compression=compression))
    assert np.array_equal(decoded.pixels, pixels)
    assert decoded.compression.removeprefix("adobe_") == compression
    assert decoded.tags.description == "<a>µm</a>"


def test_pages_come_back_in_their_order_and_the_first_alone_is_described(tmp_path: Path) -> None:
    pixels = plane()
    path = tmp_path / "a.ome.tif"
    path.write_bytes(encode_pages([pixels, pixels + 1, pixels + 2], description="three"))
    decoded = [decode_page(path, page) for page in (0, 1, 2)]
    assert all(np.array_equal(each.pixels, pixels + page) for page, each in enumerate(decoded))
    assert [each.tags.description for each in decoded] == ["three", "", ""]


@pytest.mark.parametrize("height", [270, 1080])
def test_an_empty_plane_is_a_plane(height: int) -> None:
    """Whether it is blank is validation's to say."""
    pixels = np.zeros((height, height), np.uint16)
    for data in (encode_plane(pixels), tiff(pixels), tiff(pixels, DIRECTORY_FIRST)):
        np.testing.assert_array_equal(decode_plane(data).pixels, pixels)


def test_black_rows_on_a_black_background_are_no_hole() -> None:
    """8-bit pictures have zeros everywhere; the last rows may well be all black."""
    pixels = (np.random.default_rng(0).random((128, 512)) > 0.9).astype(np.uint8) * 200
    pixels[-40:] = 0
    np.testing.assert_array_equal(decode_plane(tiff(pixels, DIRECTORY_FIRST)).pixels, pixels)


def test_a_single_dead_row_is_no_hole() -> None:
    pixels = plane()
    pixels[30] = 0
    np.testing.assert_array_equal(decode_plane(tiff(pixels)).pixels, pixels)


# Real images


@pytest.mark.parametrize(
    ("channel", "minimum", "maximum", "compression"),
    [(5, 174, 28340, "lzw"), (4, None, None, "none")],
)
def test_real_opera_phenix_planes_decode(
    shared_data: Path, channel: int, minimum: int | None, maximum: int | None, compression: str
) -> None:
    data = (shared_data / PHENIX.format(channel)).read_bytes()
    decoded = decode_plane(data)
    assert decoded.pixels.shape == (1080, 1080)
    assert decoded.pixels.dtype == np.uint16
    assert decoded.compression == compression
    # Harmony notes a plane's extremes in tags 340 and 341
    noted = [struct.unpack("<H", hostile.tags_of(data)[tag][2])[0] for tag in (340, 341)]
    assert [decoded.pixels.min(), decoded.pixels.max()] == noted
    if minimum is not None:
        assert noted == [minimum, maximum]


def test_every_real_image_decodes(shared_data: Path) -> None:
    paths = sorted(path for path in shared_data.rglob("*.tif*") if "_thumb" not in path.name)[::7]
    assert paths
    for path in paths:
        assert decode_plane(path.read_bytes()).pixels.ndim == 2


@pytest.mark.parametrize("sixteenths", SIXTEENTHS)
def test_a_real_plane_cut_short_is_truncated(shared_data: Path, sixteenths: int) -> None:
    data = (shared_data / PHENIX.format(5)).read_bytes()
    assert problem(hostile.cut(data, sixteenths)).reason is Reason.TRUNCATED
    assert problem(hostile.zero_tail(data, sixteenths)).reason is Reason.TRUNCATED


# What is not whole, and may yet become so


@pytest.mark.parametrize("form", [PLAIN, HARMONY, ONE_STRIP, DIRECTORY_FIRST, Form(big=True), Form(order=">")], ids=str)
@pytest.mark.parametrize("sixteenths", SIXTEENTHS)
def test_a_file_that_ends_early_is_truncated_and_may_grow(form: Form, sixteenths: int) -> None:
    found = problem(hostile.cut(tiff(form=form), sixteenths))
    assert found.reason is Reason.TRUNCATED
    assert found.may_grow


@pytest.mark.parametrize("form", [PLAIN, HARMONY, ONE_STRIP, DIRECTORY_FIRST], ids=str)
@pytest.mark.parametrize("sixteenths", range(9))
def test_a_preallocated_copy_is_truncated_and_may_grow(form: Form, sixteenths: int) -> None:
    found = problem(hostile.zero_tail(tiff(form=form), sixteenths))
    assert found.reason is Reason.TRUNCATED
    assert found.may_grow


def test_a_hole_in_one_long_lzw_strip_is_seen() -> None:
    """LZW takes zeros for pixels of zero: nothing but the search for holes would notice."""
    data = tiff(form=ONE_STRIP)
    assert "hole" in problem(hostile.hole(data, len(data) // 2, 64)).detail


def test_a_hole_in_uncompressed_pixels_is_seen() -> None:
    pixels = plane(128, 256)
    data = hostile.hole(tiff(pixels, DIRECTORY_FIRST), 20_000, 16_384)
    assert "rows are all zero" in problem(data).detail


@pytest.mark.parametrize("size", [0, 1, 3, 4, 100, 100_000])
def test_nothing_but_zeros_may_grow(size: int) -> None:
    found = problem(bytes(size))
    assert (found.reason, found.may_grow) == (Reason.TRUNCATED, True)


def test_the_beginning_missing_may_grow() -> None:
    found = problem(hostile.hole(tiff(), 0, 100))
    assert (found.reason, found.may_grow) == (Reason.NOT_AN_IMAGE, True)


# What is not one plane of raw data


@pytest.mark.parametrize(
    "data",
    [
        b"well,compound\nB03,DMSO\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff\xd8\xff\xe0" + bytes(100),
        b"I",
        b"II",
        b"PK",
    ],
)
def test_another_kind_of_file_is_not_an_image_and_will_not_become_one(data: bytes) -> None:
    found = problem(data)
    assert (found.reason, found.may_grow) == (Reason.NOT_AN_IMAGE, False)


def sample(dtype: str, **options: object) -> Callable[[Path], bytes]:
    def make(path: Path) -> bytes:
        return written(path, plane().astype(dtype), **({"photometric": "minisblack"} | options))

    return make


def colour(planarconfig: str) -> Callable[[Path], bytes]:
    def make(path: Path) -> bytes:
        pixels = np.zeros((3, 16, 16) if planarconfig == "separate" else (16, 16, 3), np.uint8)
        return written(path, pixels, photometric="rgb", planarconfig=planarconfig)

    return make


def palette(path: Path) -> bytes:
    return written(path, np.zeros((16, 16), np.uint8), photometric="palette", colormap=np.zeros((3, 256), np.uint16))


@pytest.mark.parametrize(
    "make",
    [
        colour("contig"),
        colour("separate"),
        palette,
        sample("u2", photometric="miniswhite"),
        lambda path: written(path, np.zeros((2, 16, 16), np.uint16), photometric="minisblack"),
        lambda _: tiff(tags={hostile.PHOTOMETRIC: (3, [32803])}),
        lambda _: tiff(tags={hostile.SAMPLES: (3, [4])}),
        lambda _: tiff(tags={hostile.WIDTH: (4, [0])}),
    ],
    ids=["rgb", "planar rgb", "palette", "zero is white", "two pages", "colour filter", "four samples", "no width"],
)
def test_what_is_not_one_grey_plane_is_of_wrong_shape(tmp_path: Path, make: Callable[[Path], bytes]) -> None:
    assert problem(make(tmp_path / "a.tif")).reason is Reason.WRONG_SHAPE


@pytest.mark.parametrize(
    "make",
    [
        sample("f4"),
        sample("f8"),
        sample("f2"),
        sample("i2"),
        sample("i1"),
        sample("u4"),
        sample("u8"),
        sample("?"),
        sample("c8"),
        lambda _: tiff(tags={hostile.BITS: (3, [12])}),
        lambda _: tiff(tags={hostile.COMPRESSION: (3, [hostile.JPEG])}),
        lambda _: tiff(tags={hostile.COMPRESSION: (3, [54321])}),
    ],
    ids=["f4", "f8", "f2", "i2", "i1", "u4", "u8", "bool", "complex", "12 bits packed", "jpeg", "unknown codec"],
)
def test_what_is_not_raw_counts_is_of_the_wrong_container(tmp_path: Path, make: Callable[[Path], bytes]) -> None:
    assert problem(make(tmp_path / "a.tif")).reason is Reason.WRONG_CONTAINER


# Hostile files


HUGE = {hostile.WIDTH: (4, [1 << 31]), hostile.HEIGHT: (4, [1 << 31])}
GIANT_TILE = {
    hostile.STRIP_OFFSETS: None,
    hostile.STRIP_BYTES: None,
    hostile.ROWS_PER_STRIP: None,
    hostile.TILE_WIDTH: (4, [1 << 30]),
    hostile.TILE_HEIGHT: (4, [1 << 30]),
    hostile.TILE_OFFSETS: (4, [8]),
    hostile.TILE_BYTES: (4, [8]),
}
HOSTILE: dict[str, tuple[Callable[[], bytes], Reason]] = {
    "2^31 x 2^31": (lambda: tiff(tags=HUGE), Reason.TOO_LARGE),
    "2^31 x 2^31 in BigTIFF": (lambda: tiff(form=Form(big=True), tags=HUGE), Reason.TOO_LARGE),
    "a tile of 2^30 x 2^30": (lambda: tiff(tags=GIANT_TILE), Reason.TOO_LARGE),
    "declares 2 GB, deflated": (lambda: hostile.deflate_bomb(1 << 15, 1 << 15, 1 << 20), Reason.TOO_LARGE),
    "inflates to 512 MB": (lambda: hostile.deflate_bomb(64, 64, 1 << 29), Reason.TRUNCATED),
    "a directory that leads to itself": (hostile.loop_to_itself, Reason.UNREADABLE),
    "two directories that lead to each other": (hostile.loop_of_two, Reason.UNREADABLE),
    "10 000 pages": (lambda: hostile.many_pages(10_000), Reason.WRONG_SHAPE),
    "two pages": (lambda: hostile.many_pages(2), Reason.WRONG_SHAPE),
    "a next directory past the end": (lambda: tiff(following=1 << 30), Reason.TRUNCATED),
    "the other byte order": (lambda: b"MM\0*" + tiff()[4:], Reason.TRUNCATED),
    "strips past the end": (lambda: tiff(tags={hostile.STRIP_OFFSETS: (4, [1 << 30] * 8)}), Reason.TRUNCATED),
    "strips of no bytes": (lambda: tiff(tags={hostile.STRIP_BYTES: (4, [0] * 8)}), Reason.TRUNCATED),
    "strips at zero": (lambda: tiff(tags={hostile.STRIP_OFFSETS: (4, [0] * 8)}), Reason.TRUNCATED),
    "strips too short": (lambda: tiff(tags={hostile.STRIP_BYTES: (4, [9] * 8)}), Reason.TRUNCATED),
    "too few strips": (lambda: tiff(tags={hostile.STRIP_OFFSETS: (4, [300] * 3)}), Reason.TRUNCATED),
    "more rows than strips": (lambda: tiff(tags={hostile.HEIGHT: (4, [640])}), Reason.TRUNCATED),
    "no strips": (lambda: tiff(tags={hostile.STRIP_OFFSETS: None, hostile.STRIP_BYTES: None}), Reason.TRUNCATED),
    "no sizes of strips": (lambda: tiff(tags={hostile.STRIP_BYTES: None}), Reason.TRUNCATED),
    "a tag of 4 GB": (
        lambda: tiff().replace(struct.pack("<HHI", 273, 4, 8), struct.pack("<HHI", 273, 4, 1 << 30)),
        Reason.TRUNCATED,
    ),
    "a thousand tags of the same 100 kB": (lambda: hostile.many_tags(1000, 100_000), Reason.UNREADABLE),
    "noise after the magic": (
        lambda: b"II*\0" + np.random.default_rng(0).integers(1, 255, 10_000, np.uint8).tobytes(),
        Reason.TRUNCATED,
    ),
    "damaged LZW": (lambda: tiff(form=HARMONY)[:400] + b"\xff" * 64 + tiff(form=HARMONY)[464:], Reason.TRUNCATED),
}


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_problem_and_costs_next_to_nothing(name: str, traced: None) -> None:
    make, reason = HOSTILE[name]
    data = make()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    assert problem(data).reason is reason
    assert tracemalloc.get_traced_memory()[1] - before < 4 << 20


def test_a_plane_may_be_as_large_as_allowed_and_no_larger() -> None:
    pixels = plane(64, 96)
    assert decode_plane(tiff(pixels), max_plane_bytes=pixels.nbytes).pixels.shape == (64, 96)
    assert problem(tiff(pixels), max_plane_bytes=pixels.nbytes - 1).reason is Reason.TOO_LARGE


@settings(max_examples=300)
@given(
    st.sampled_from([PLAIN, HARMONY, ONE_STRIP, Form(big=True), Form(compression=hostile.DEFLATE)]),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
)
def test_any_damage_ends_in_a_plane_or_a_problem(form: Form, damages: list[tuple[int, bytes]]) -> None:
    data = bytearray(tiff(plane(16, 24), form))
    for place, damage in damages:
        start = place % len(data)
        data[start : start + len(damage)] = damage
    try:
        pixels = decode_plane(bytes(data)).pixels
    except TiffProblem:
        return
    assert pixels.ndim == 2
    assert pixels.dtype in (np.uint8, np.uint16)


# Harmony's tag


XML = '<Image Version="1"><Row>2</Row><Col>3</Col></Image>'


def test_a_simulated_plane_has_harmonys_tags() -> None:
    pixels = plane()
    tags = hostile.tags_of(encode_plane(pixels, harmony_xml=XML, statistics_json="{}"))
    assert struct.unpack("<H", tags[340][2]) == (pixels.min(),)
    assert struct.unpack("<H", tags[341][2]) == (pixels.max(),)
    assert tags[65500] == (1, len(XML), XML.encode())
    assert tags[65520][2].rstrip(b"\0") == b"{}"
    assert struct.unpack("<H", tags[hostile.COMPRESSION][2]) == (hostile.LZW,)


def test_the_text_of_the_tag_comes_back() -> None:
    assert harmony_xml(encode_plane(plane(), harmony_xml=XML)) == XML
    assert harmony_xml(encode_plane(plane())) is None


@given(st.text(min_size=5, max_size=200).filter(lambda text: len(text.encode(errors="ignore")) >= 5))
def test_another_text_changes_nothing_else(text: str) -> None:
    text = text.encode(errors="ignore").decode()
    data = encode_plane(plane(8, 8), harmony_xml=XML)
    replaced = replace_harmony_xml(data, text)
    assert harmony_xml(replaced) == text
    changed = [place for place in range(len(data)) if data[place] != replaced[place]]
    entry = data.find(struct.pack("<HHI", 65500, 1, len(XML)))
    assert set(changed) <= set(range(entry + 4, entry + 12))
    np.testing.assert_array_equal(decode_plane(replaced).pixels, plane(8, 8))


def test_the_text_of_a_real_file_can_be_replaced(shared_data: Path) -> None:
    data = (shared_data / PHENIX.format(5)).read_bytes()
    text = harmony_xml(data)
    assert text is not None
    replaced = replace_harmony_xml(data, text.replace("<Row>3</Row>", "<Row>12</Row>"))
    assert "<Row>12</Row>" in (harmony_xml(replaced) or "")
    np.testing.assert_array_equal(decode_plane(replaced).pixels, decode_plane(data).pixels)
    before, after = hostile.tags_of(data), hostile.tags_of(replaced)
    assert {tag for tag in before if before[tag] != after[tag]} == {65500}


def test_a_text_in_a_big_endian_file_can_be_replaced() -> None:
    form = Form(order=">")
    data = tiff(form=form, tags={65500: (1, list(XML.encode()))})
    replaced = replace_harmony_xml(data, XML * 2)
    assert harmony_xml(replaced) == XML * 2
    np.testing.assert_array_equal(decode_plane(replaced).pixels, plane())


def test_a_text_in_a_bigtiff_is_not_replaced() -> None:
    with pytest.raises(ValueError, match="not a classic TIFF"):
        replace_harmony_xml(tiff(form=Form(big=True), tags={65500: (1, list(XML.encode()))}), XML)


def test_a_file_without_the_tag_is_not_given_one() -> None:
    with pytest.raises(KeyError):
        replace_harmony_xml(encode_plane(plane()), XML)

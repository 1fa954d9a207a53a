"""Files damaged on purpose: each is wrong in the one way that is meant, and keeps its address."""

from collections.abc import Callable

import numpy as np
import pytest

from hcs_daemon.intake.validation import Expected, Refusal, examine
from hcs_daemon.records import PlaneMeasures
from hcs_daemon.simulate import spoil
from hcs_daemon.simulate.layout import plan_plate
from hcs_daemon.simulate.site import render_site
from hcs_daemon.tiff import TiffProblem, decode_plane, encode_plane, harmony_xml
from hcs_daemon.vocabulary import Reason

TAG = "<TiffImageInfo><Image><Row>1</Row><Col>1</Col></Image></TiffImageInfo>"
EXPECTED = Expected(16, "uint16")


@pytest.fixture(scope="module")
def planes() -> list[bytes]:
    """Five good planes."""
    made = render_site(plan_plate(6, 0, "P")[0], 1, plate="P", seed=0, size_px=128)
    return [encode_plane(pixels, harmony_xml=TAG) for pixels in made.pixels]


def verdict(data: bytes) -> Reason | None:
    try:
        found = examine(decode_plane(data).pixels, EXPECTED)
    except TiffProblem as problem:
        return problem.reason
    return found.reason if isinstance(found, Refusal) else None


def test_the_good_planes_are_good(planes: list[bytes]) -> None:
    assert [verdict(data) for data in planes] == [None] * 5


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (spoil.truncated, Reason.TRUNCATED),
        (spoil.eight_bit, Reason.WRONG_CONTAINER),
        (spoil.eight_bit_scaled, Reason.BIT_DEPTH),
        (spoil.shifted_12_bit, Reason.BIT_DEPTH),
        (spoil.rgb, Reason.WRONG_SHAPE),
        (spoil.text, Reason.NOT_AN_IMAGE),
        (spoil.other_shape, None),  # a good plane, and wrong only beside the plate's others
    ],
)
def test_damage_is_found_for_what_it_is_in_every_channel(
    planes: list[bytes], damage: Callable[[bytes], bytes], reason: Reason | None
) -> None:
    assert [verdict(damage(data)) for data in planes] == [reason] * 5


@pytest.mark.parametrize(
    "damage", [spoil.eight_bit, spoil.eight_bit_scaled, spoil.shifted_12_bit, spoil.other_shape, spoil.rgb]
)
def test_what_is_still_an_image_keeps_its_address(planes: list[bytes], damage: Callable[[bytes], bytes]) -> None:
    assert harmony_xml(damage(planes[0])) == TAG


def test_the_share_that_is_kept_can_be_chosen(planes: list[bytes]) -> None:
    assert spoil.truncated(planes[0], 0.25) == planes[0][: len(planes[0]) // 4]
    assert spoil.truncated(planes[0], 0.0) == b""


def test_scaled_values_are_multiples_of_257_over_the_whole_range(planes: list[bytes]) -> None:
    pixels = decode_plane(spoil.eight_bit_scaled(planes[0])).pixels
    assert (pixels.min(), pixels.max()) == (0, 65535)
    assert not (pixels % 257).any()


def test_shifted_values_are_those_of_the_plane_without_the_low_bits(planes: list[bytes]) -> None:
    before, after = decode_plane(planes[0]).pixels, decode_plane(spoil.shifted_12_bit(planes[0])).pixels
    assert np.array_equal(after, before // 16 * 16)


def test_another_shape_is_a_quarter_of_the_plane(planes: list[bytes]) -> None:
    before, after = decode_plane(planes[0]).pixels, decode_plane(spoil.other_shape(planes[0])).pixels
    assert np.array_equal(after, before[:64, :64])
    assert isinstance(examine(after, EXPECTED), PlaneMeasures)

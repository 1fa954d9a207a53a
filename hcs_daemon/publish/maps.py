"""The maps of a well's explanations, as a file that NumPy opens: what each pixel of each channel says.

NumPy's own format and not an image's: the values are signed logits and no picture, several sites of several sizes lie
in one file with the words that belong to them, and one line opens it without further libraries.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.plate import WellId
from hcs_daemon.records import Attribution, ModelFacts

SCHEMA = "hcs-daemon/explanation-maps/1"
MOST_BYTES = 64 * 1024 * 1024
"""Of all the maps of one well; a site gets an equal share of it."""


@dataclass(frozen=True, slots=True)
class SiteMap:
    """One site's map, ready to be written.

    key: of the planes it was made from, SHA-256 in channel order. heat: (channels, height, width) float16, at most 1 of
    either sign; times `unit` it is logits a pixel. bins: so many of the model's pixels, squared, are summed in one.
    """

    site: int
    key: tuple[str, ...]
    target: str
    against: str
    method: str
    passed: bool
    heat: NDArray[np.float16]
    unit: float
    bins: int


def site_map(attribution: Attribution, most_bytes: int = MOST_BYTES) -> SiteMap:
    """Pack an explanation's finite heat into at most `most_bytes`, or a pixel a channel; its sum stays.

    Where that takes fewer pixels, square blocks of them are summed, the incomplete ones at the edges as if zeros
    followed. The largest value is the unit: as bare float16, logits a pixel would be too small for their digits.
    """
    heat, bins = attribution.heat, 1
    while _blocks(heat.shape, bins) > max(1, most_bytes // (2 * len(heat))):
        bins += 1
    heat = _summed(heat, bins)
    unit = float(np.abs(heat).max(initial=0.0)) or 1.0
    return SiteMap(
        site=attribution.site.site,
        key=attribution.key,
        target=attribution.target,
        against=attribution.against,
        method=attribution.method,
        passed=attribution.checks.passed,
        heat=np.asarray(heat / np.float32(unit), np.float16),
        unit=unit,
        bins=bins,
    )


def maps_file(well: WellId, facts: ModelFacts, maps: Sequence[SiteMap]) -> bytes:
    """A `.npz` file, not compressed: noise hardly becomes smaller. Equal maps give equal bytes.

    It does not name the well's revision: the result names the file's SHA-256, and a revision with nothing new about
    the explanation goes on with the file that is there.
    """
    arrays: dict[str, Any] = {
        "schema": SCHEMA,
        "plate": well.acquisition.plate,
        "acquisition": well.acquisition.acquisition,
        "well": well.position.name,
        "time": well.time,
        "model_sha256": facts.sha256,
        "channels": list(facts.channels),
        "sites": [found.site for found in maps],
    }
    for found in maps:
        arrays |= {
            f"heat_{found.site}": found.heat,
            f"unit_{found.site}": found.unit,
            f"um_per_px_{found.site}": facts.pixel_size_um * found.bins,
            f"key_{found.site}": list(found.key),
            f"target_{found.site}": found.target,
            f"against_{found.site}": found.against,
            f"method_{found.site}": found.method,
            f"passed_{found.site}": found.passed,
        }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def maps_path(folder: Path, well: WellId) -> Path:
    """Where a well's maps are, in its plate's folder."""
    return folder / "explanations" / f"{well.stem}.npz"


def _blocks(shape: tuple[int, ...], bins: int) -> int:
    return -(-shape[1] // bins) * -(-shape[2] // bins)


def _summed(heat: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """(channels, rows, columns) float32: the sums over blocks of `bins` x `bins` pixels."""
    if bins == 1:
        return heat
    channels, height, width = heat.shape
    padded = np.pad(heat, ((0, 0), (0, -height % bins), (0, -width % bins)))
    blocks = padded.reshape(channels, padded.shape[1] // bins, bins, padded.shape[2] // bins, bins)
    return np.asarray(blocks.sum(axis=(2, 4)), np.float32)

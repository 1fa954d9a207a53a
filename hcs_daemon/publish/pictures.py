"""A well's picture: the site in its channels, what speaks for the verdict, the control beside it, and the words.

The page is laid out by `well_page`; here its boxes become pixels. NumPy mixes, Pillow writes letters: a plotting
library would take several times as long, and thousands of these are drawn.
"""

from collections.abc import Mapping

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw
from scipy import ndimage

from hcs_daemon.publish.lettering import font, line_height, width
from hcs_daemon.publish.page import Bar, Block, Image, Item, Rect, Strip, Words
from hcs_daemon.publish.palette import BAD, CONTROL_GREY, INK, PAPER, RULE, TAG, WITHHELD, Colour, channel_colours
from hcs_daemon.publish.panels import AttributionPanels
from hcs_daemon.publish.studio import WellPicture, own_range
from hcs_daemon.publish.well_page import (
    INNER_MASS,
    MAIN_PX,
    OUTER_MASS,
    SMOOTHING_SHARE,
    SMOOTHING_UM,
    Page,
    fit,
    lay_out,
)

INNER_LINE_PX, OUTER_LINE_PX = 2.6, 1.3
SITE_PX = 6
"""Radius of the dot that stands for a site."""
HALO_PX = 1.2
"""Dark on either side of a white outline, so that it is seen on bright cells too."""

Grey = NDArray[np.float32]
"""(height, width), 0 black to 1 white."""
Rgb = NDArray[np.uint8]
"""(height, width, 3)."""


def draw_well(picture: WellPicture) -> bytes:
    """A well's page as a PNG file: RGB, `well_page.PAGE_WIDTH` pixels wide. Equal pictures give equal bytes.

    The thick and the thin outline hold the smallest areas with 30 % and 60 % of the positive attribution (see
    `mass_levels`), summed over the channels and smoothed, less specks (`without_specks`); none is drawn where the
    explanation failed its checks.
    Raises ValueError when the panels do not have the result's channels.
    """
    page = lay_out(picture)
    paper = Pillow.new("RGB", (page.width, page.height), PAPER)
    painter = _Painter(picture, page, paper)
    for item in page.items:
        painter.draw(item)
    # settings of the library's own manual for speed: half the time of the default, a tenth larger
    return bytes(imagecodecs.png_encode(np.asarray(paper), level=1, strategy=3))


def stretch(pixels: NDArray[np.uint16], black: float, white: float) -> Grey:
    """Raw counts to 0 (at or below `black`) … 1 (at or above `white`), linear between."""
    span = np.float32(max(white - black, 1e-6))
    return np.asarray(np.clip((pixels.astype(np.float32) - np.float32(black)) / span, 0.0, 1.0), np.float32)


def blend(greys: list[Grey], colours: list[Colour]) -> Rgb:
    """Light of several colours on black: 1 - product of (1 - light), which never exceeds white."""
    dark = np.ones((*greys[0].shape, 3), np.float32)
    for grey, colour in zip(greys, colours, strict=True):
        dark *= 1.0 - grey[:, :, None] * (np.asarray(colour, np.float32) / 255.0)
    return np.asarray(np.rint((1.0 - dark) * 255.0), np.uint8)


def mass_levels(field: NDArray[np.float32], masses: tuple[float, ...]) -> list[float]:
    """For each mass the level above which the field's highest places hold that share of the sum of what is positive.

    The region above a level is the smallest that holds its mass.
    """
    highest = np.sort(field[field > 0])[::-1].astype(np.float64)
    held = np.cumsum(highest)
    return [float(highest[int(np.searchsorted(held, mass * held[-1]))]) for mass in masses]


def smooth_attribution(attribution: AttributionPanels, um_per_px: float | None) -> NDArray[np.float32]:
    """(height, width) of the heat: its sum over the channels, smoothed by `SMOOTHING_UM`. um_per_px: of the heat."""
    total = np.nan_to_num(attribution.heat).sum(axis=0)
    smoothed = ndimage.gaussian_filter(total, smoothing_px(total.shape, um_per_px), mode="nearest")
    return np.asarray(smoothed, np.float32)


def smoothing_px(shape: tuple[int, ...], um_per_px: float | None) -> float:
    """Standard deviation of the smoothing in pixels of a field of shape (height, width)."""
    sigma = SMOOTHING_UM / um_per_px if um_per_px else SMOOTHING_SHARE * max(shape)
    return min(sigma, max(shape) / 4)


def without_specks(above: NDArray[np.bool_], mass: float, sigma_px: float) -> NDArray[np.bool_]:
    """Without the islands that are smaller than the one that the smoothing makes of a single point.

    That is the area within which a Gaussian of `sigma_px` holds `mass`; the largest island always stays.
    """
    islands, count = ndimage.label(above)
    areas = np.bincount(islands.ravel(), minlength=count + 1)
    areas[0] = 0
    least = -2.0 * np.log(1.0 - mass) * np.pi * sigma_px**2
    return np.asarray((areas >= min(least, areas.max()))[islands] & above, np.bool_)


def outline(field: NDArray[np.float32], level: float, line_px: float, above: NDArray[np.bool_]) -> Grey:
    """How much of each pixel a line along field = level covers, by the distance |field - level| / |gradient|.

    above: what of field >= level has an outline.
    """
    near = ndimage.binary_dilation(above, iterations=4) & ~ndimage.binary_erosion(above, iterations=4, border_value=1)
    slope = np.hypot(*np.gradient(field))
    distance = np.abs(field - level) / np.maximum(slope, np.float32(1e-30))
    return np.asarray(np.where(near, np.clip(line_px / 2 + 0.5 - distance, 0.0, 1.0), 0.0), np.float32)


class _Painter:
    """Owns one sheet of paper."""

    def __init__(self, picture: WellPicture, page: Page, paper: Pillow.Image) -> None:
        self._picture, self._page, self._paper = picture, page, paper
        self._pen = ImageDraw.Draw(paper)
        channels = picture.result.channels
        self._colours = [colour for colour, _ in channel_colours(channels)]
        if picture.panels is not None and len(picture.panels.pixels) != len(channels):
            raise ValueError(f"{len(picture.panels.pixels)} panels, but {len(channels)} channels")
        self._greys = _greys(picture.panels.pixels, channels, picture.contrast) if picture.panels is not None else []

    def draw(self, item: Item) -> None:
        match item:
            case Words():
                self._write(item)
            case Block():
                self._fill(item)
            case Image():
                self._show(item)
            case Bar():
                self._bar(item)
            case Strip():
                self._strip(item)

    def _write(self, words: Words) -> None:
        """Every line is clipped to its box: whatever a letter does, it stays off its neighbours."""
        rect = words.rect
        sheet = Pillow.new("RGB", (rect.width, rect.height), words.fill or PAPER)
        pen = ImageDraw.Draw(sheet)
        letters = font(words.size_px, bold=words.bold)
        side = {True: max(words.pad, 4), False: 0}[words.fill is not None and words.align == "left"]
        for number, line in enumerate(words.lines):
            free = rect.width - width(line, words.size_px, bold=words.bold)
            x = {"left": side, "centre": free // 2, "right": free}[words.align]
            y = words.pad + number * line_height(words.size_px) + round(words.size_px * 0.04)
            pen.text((x, y), line, words.colour, font=letters)
        self._paper.paste(sheet, (rect.x, rect.y))

    def _fill(self, block: Block) -> None:
        rect = block.rect
        self._pen.rectangle(_corners(rect), block.colour, outline=TAG if block.edged else None)

    def _bar(self, bar: Bar) -> None:
        rect = bar.rect
        inset = max(3, rect.height // 5)
        left, right = sorted((bar.zero, bar.end))
        fill, ink = (bar.colour, INK) if bar.holds else (PAPER, WITHHELD)
        box = (left, rect.y + inset, right, rect.bottom - 1 - inset)
        self._pen.rectangle(box, fill, outline=None if bar.holds else ink)
        self._pen.line((bar.zero, rect.y, bar.zero, rect.bottom - 1), INK)
        if bar.whisker is not None:
            middle = rect.y + rect.height // 2
            self._pen.line((bar.whisker[0], middle, bar.whisker[1], middle), ink, 2)
            for end in bar.whisker:
                self._pen.line((end, middle - 4, end, middle + 4), ink)

    def _strip(self, strip: Strip) -> None:
        rect = strip.rect
        middle = rect.y + rect.height // 2
        if strip.band is not None:
            self._pen.rectangle((strip.band[0], rect.y, strip.band[1], rect.bottom - 1), CONTROL_GREY)
        self._pen.line((rect.x, middle, rect.right - 1, middle), RULE)
        self._pen.line((strip.well, rect.y, strip.well, rect.bottom - 1), INK, 2)
        for column, agrees in sorted(strip.sites, key=lambda site: not site[1]):  # what disagrees is drawn above
            x = min(max(rect.x + SITE_PX, column), rect.right - 1 - SITE_PX)
            around = (x - SITE_PX, middle - SITE_PX, x + SITE_PX, middle + SITE_PX)
            if agrees:
                self._pen.ellipse(around, INK, outline=PAPER)
            else:
                self._pen.ellipse(around, PAPER, outline=BAD, width=3)

    def _show(self, image: Image) -> None:
        rect = image.rect
        match image.source:
            case "grey":
                shown = self._grey(rect, image.channel)
            case "composite":
                shown = self._composite(rect)
            case "reference":
                shown = self._reference(rect)
        self._pen.rectangle(_corners(rect), (0, 0, 0))
        self._paper.paste(shown, (rect.x + (rect.width - shown.width) // 2, rect.y + (rect.height - shown.height) // 2))
        for item in image.inside:
            self.draw(item)

    def _grey(self, rect: Rect, channel: int) -> Pillow.Image:
        grey = self._greys[channel]
        size = _size(grey.shape, fit(grey.shape, rect.width, rect.height), rect)
        return _resize(Pillow.fromarray(np.asarray(np.rint(grey * 255.0), np.uint8)), size).convert("RGB")

    def _composite(self, rect: Rect) -> Pillow.Image:
        chosen = self._page.composite
        rgb = blend([self._greys[index] for index in chosen], [self._colours[index] for index in chosen])
        size = _size(rgb.shape[:2], fit(rgb.shape[:2], MAIN_PX, MAIN_PX), rect)
        shown = _resize(Pillow.fromarray(rgb), size)
        return self._outlined(shown) if self._page.outlined else shown

    def _outlined(self, shown: Pillow.Image) -> Pillow.Image:
        attribution = self._picture.attribution
        assert attribution is not None
        scale = self._page.um_per_px
        field = smooth_attribution(attribution, scale * shown.width / attribution.heat.shape[2] if scale else None)
        if not (field > 0).any():
            return shown
        levels = mass_levels(field, (INNER_MASS, OUTER_MASS))
        large = np.asarray(Pillow.fromarray(field).resize(shown.size, Pillow.Resampling.BICUBIC), np.float32)
        rgb = np.asarray(shown, np.float32)
        sigma_px = smoothing_px(large.shape, scale)
        lines = (INNER_MASS, INNER_LINE_PX), (OUTER_MASS, OUTER_LINE_PX)
        for level, (mass, line_px) in zip(levels, lines, strict=True):
            above = without_specks(large >= level, mass, sigma_px)
            halo = outline(large, level, line_px + 2 * HALO_PX, above)[:, :, None] * np.float32(0.75)
            line = outline(large, level, line_px, above)[:, :, None]
            rgb = rgb * (1 - halo) * (1 - line) + 255 * line
        return Pillow.fromarray(np.asarray(np.rint(rgb), np.uint8))

    def _reference(self, rect: Rect) -> Pillow.Image:
        reference, scale = self._picture.reference, self._page.um_per_px
        assert reference is not None
        channels = self._picture.result.channels
        greys = _greys(reference.pixels, channels, self._own_contrast())
        chosen = self._page.composite
        rgb = blend([greys[index] for index in chosen], [self._colours[index] for index in chosen])
        shape = rgb.shape[:2]
        um = reference.um_per_px
        factor = um / scale if scale and um > 0 else fit(shape, rect.width, rect.height)
        return _centre(Pillow.fromarray(rgb), factor, rect)

    def _own_contrast(self) -> Mapping[str, tuple[float, float]]:
        """The site's contrast, its own where the plate's does not name a channel: the reference is shown the same."""
        assert self._picture.panels is not None
        pairs = zip(self._picture.result.channels, self._picture.panels.pixels, strict=True)
        return {channel: self._picture.contrast.get(channel) or own_range(pixels) for channel, pixels in pairs}


def _greys(panels: NDArray[np.uint16], channels: list[str], contrast: Mapping[str, tuple[float, float]]) -> list[Grey]:
    return [
        stretch(pixels, *(contrast.get(channel) or own_range(pixels)))
        for channel, pixels in zip(channels, panels, strict=True)
    ]


def _corners(rect: Rect) -> tuple[int, int, int, int]:
    return rect.x, rect.y, rect.right - 1, rect.bottom - 1


def _size(shape: tuple[int, ...], factor: float, rect: Rect) -> tuple[int, int]:
    """(width, height) of an image of `shape` shown by `factor`, at least a pixel and not beyond the box."""
    return min(rect.width, max(1, round(shape[1] * factor))), min(rect.height, max(1, round(shape[0] * factor)))


def _resize(image: Pillow.Image, size: tuple[int, int]) -> Pillow.Image:
    """Smaller by the mean over each new pixel's area, larger by a cubic."""
    if size == image.size:
        return image
    smaller = size[0] < image.width
    return image.resize(size, Pillow.Resampling.BOX if smaller else Pillow.Resampling.BICUBIC)


def _centre(image: Pillow.Image, factor: float, rect: Rect) -> Pillow.Image:
    """The image by `factor`, and of that the centre that fits into the box."""
    across, down = min(image.width, rect.width / factor), min(image.height, rect.height / factor)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    size = max(1, round(across * factor)), max(1, round(down * factor))
    method = Pillow.Resampling.BOX if factor < 1 else Pillow.Resampling.BICUBIC
    return image.resize(size, method, box=(left, top, left + across, top + down))

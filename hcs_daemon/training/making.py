"""From labelled wells to a model package: read, split, learn, calibrate, measure, write."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hcs_daemon import __version__
from hcs_daemon.config import Settings
from hcs_daemon.device.manifest import Manifest
from hcs_daemon.device.package import load_package
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.errors import FolderError, HcsError
from hcs_daemon.novelty import Novelty, fit, wells_needed
from hcs_daemon.plate import PLATE_SHAPES, PlateLayout
from hcs_daemon.records import Pixels
from hcs_daemon.training.card import Examples, Report, card, draw, well_words
from hcs_daemon.training.controls import Guess, dealt_out, guess, places, told_by
from hcs_daemon.training.course import Course, attend, well_loss
from hcs_daemon.training.evaluation import softmax
from hcs_daemon.training.labels import Labels
from hcs_daemon.training.learning import LabelledSites, Lesson, Recipe, cautious_temperature, site_outputs, threads
from hcs_daemon.training.network import CellNetwork, Textured
from hcs_daemon.training.packaging import write_package
from hcs_daemon.training.plates import Gathered, WellName, draft, gather
from hcs_daemon.training.split import Split, check_enough, edge_only, split_wells
from hcs_daemon.training.staining import Staining, levels, measure_staining

STEPS, BATCH, VIEW_PX = 700, 32, 96
"""Enough for the simulated plate; early stopping ends it sooner where the wells are learned by then."""
LEAST_STEPS = 20
"""With fewer the learning rate has no time to rise and fall."""
PROMISES = ((0.05, 0.9), (0.1, 0.9), (0.2, 0.9), (0.2, None))
"""False-alarm rates and their confidence (None: on average); the first that the wells held out can promise is taken."""
REFERENCE_WELLS = 4

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Opens a progress bar of this name; what it gives is told (done, total)."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for.

    plates: folders. layout: as for `layout.read_layout`. column: of the layout, which names the classes. control: the
    control's class, None where the layout's roles say it. output: the package's folder.
    """

    plates: tuple[Path, ...]
    layout: Path
    column: str
    output: Path
    control: str | None = None
    seed: int = 0
    steps: int = STEPS

    @property
    def work(self) -> Path:
        """The folder that keeps what was done until the package is written."""
        return self.output.with_name(self.output.name + ".training")

    @property
    def goes_on(self) -> bool:
        """Whether a training that was ended is gone on from."""
        return any(self.work.glob("*.checkpoint"))


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it: the figures of the card, and what a person should know before using the package."""

    report: Report
    manifest: Manifest


def make_package(order: Order, settings: Settings, readers: Executor, bar: Bar, say: Callable[[str], None]) -> Made:
    """Train, and write the package whose card says how good it is.

    A training that was ended is gone on from, with the same result: its work lies in `<output>.training` until the
    package is written. readers: read files. say: takes a line now and then. Raises HcsError: plates that cannot be
    read, a layout that does not fit, too few wells.
    """
    work = _work_folder(order)
    try:
        study = _Study(order, settings, *_gathered(order, settings, readers, bar))
    except HcsError:
        with suppress(OSError):  # a folder with checkpoints stays
            (work / "pixels").unlink(missing_ok=True)
            work.rmdir()
        raise
    say(study.in_words())
    plain, course = study.learn(
        "learning", study.classes_of, study.split.validate, steps=order.steps, work=work, bar=bar
    )
    network = Textured(plain, len(settings.expect.channels))
    shuffled_network, _ = study.learn(
        "learning shuffled labels",
        study.shuffled,
        study.by_heart,
        steps=max(LEAST_STEPS, order.steps // 2),
        work=work,
        bar=bar,
    )
    with bar("measuring") as progress:
        findings = study.measure(network, shuffled_network, progress)
    manifest = study.write(network, findings, course)
    load_package(order.output)
    shutil.rmtree(work)
    return Made(findings.report, manifest)


def _gathered(
    order: Order, settings: Settings, readers: Executor, bar: Bar
) -> tuple[Gathered, str, Mapping[str, PlateLayout]]:
    """All labelled wells, the control's class, and the layouts. Raises HcsError."""
    labels = Labels(order.layout, order.column, order.control)

    def judge(found: Mapping[WellName, str]) -> None:
        check_enough(found)
        labels.control_class(found)

    with bar("reading planes") as progress:
        gathered = gather(
            order.plates,
            settings,
            labels_of=labels.of,
            judge=judge,
            scratch=order.work / "pixels",
            readers=readers,
            progress=progress,
        )
    judge(gathered.labels)  # some may have lacked planes
    return gathered, labels.control_class(gathered.labels), labels.layouts


def _work_folder(order: Order) -> Path:
    output, work = order.output, order.work
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.exists() and not output.is_dir():
            raise FolderError(f"{output} is a file", "name a folder for the package")
        work.mkdir(exist_ok=True)
    except OSError as error:
        raise FolderError(f"{work} cannot be made: {error.strerror}", "name a folder that can be written") from error
    return work


@dataclass(frozen=True, slots=True)
class _Findings:
    report: Report
    novelty: Novelty | None
    embeddings: Mapping[WellName, NDArray[np.float64]]


class _Study:
    """The wells of one training and what is made of them. Owned by `make_package`."""

    def __init__(
        self,
        order: Order,
        settings: Settings,
        gathered: Gathered,
        control: str,
        layouts: Mapping[str, PlateLayout],
    ) -> None:
        self.order = order
        self.settings = settings
        self.gathered = gathered
        self.control = control
        self._layouts = layouts
        self.classes = (control, *sorted(set(gathered.labels.values()) - {control}))
        self.split: Split = split_wells(gathered.labels, order.seed)
        self.rows: dict[WellName, list[int]] = {}
        for row, site in enumerate(gathered.sites):
            self.rows.setdefault(site.well, []).append(row)
        self.shapes = {plate: _shape(layout) for plate, layout in layouts.items()}
        self.classes_of = {well: self.classes.index(label) for well, label in gathered.labels.items()}
        self.shuffled = dealt_out(
            self.classes_of, {*self.split.learn, *self.split.validate}, gathered.twins, order.seed
        )
        self.staining: Staining = measure_staining(
            [self._pixels([well]) for well in self.split.learn if gathered.labels[well] == control]
        )
        normalisation = self.staining.normalisation
        self.draft = draft(settings, gathered.pixel_size_um, gathered.tile_px, normalisation)
        self.tiler = Tiler(self.draft, torch.device("cpu"))
        self.recipe = Recipe(
            steps=order.steps,
            batch=BATCH,
            gain_spread=self.staining.bright_spread,
            offset_spread=self.staining.dark_spread,
            camera_offset=self.staining.dark,
            threads=2,
            balanced=True,
            device="cuda" if torch.cuda.is_available() else "cpu",
        )

    @property
    def by_heart(self) -> tuple[WellName, ...]:
        """As many wells as otherwise say when to stop, of those that teach: the shuffled labels are to be learned."""
        learn = self.split.learn
        return learn[:: max(1, len(learn) // len(self.split.validate))]

    def in_words(self) -> str:
        """What is learned from."""
        split = self.split
        held = f"all of plate {split.plate}" if split.plate is not None else f"{len(split.held_out)} wells"
        return (
            f"{len(self.gathered.labels)} wells of {len(self.classes)} classes: {len(split.learn)} to learn from,"
            f" {len(split.validate)} to say when to stop, {held} held out; learning on {self.recipe.device}"
        )

    def learn(
        self,
        what: str,
        classes_of: Mapping[WellName, int],
        validate: Sequence[WellName],
        *,
        steps: int,
        work: Path,
        bar: Bar,
    ) -> tuple[CellNetwork, Course]:
        """A network that has learned these classes of the wells, folded, and how that went.

        validate: the wells that say when to stop.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.order.seed)
            network = CellNetwork(len(self.settings.expect.channels), len(self.classes))
        recipe = replace(self.recipe, steps=steps)
        sites = self._labelled(self.split.learn, classes_of)
        lesson = Lesson(
            network,
            sites,
            tiler=self.tiler,
            tile_px=min(VIEW_PX, self.gathered.tile_px),
            control=0,
            recipe=recipe,
            rng=np.random.default_rng([self.order.seed, 1]),
        )
        wanted = np.array([classes_of[well] for well in validate])
        with bar(what) as progress:
            course = attend(
                lesson,
                steps,
                lambda module: well_loss(self._outputs(module, validate)[0], wanted),
                checkpoint=work / f"{what.replace(' ', '-')}.checkpoint",
                key=self._key(recipe, sites, validate),
                report=partial(_advance, progress, steps),
            )
        return network, course

    def measure(self, network: Textured, shuffled: CellNetwork, progress: Callable[[int, int], None]) -> _Findings:
        """Every figure of the card; the network's logits are divided by the temperature for good."""
        held, learn = self.split.held_out, self.split.learn
        labels, learned_labels = self._labels(held), self._labels(learn)
        learned_logits, learned = self._outputs(network, learn)
        network.measure(torch.from_numpy(learned).float())
        learned = (learned - network.centre.numpy()) / network.scale.numpy()
        progress(1, 4)
        logits, embeddings = self._outputs(network, held)
        progress(2, 4)
        temperature = cautious_temperature(logits, labels)
        network.network.cool(temperature)
        sites = int(np.median([len(self.rows[well]) for well in held]))
        novelty, novelty_words = _novelty(learned, learned_labels, embeddings, sites)
        blind, known = (self._outputs(shuffled, wells)[0].argmax(axis=1) for wells in (held, learn))
        progress(3, 4)
        everything = sorted(self.gathered.labels)
        spots = places(everything, self.shapes)
        light = np.stack([levels(self._pixels([well]))[0] for well in everything])
        classes, seed = self._labels(everything), self.order.seed
        report = Report(
            order_seed=seed,
            column=self.order.column,
            classes=self.classes,
            channels=tuple(self.settings.expect.channels),
            plates=self.gathered.plates,
            layouts={layout.source: layout.sha256 for layout in self._layouts.values()},
            refused=self.gathered.refused,
            lacking=self.gathered.lacking,
            twins=self.gathered.twins,
            split=self.split,
            counts={name: self._count(name) for name in self.classes},
            labels=labels,
            before=softmax(logits),
            after=softmax(logits / _cross_fitted(logits, labels)[:, None]),
            learned_right=learned_logits.argmax(axis=1) == learned_labels,
            temperature=temperature,
            given=softmax(logits / temperature),
            hit_probability=self.settings.model.hit_probability,
            novelty=novelty_words,
            shuffled=guess(self._labels(held, self.shuffled), blind, seed),
            own=guess(labels, logits.argmax(axis=1), seed),
            by_heart=guess(self._labels(learn, self.shuffled), known, seed),
            by_place=self._guess(classes, told_by(spots, classes, seed)),
            by_light=self._guess(classes, told_by(np.hstack([spots, light]), classes, seed)),
            shapes=self.shapes,
            edge_only=edge_only(self.gathered.labels, self.shapes),
            staining=self.staining,
            pixel_size_um=self.gathered.pixel_size_um,
            tile_px=self.gathered.tile_px,
        )
        progress(4, 4)
        validate = self.split.validate
        shown = (*zip(held, embeddings, strict=True), *zip(validate, self._outputs(network, validate)[1], strict=True))
        return _Findings(report, novelty, dict(shown) | dict(zip(learn, learned, strict=True)))

    def write(self, network: Textured, findings: _Findings, course: Course) -> Manifest:
        """The whole package."""
        typical = {name: self._typical(name, findings.embeddings) for name in self.classes}
        references = {name: self._tiles(wells) for name, wells in typical.items()}
        said = {
            name: tuple(f"well {well[1].name} of plate {well[0]}, as {name}, {self._part(well)}" for well in wells)
            for name, wells in typical.items()
        }
        fields = self.draft.model_dump(by_alias=True, exclude={"weights_sha256", "novelty_sha256", "torch"}) | {
            "name": self.order.output.name[:80],
            "version": "1",
            "classes": self.classes,
            "control_class": self.control,
            "references": said,
            "warnings": findings.report.warnings,
        }
        first = np.stack([references[name][0] for name in self.classes[:2]]).astype(np.float32)
        examples = [Examples(name, tuple(map(well_words, typical[name])), references[name]) for name in self.classes]
        pictures = draw(self.order.output, examples, tuple(self.settings.expect.channels))
        text = card(findings.report, course, self.recipe, pictures)
        return write_package(
            self.order.output,
            module=network,
            manifest_fields=fields,
            selftest_input=self.tiler.normalised(torch.from_numpy(first)).numpy(),
            references=references,
            card=text,
            novelty=findings.novelty,
        )

    def _guess(self, labels: NDArray[np.int64], found: NDArray[np.int64]) -> Guess:
        return guess(labels, found, self.order.seed)

    def _count(self, name: str) -> tuple[int, int, int]:
        parts = (self.split.learn, self.split.validate, self.split.held_out)
        learn, validate, held = (sum(self.gathered.labels[well] == name for well in part) for part in parts)
        return learn, validate, held

    def _labels(self, wells: Sequence[WellName], classes_of: Mapping[WellName, int] | None = None) -> NDArray[np.int64]:
        known = self.classes_of if classes_of is None else classes_of
        return np.array([known[well] for well in wells], np.int64)

    def _pixels(self, wells: Sequence[WellName]) -> list[Pixels]:
        return [self.gathered.pixels[row] for well in wells for row in self.rows[well]]

    def _labelled(self, wells: Sequence[WellName], classes_of: Mapping[WellName, int]) -> LabelledSites:
        labels = [classes_of[well] for well in wells for _ in self.rows[well]]
        return LabelledSites(self._pixels(wells), np.array(labels, np.int64))

    def _outputs(
        self, module: torch.nn.Module, wells: Sequence[WellName]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(wells, classes) logits and (wells, features) embeddings, the means over each well's sites."""
        with threads(self.recipe.threads):
            found = site_outputs(module, self._pixels(wells), self.tiler, self.gathered.pixel_size_um)
        starts = np.cumsum([0, *(len(self.rows[well]) for well in wells[:-1])])
        sizes = np.array([len(self.rows[well]) for well in wells])[:, None]
        logits, embeddings = (np.add.reduceat(values, starts, axis=0) / sizes for values in found)
        return logits, embeddings

    def _typical(self, name: str, embeddings: Mapping[WellName, NDArray[np.float64]]) -> list[WellName]:
        """The class's wells nearest to what is usual for it; one that taught only where no other is left."""
        own = [well for well in embeddings if self.gathered.labels[well] == name]
        usual = np.median([embeddings[well] for well in own], axis=0)
        taught = set(self.split.learn)
        own.sort(key=lambda well: (well in taught, float(((embeddings[well] - usual) ** 2).sum())))
        return own[:REFERENCE_WELLS]

    def _part(self, well: WellName) -> str:
        if well in self.split.held_out:
            return "held out"
        return "learned from" if well in self.split.learn else "that said when to stop"

    def _tiles(self, wells: Sequence[WellName]) -> Pixels:
        """Of each well the plainest tile of its first site, raw counts."""
        sites = (self._pixels([well])[0] for well in wells)
        tiles = [plainest_tile(site, self.tiler, self.gathered.pixel_size_um) for site in sites]
        return np.stack(tiles)  # type: ignore[return-value]  # numpy widens the type to generic

    def _key(self, recipe: Recipe, sites: LabelledSites, validate: Sequence[WellName]) -> str:
        """Of all that the weights depend on."""
        said = {
            "version": __version__,
            "torch": torch.__version__,
            "seed": self.order.seed,
            "recipe": asdict(recipe),
            "labels": sites.labels.tolist(),
            "plates": [asdict(plate) for plate in self.gathered.plates],
            "validate": [f"{plate} {position.name}" for plate, position in validate],
            "draft": self.draft.text(),
            "classes": self.classes,
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _advance(progress: Callable[[int, int], None], steps: int, done: int) -> None:
    progress(done, steps)


def plainest_tile(site: Pixels, tiler: Tiler, pixel_size_um: float) -> Pixels:
    """The tile whose mean light, of each channel as the network sees it, is nearest its site's; no network is asked.

    site: (channels, height, width) raw counts at pixel_size_um, the model's own.
    """
    whole = tiler.normalised(tiler.resampled(site, pixel_size_um)).mean(dim=(1, 2))
    light = tiler.tiles(site, pixel_size_um).mean(dim=(2, 3))
    found = tiler.layout(site.shape, pixel_size_um)
    row, column = found.corners[int(((light - whole) ** 2).sum(dim=1).argmin())]
    return site[:, row : row + found.tile_px, column : column + found.tile_px]


def _shape(layout: PlateLayout) -> tuple[int, int]:
    """Rows and columns of the smallest plate that has all wells of the layout."""
    rows = max(well.row for well in layout.wells)
    columns = max(well.column for well in layout.wells)
    fitting = [shape for shape in PLATE_SHAPES.values() if shape[0] >= rows and shape[1] >= columns]
    return min(fitting, key=lambda shape: shape[0] * shape[1], default=(rows, columns))


def _cross_fitted(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(wells,) the temperature for each well, from the other half: it is judged on wells that it never saw."""
    half = np.empty(len(labels), bool)
    half[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2 == 0
    found = np.empty(len(labels))
    for part in (half, ~half):
        found[part] = cautious_temperature(logits[~part], labels[~part])
    return found


def _novelty(
    learned: NDArray[np.float64], labels: NDArray[np.int64], held_out: NDArray[np.float64], sites: int
) -> tuple[Novelty | None, str]:
    """What tells wells that are unlike all seen, and what the card says of it. sites: of a well held out."""
    enough = [promise for promise in PROMISES if wells_needed(*promise) <= len(held_out)]
    if not enough:
        few = wells_needed(*PROMISES[-1])
        return None, f"none: {len(held_out)} wells are held out, and {few} are needed to promise a false-alarm rate"
    rate, confidence = enough[0]
    try:
        found = fit(learned, labels, false_alarm_rate=rate, held_out=held_out, confidence=confidence)
    except ValueError as error:
        return None, f"none: {error}"
    promised = "on average" if confidence is None else f"with a confidence of {confidence:g}"
    return replace(found, sites=sites), (
        f"a score above {found.threshold:.2f} marks a well as unlike all that were learned from; of wells like those"
        f" held out at most {rate:g} are marked falsely, {promised} (from {len(held_out)} wells with"
        f" {sites} site{'s' if sites > 1 else ''} each; with others the rate does not hold)"
    )

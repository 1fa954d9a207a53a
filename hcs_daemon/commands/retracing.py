"""A result's way once more, from its files to its verdict, each step beside what was recorded. Behind `trace`.

Everything is done by the very functions that the daemon uses; only what they are given comes from the result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from hcs_daemon import novelty
from hcs_daemon.config import Expect
from hcs_daemon.device.manifest import NOVELTY_NAME, Manifest, read_manifest, scale_problem
from hcs_daemon.errors import FolderError, PackageError
from hcs_daemon.instruments import INSTRUMENTS
from hcs_daemon.instruments.manifest import Manifest as Promise
from hcs_daemon.instruments.naming import FileKind, Instrument, as_text, name_of_root
from hcs_daemon.intake.arrival import list_files
from hcs_daemon.intake.expectation import Expectation
from hcs_daemon.intake.opening import read_metadata
from hcs_daemon.intake.projection import Fold, channel_image, required_steps
from hcs_daemon.intake.reading import Brought, Decoded, Gone, Layer, NotYet, Refused, bring_together, look, read_plane
from hcs_daemon.intake.validation import Expected
from hcs_daemon.novelty import Novelty
from hcs_daemon.plate import SiteId
from hcs_daemon.publish.documents import input_uses, predictions, well_id
from hcs_daemon.publish.schemas import PlateFile, WellResult
from hcs_daemon.publish.verdict import judge
from hcs_daemon.records import ChannelImage, ModelFacts, Pixels, PlaneRecord, Prediction, Site, StableFile, StepRecord
from hcs_daemon.steps import measure
from hcs_daemon.vocabulary import Used

ROUNDING = 1e-6
"""Floats of another numpy, torch or processor may differ by this share of the largest value and be called the same."""
OUTPUT_ROUNDING = 1e-5
"""The same of what the network gives, which also depends on how many sites it is shown at once."""
OTHER_DEVICE_ROUNDING = 1e-3
"""The same where the result was made on a card and is traced without one: what a package's self-test allows."""


class Match(StrEnum):
    """How a step compares with what was recorded of it."""

    SAME = "same"
    ROUNDED = "rounded"
    DIFFERS = "differs"
    UNRECORDED = "unrecorded"
    UNREACHABLE = "unreachable"
    NO_MODEL = "no_model"


@dataclass(frozen=True, slots=True)
class Values:
    """What is known of one array; None where it is not. size_bytes: of a file."""

    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    digest: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one channel, or of the site. of: `DNA`, `DNA z2`, or empty. detail: what is to be said, in words."""

    name: str
    match: Match
    site: int | None = None
    of: str = ""
    path: str = ""
    now: Values = field(default_factory=Values)
    recorded: Values | None = None
    detail: str = ""


@dataclass(slots=True)
class Model:
    """The package, as far as it can be used. problem: why the network, or any of it, cannot be."""

    manifest: Manifest | None
    problem: str = ""


class Retrace:
    """One result, followed again.

    root: the folder that its inputs are relative to. package: the model's folder. notes: in words, what a reader should
    know beside the steps. Raises FolderError where the root cannot be listed.
    """

    def __init__(self, result: WellResult, plate: PlateFile, expect: Expect, root: Path, package: Path) -> None:
        self._result = result
        self._plate = plate
        self._root = root
        self._package = package
        self.notes: list[str] = []
        self._planes = [use for use in input_uses(result) if use.used is not Used.SUPERSEDED]
        self._expect = self._as_it_was(expect)
        self._instrument = next((each for each in INSTRUMENTS if each.name == plate.instrument), None)
        self._expectation = Expectation(self._expect, tuple(result.channels))
        if not root.is_dir():
            raise FolderError(
                f"{root}, which the inputs are relative to, is not there",
                "mount the share, or name with --root where that folder is now: the watched one, or after"
                " `process PLATE` the plate's own",
            )
        self._read_promises()
        self.model = self._read_model()
        self._network = _Network(package, result, self.model)

    def _as_it_was(self, expect: Expect) -> Expect:
        """What the result was made with: of settings that plate.json holds no more, as far as the result says it."""
        if self._plate.settings_fingerprint == self._result.settings_fingerprint:
            return expect
        self.notes.append(
            "plate.json holds other settings than this result was made with: projection and flat field are as the "
            "result says, the rest as plate.json does"
        )
        changed = {
            "projection": self._result.projection or expect.projection,
            "flatfield": "instrument" if self._result.flatfield else "off",
        }
        return expect.model_copy(update=changed)

    def _read_promises(self) -> None:
        """The instrument's metadata once more, where pixels depend on it."""
        if self._instrument is None or (self._expect.flatfield == "off" and self._expect.pixel_size_um):
            return
        root_name, folder = name_of_root(self._root), PurePosixPath(self._plate.folder)
        try:
            for seen in list_files(self._root / self._plate.folder):
                path = PurePosixPath(as_text(seen.path.relative_to(self._root).as_posix()))
                if self._is_promise(self._instrument, root_name, path, folder):
                    file = StableFile(seen.path, seen.size_bytes, seen.mtime_ns)
                    said = read_metadata(self._instrument, file)
                    if isinstance(said, Promise):
                        self._expectation.promise(path.as_posix(), said)
        except OSError as error:
            self.notes.append(f"the plate's folder cannot be listed for its metadata: {error.strerror}")

    @staticmethod
    def _is_promise(instrument: Instrument, root_name: str, path: PurePosixPath, folder: PurePosixPath) -> bool:
        is_metadata = instrument.read_name(root_name, path).kind is FileKind.METADATA
        return is_metadata and instrument.measurement_folder(path) == folder

    def _read_model(self) -> Model:
        try:
            manifest = read_manifest(self._package)
        except PackageError as error:
            return Model(None, error.message)
        made_with = self._result.model
        if manifest.weights_sha256 != made_with.sha256:
            return Model(
                manifest,
                f"{self._package} is another package, {manifest.name} {manifest.version} with the weights "
                f"{manifest.weights_sha256[:12]}; the result was made with {made_with.name} {made_with.version}, "
                f"{made_with.sha256[:12]}",
            )
        if manifest.channel_names != tuple(self._result.channels):
            return Model(None, f"the package has the channels {', '.join(manifest.channel_names)}")
        return Model(manifest)

    # ---- the steps

    def steps(self, sites: Sequence[int]) -> Iterator[Step]:
        """Every step of the sites, in order, and then the well's verdict."""
        given = predictions(self._result)
        recorded = {place.site: prediction for place, prediction in given.items()}
        found = dict(recorded)
        for number in sites:
            blame = _Blame()
            for step in self._site(number, recorded[number], found):
                yield replace(blame.look(step), site=number)
        yield from self._verdict(found)

    def _site(self, number: int, recorded: Prediction, found: dict[int, Prediction]) -> Iterator[Step]:
        images: list[ChannelImage] = []
        layers: list[Pixels] = []
        for index, channel in enumerate(self._result.channels):
            read: dict[PlaneRecord, Pixels] = {}
            planes = self._chosen(number, channel)
            for plane in planes:
                label = channel if len(planes) == 1 else f"{channel} z{plane.id.z}"
                yield from self._plane(plane, label, read)
            yield from self._image(
                channel, index=index, planes=planes, read=read, recorded=recorded, images=images, layers=layers
            )
        if len(layers) < len(self._result.channels):
            return
        if len({(layer.shape, layer.dtype) for layer in layers}) > 1:
            yield Step("resampled", Match.DIFFERS, detail="the channels are of different sizes or types")
            return
        size_um = self._expectation.pixel_size_um() or self._plate.pixel_size_um
        if size_um is None:
            yield Step("resampled", Match.UNREACHABLE, detail="nothing says the size of a pixel any more")
            return
        pixels: Pixels = np.stack(layers)  # type: ignore[assignment]  # numpy widens the type to generic
        site = Site(SiteId(well_id(self._result), number), tuple(images), pixels, size_um)
        yield from self._network.steps(site, recorded, found, self._result)

    def _chosen(self, number: int, channel: str) -> list[PlaneRecord]:
        """The planes of an image: those that were analysed, or by other settings those that then would be."""
        here = [use for use in self._planes if use.plane.id.site.site == number and use.plane.channel == channel]
        projection = self._expect.projection
        if projection == (self._result.projection or projection):
            return [use.plane for use in here if use.used is Used.ANALYSED]
        wanted = required_steps(projection, frozenset(use.plane.id.z for use in here))
        return [use.plane for use in here if use.plane.id.z in wanted]

    def _gone(self) -> str:
        """Why a file is not there, which may be because another folder was named as the root."""
        if self._root == Path(self._plate.root):
            return "the file is not there any more"
        folder = PurePosixPath(self._plate.folder)
        holds = f"which holds {folder}" if folder.parts else "the plate's own folder"
        return f"the file is not below {self._root}, which should be the present place of {self._plate.root}, {holds}"

    def _plane(self, plane: PlaneRecord, label: str, read: dict[PlaneRecord, Pixels]) -> Iterator[Step]:
        """The file and its pixels. read: takes the pixels."""
        source = plane.source
        path = self._root / source.path
        facts_of = partial(self._instrument.read_tags, PurePosixPath(source.path)) if self._instrument else None
        try:
            seen = look(path)
            file = StableFile(path, seen.size_bytes, seen.mtime_ns)
            expected = Expected.of(self._expect)
            outcome = read_plane(file, expected, facts_of) if facts_of else read_plane(file, expected)
        except FileNotFoundError:
            outcome = Gone()
        except OSError as error:
            outcome = NotYet(f"{type(error).__name__}: {error.strerror}")
        recorded = Values(digest=source.sha256, size_bytes=source.size_bytes)
        if not isinstance(outcome, Decoded | Refused) or outcome.sha256 is None:
            why = self._gone() if isinstance(outcome, Gone) else _why(outcome)
            yield Step("file", Match.UNREACHABLE, None, label, source.path, Values(), recorded, why)
            return
        now = Values(digest=outcome.sha256, size_bytes=seen.size_bytes)
        match, detail = compare(now, recorded)
        yield Step("file", match, None, label, source.path, now, recorded, detail)
        if isinstance(outcome, Refused):
            said = f"it is refused now, as {outcome.refusal.reason}: {outcome.refusal.detail}"
            yield Step("decoded", Match.DIFFERS, None, label, source.path, Values(), _decoded(plane), said)
            return
        read[plane] = outcome.pixels
        if outcome.facts is not None:
            self._expectation.taken.setdefault(plane.channel, outcome.facts)
        now = values(measure("decoded", [outcome.pixels]), 0)
        match, detail = compare(now, _decoded(plane))
        if match is Match.SAME and _close(outcome.measures.focus, plane.measures.focus) is False:
            match = Match.DIFFERS
            detail = f"its focus is {outcome.measures.focus:.6g}, recorded {plane.measures.focus:.6g}"
        yield Step("decoded", match, None, label, source.path, now, _decoded(plane), detail)

    def _image(
        self,
        channel: str,
        *,
        index: int,
        planes: Sequence[PlaneRecord],
        read: Mapping[PlaneRecord, Pixels],
        recorded: Prediction,
        images: list[ChannelImage],
        layers: list[Pixels],
    ) -> Iterator[Step]:
        """The planes made into one image, and corrected. images, layers: take it, where it could be made."""
        if not planes or len(read) < len(planes):
            if not planes:
                yield Step("projected", Match.DIFFERS, of=channel, detail="no plane is there that would be analysed")
            return
        image = channel_image(self._expect.projection, planes, self._expectation.correction(channel))
        flatfield = self._expectation.flatfields.get(channel)
        lacks = self._expect.flatfield == "instrument" and flatfield is None
        try:
            held = _folded(image, read)
        except ValueError:
            yield Step("projected", Match.DIFFERS, of=channel, detail="its planes are of different sizes")
            return
        brought = bring_together([Layer(image, (), held, flatfield)], measured=True)
        steps = brought.steps if isinstance(brought, Brought) else (measure("projected", [held]),)
        for step in steps:
            yield _against(step, 0, recorded, place=index, channel=channel, image=image)
        if lacks:
            said = "the metadata that holds the instrument's flat field is not there any more"
            yield Step("corrected", Match.UNREACHABLE, of=channel, detail=said)
        elif not isinstance(brought, Brought):
            yield Step("corrected", Match.DIFFERS, of=channel, detail=brought.problem)
        else:
            images.append(image)
            layers.append(brought.pixels[0])

    def _verdict(self, found: Mapping[int, Prediction]) -> Iterator[Step]:
        """The well's verdict, of the sites' logits as they came now, of sites that are not traced as recorded."""
        said = self._result.prediction
        classes = tuple(self._result.classes)
        if said is None or any(len(each.logits) != len(classes) for each in found.values()):
            return
        limit = float(self._plate.settings.get("model", {}).get("hit_probability", 1.0))
        known = self._novelty()
        if said.novelty is not None and known is None:
            self.notes.append("what the package knows of unlike wells is not there: whether this is one is not traced")
        verdict = judge(replace(_facts(self._result), novelty=known), found, limit)
        assert verdict is not None  # there is a site
        shares = [verdict.probabilities[name] for name in classes]
        now = _of_floats(np.array(shares))
        recorded = _of_floats(np.array([said.probabilities.get(name, -1.0) for name in classes]))
        differs = [
            f"{name} is {here:.6f}, recorded {said.probabilities.get(name, -1.0):.6f}"
            for name, here in verdict.probabilities.items()
            if abs(here - said.probabilities.get(name, -1.0)) > 2 * OUTPUT_ROUNDING
        ]
        traced = (known is None) == (said.novelty is None)
        has_control = bool(self._result.model.control_class)
        if not has_control:
            self.notes.append("the result is older than the name of the control's class in it: the hit is not traced")
        for name, here, then in (
            ("label", verdict.label if traced else said.label, said.label),
            ("nearest", verdict.nearest, said.first),
            ("hit", verdict.hit if traced and has_control else said.hit, said.hit),
            ("site_agreement", round(verdict.site_agreement, 4), said.site_agreement),
            ("representative_site", verdict.representative, said.representative_site),
        ):
            if here != then:
                differs.append(f"{name} is {here}, recorded {then}")
        differs += [
            f"the label of site {entry.site} is {verdict.site_labels[entry.site]}, recorded {entry.label}"
            for entry in self._result.site_results
            if verdict.site_labels[entry.site] != entry.label
        ]
        if verdict.novelty is not None and said.novelty is not None:
            here, then = verdict.novelty.score, said.novelty.score
            if abs(here - then) > OTHER_DEVICE_ROUNDING * max(1.0, then):
                differs.append(f"the distance from what was seen is {here:.6g}, recorded {then:.6g}")
        match = Match.DIFFERS if differs else Match.SAME
        detail = "; ".join(differs) or f"{verdict.label} with {max(shares):.4g}"
        yield Step("verdict", match, now=now, recorded=recorded, detail=detail)

    def _novelty(self) -> Novelty | None:
        """What the package knows of unlike wells, where the result was made with it and it is still there."""
        said = self._result.prediction
        if said is None or said.novelty is None or self.model.manifest is None or self.model.problem:
            return None
        try:
            return novelty.load(self._package / NOVELTY_NAME)
        except (OSError, ValueError):
            return None


@dataclass(slots=True)
class _Blame:
    """Which earlier steps of a site differ, by what they are of: what follows from them is no rounding."""

    _differing: dict[str, str] = field(default_factory=dict)

    def look(self, step: Step) -> Step:
        """The step, said to differ for an earlier one's sake where that is so."""
        if step.match is Match.SAME:
            for of in self._before(step):
                del self._differing[of]
            return step
        earlier = next(iter(self._before(step)), None)
        if step.match is Match.ROUNDED and earlier is not None:
            said = f"by no more than rounding might, but because {self._differing[earlier]} does"
            return replace(step, match=Match.DIFFERS, detail=said)
        if step.match is Match.DIFFERS:
            self._differing.setdefault(step.of, f"{step.name} of {step.of}" if step.of else step.name)
        return step

    def _before(self, step: Step) -> list[str]:
        """What differs that this step was made from."""
        return [of for of in self._differing if step.of in {"", of} or of.startswith(f"{step.of} z")]


class _Network:
    """The device room's part, opened when the first site comes to it."""

    def __init__(self, package: Path, result: WellResult, model: Model) -> None:
        self._package = package
        self._model = model
        self._recorded_on = result.model.device
        self._opened = False

    def steps(
        self, site: Site, recorded: Prediction, found: dict[int, Prediction], result: WellResult
    ) -> Iterator[Step]:
        """From resampled to the network's output. found: takes the prediction."""
        if self._model.manifest is None or scale_problem(self._model.manifest, site.pixel_size_um):
            said = self._model.problem or "the pixel size does not fit the model"
            yield Step("resampled", Match.NO_MODEL, detail=said)
            return
        from hcs_daemon.device.tracing import open_network, steps_to_tensor  # noqa: PLC0415 (torch takes two seconds)

        if not self._opened:
            self._opened = True
            try:
                self._network = None if self._model.problem else open_network(self._package, self._recorded_on)
            except PackageError as error:
                self._network, self._model.problem = None, error.message
        prediction = self._network.predict([site])[0] if self._network is not None else None
        steps = prediction.steps if prediction is not None else steps_to_tensor(self._model.manifest, site)
        if not steps:
            said = prediction.failure or "" if prediction is not None else "the site does not fit the model"
            yield Step("resampled", Match.DIFFERS, detail=said)
            return
        for step in steps:
            for index in range(len(step.mean)):
                channel = result.channels[index] if step.step != "tensor" else ""
                yield _against(step, index, recorded, place=index, channel=channel)
        if prediction is None:
            yield Step("logits", Match.NO_MODEL, recorded=_of_floats(recorded.logits), detail=self._model.problem)
            return
        found[site.id.site] = prediction
        device = self._network.facts.device if self._network is not None else ""
        within = OUTPUT_ROUNDING if device == self._recorded_on else OTHER_DEVICE_ROUNDING
        if result.classes:
            yield _output("logits", prediction.logits, recorded.logits, within)
        yield _output("embedding", prediction.embedding, recorded.embedding, within)


# ---- comparing


def compare(now: Values, recorded: Values, within: float = 0.0) -> tuple[Match, str]:
    """How two descriptions of an array compare in what both say, and in words where they differ.

    within: the share of the largest value by which floats may differ.
    """
    said: list[str] = []
    for name in ("size_bytes", "shape", "dtype"):
        here, then = getattr(now, name), getattr(recorded, name)
        if None not in {here, then} and here != then:
            said.append(f"{_WORDS[name]} recorded {_text(then)}")
    ends = (recorded.minimum, recorded.maximum, now.minimum, now.maximum)
    scale = max((abs(end) for end in ends if end is not None), default=0.0)
    exact = True
    for name in ("minimum", "maximum", "mean"):
        here, then = getattr(now, name), getattr(recorded, name)
        if here is None or then is None:
            continue
        exact &= here == then
        if not abs(here - then) <= within * scale:  # so that NaN differs
            said.append(f"{_WORDS[name]} recorded {then:.9g}")
    digests = (now.digest, recorded.digest)
    differs = None not in digests and now.digest != recorded.digest
    if said or (differs and not within):
        return Match.DIFFERS, ", ".join([*said, *([f"digest recorded {str(recorded.digest)[:12]}"] if differs else [])])
    if differs or not exact:
        return Match.ROUNDED, "equal within rounding: other numpy, torch or CPU"
    return Match.SAME, ""


_WORDS = {"size_bytes": "bytes", "shape": "shape", "dtype": "dtype", "minimum": "min", "maximum": "max", "mean": "mean"}


def _text(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def values(step: StepRecord, index: int) -> Values:
    """What a record says of one of its arrays."""
    digest = step.digest[index] if index < len(step.digest) else None
    return Values(step.shape, step.dtype, step.minimum[index], step.maximum[index], step.mean[index], digest)


def _against(
    step: StepRecord,
    index: int,
    recorded: Prediction,
    *,
    place: int,
    channel: str,
    image: ChannelImage | None = None,
) -> Step:
    """A step of now beside that of then. index, place: the channel's, now and then."""
    now = values(step, index)
    then = next((each for each in recorded.steps if each.step == step.step), None)
    if then is not None and place < len(then.mean):
        before = values(then, place)
        match, detail = compare(now, before, 0.0 if image is not None else ROUNDING)
        return Step(step.step, match, of=channel, now=now, recorded=before, detail=detail)
    # a result that recorded no steps has keys, which also stand for the correction
    last = image is not None and (step.step == "corrected" or not image.correction)
    if image is not None and last and place < len(recorded.key) and image.key != recorded.key[place]:
        return Step(step.step, Match.DIFFERS, of=channel, now=now, detail="the image's key is another one")
    return Step(step.step, Match.UNRECORDED, of=channel, now=now)


def _decoded(plane: PlaneRecord) -> Values:
    measures = plane.measures
    return Values(plane.shape, plane.container, measures.minimum, measures.maximum, digest=measures.pixel_digest)


def _close(now: float, then: float) -> bool:
    """Whether two measures that were rounded to six digits are the same; both may be NaN."""
    return bool(np.isclose(now, then, rtol=1e-5, equal_nan=True))


def _of_floats(found: "np.ndarray[tuple[int, ...], np.dtype[np.floating]]") -> Values:
    return values(measure("", [found]), 0)


def _output(name: str, now: "np.ndarray", then: "np.ndarray", within: float) -> Step:
    here, before = _of_floats(now), _of_floats(then)
    if now.shape != then.shape:
        return Step(name, Match.DIFFERS, now=here, recorded=before, detail=f"{then.size} values recorded")
    off = float(np.abs(now - then).max(initial=0.0))
    share = off / max(float(np.abs(then).max(initial=0.0)), 1e-6)
    if off == 0.0:
        return Step(name, Match.SAME, now=here, recorded=before)
    said = f"the largest difference is {off:.2g}, {share:.1g} of the largest value"
    return Step(name, Match.ROUNDED if share <= within else Match.DIFFERS, now=here, recorded=before, detail=said)


def _folded(image: ChannelImage, read: Mapping[PlaneRecord, Pixels]) -> Pixels:
    """The image's planes as one, as they are held in memory while they come. Raises ValueError for different sizes."""
    first, *others = image.planes
    fold = Fold(image.projection, first.content, read[first])
    for plane in others:
        fold.add(plane.content, read[plane])
    return fold.finished()


def _why(outcome: object) -> str:
    match outcome:
        case NotYet(detail):
            return f"it cannot be opened: {detail}"
        case Refused(refusal):
            return f"it is refused: {refusal.detail}"
    return "it changes while it is read"


def _facts(result: WellResult) -> ModelFacts:
    """The model as the result names it; the verdict asks for its classes only."""
    model = result.model
    return ModelFacts(
        name=model.name,
        version=model.version,
        sha256=model.sha256,
        device=model.device,
        channels=tuple(result.channels),
        classes=tuple(result.classes),
        control_class=model.control_class,
        tile_px=0,
        pixel_size_um=0.0,
        bit_depth=0,
        container="",
        demonstration=model.demonstration,
    )

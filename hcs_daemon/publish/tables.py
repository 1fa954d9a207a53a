"""sites.parquet and profiles.parquet: one row a site, one row a well.

Columns are named as the cytomining tools name them: `Metadata_*` first, then features. Their types are alike in every
file, so that those of many plates are one data set.
"""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.publish.documents import well_id
from hcs_daemon.publish.quality import PlateQuality, pictures
from hcs_daemon.publish.schemas import SiteResultEntry, WellResult

Column = NDArray[np.float32] | list[float | None]
_TYPES = {
    **dict.fromkeys(("Metadata_Time", "Metadata_Revision", "Metadata_Sites", "Metadata_Site"), "int64"),
    **dict.fromkeys(
        (
            "Metadata_Probability",
            "Metadata_ProbabilityLow",
            "Metadata_ProbabilityHigh",
            "Metadata_Novelty",
            "Metadata_NoveltyThreshold",
            "Metadata_Concentration",
        ),
        "double",
    ),
    "Metadata_Demonstration": "bool",
}
"""Of metadata columns that are not text."""


_PICTURE = (
    "background",
    "noise",
    "foreground_fraction",
    "bright",
    "spots",
    "debris_fraction",
    "unevenness",
    "power_slope",
)
"""What is told of each picture in the table of sites."""


def site_table(results: Iterable[WellResult], judged: PlateQuality) -> bytes:
    """A Parquet file with one row an analysed site, in the order of the results."""
    pairs = [(result, site) for result in results for site in result.site_results]
    metadata = _metadata([result for result, _ in pairs])
    metadata["Metadata_Site"] = [site.site for _, site in pairs]
    metadata["Metadata_SiteLabel"] = [site.label for _, site in pairs]
    metadata["Metadata_Novelty"] = [site.novelty for _, site in pairs]
    metadata["Metadata_Flags"] = [
        _joined(judged.of(well_id(result)).sites.get(site.site, ())) for result, site in pairs
    ]
    return _parquet(
        metadata,
        {
            **_numbered("embedding", _matrix([site.embedding for _, site in pairs])),
            **_by_class(pairs[0][0].classes if pairs else [], _matrix([site.logits for _, site in pairs])),
            **_quality(pairs),
        },
    )


def profile_table(results: Iterable[WellResult], judged: PlateQuality) -> bytes:
    """A Parquet file with one row an analysed well: means over its sites."""
    wells = [result for result in results if result.site_results]
    metadata = _metadata(wells)
    metadata["Metadata_Sites"] = [len(result.site_results) for result in wells]
    known = [result.prediction.novelty if result.prediction else None for result in wells]
    metadata["Metadata_Novelty"] = [found.score if found else None for found in known]
    metadata["Metadata_Flags"] = [_joined(judged.of(well_id(result)).flags) for result in wells]
    return _parquet(
        metadata,
        {
            **_numbered("embedding", _matrix([_mean([s.embedding for s in well.site_results]) for well in wells])),
            **_by_class(
                wells[0].classes if wells else [],
                _matrix([_mean([s.logits for s in well.site_results]) for well in wells]),
            ),
            **_columns("focus", [well.quality.focus for well in wells], wells),
            **_columns("saturated", [well.quality.saturated_fraction for well in wells], wells),
        },
    )


def _metadata(results: Sequence[WellResult]) -> dict[str, list[Any]]:
    predictions = [result.prediction for result in results]
    intervals = [(found.interval if found else None) or (None, None) for found in predictions]
    return {
        "Metadata_Plate": [result.plate for result in results],
        "Metadata_Acquisition": [result.acquisition for result in results],
        "Metadata_Well": [result.well for result in results],
        "Metadata_Time": [result.time for result in results],
        "Metadata_Compound": [result.content.compound if result.content else "" for result in results],
        "Metadata_Concentration": [result.content.concentration_um if result.content else None for result in results],
        "Metadata_Role": [result.content.role if result.content else "" for result in results],
        "Metadata_Status": [result.status.value for result in results],
        "Metadata_Revision": [result.revision for result in results],
        "Metadata_Label": [found.label if found else "" for found in predictions],
        "Metadata_Nearest": [found.first if found else "" for found in predictions],
        "Metadata_Probability": [found.probabilities[found.first] if found else 0.0 for found in predictions],
        "Metadata_ProbabilityLow": [low for low, _ in intervals],
        "Metadata_ProbabilityHigh": [high for _, high in intervals],
        "Metadata_NoveltyThreshold": [
            found.novelty.threshold if found and found.novelty else None for found in predictions
        ],
        "Metadata_Model": [result.model.name for result in results],
        "Metadata_ModelVersion": [result.model.version for result in results],
        "Metadata_ModelSHA256": [result.model.sha256 for result in results],
        "Metadata_Demonstration": [result.model.demonstration for result in results],
        "Metadata_SettingsFingerprint": [result.settings_fingerprint for result in results],
    }


def _matrix(rows: Sequence[Sequence[float] | NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.asarray(rows, np.float32) if rows else np.empty((0, 0), np.float32)


def _mean(rows: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    return np.asarray(np.asarray(rows, np.float64).mean(axis=0), np.float32)


def _numbered(name: str, values: NDArray[np.float32]) -> dict[str, Column]:
    return {f"{name}_{index:03d}": values[:, index] for index in range(values.shape[1])}


def _by_class(classes: Sequence[str], values: NDArray[np.float32]) -> dict[str, Column]:
    return {f"logit_{label}": values[:, index] for index, label in enumerate(classes)}


def _quality(pairs: Sequence[tuple[WellResult, SiteResultEntry]]) -> dict[str, Column]:
    results = [result for result, _ in pairs]
    return {
        **_columns("focus", [site.focus for _, site in pairs], results),
        **_columns("saturated", [site.saturated_fraction for _, site in pairs], results),
        **_pictures(pairs, results),
    }


def _pictures(pairs: Sequence[tuple[WellResult, SiteResultEntry]], results: Sequence[WellResult]) -> dict[str, Column]:
    """A column a number and channel."""
    measured = {id(result): pictures(result) for result in results}
    rows = [
        {
            channel: entry.quality
            for channel in result.channels
            if (entry := measured[id(result)].get((site.site, channel))) and entry.quality
        }
        for result, site in pairs
    ]
    columns: dict[str, Column] = {}
    for name in _PICTURE:
        columns |= _columns(name, [{ch: getattr(said, name) for ch, said in row.items()} for row in rows], results)
    return columns


def _joined(flags: Sequence[str]) -> str:
    return ";".join(flags)


def _columns(
    name: str, values: Sequence[dict[str, float] | dict[str, float | None]], results: Sequence[WellResult]
) -> dict[str, Column]:
    """A column a channel; null where a plane has no such number."""
    channels = results[0].channels if results else []
    return {f"{name}_{channel}": [row.get(channel) for row in values] for channel in channels}


def _parquet(metadata: dict[str, list[Any]], features: dict[str, Column]) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 (takes a third of a second, and reading results needs none of it)
    import pyarrow.parquet as pq  # noqa: PLC0415

    columns = {
        name: pa.array(values, pa.type_for_alias(_TYPES.get(name, "string"))) for name, values in metadata.items()
    }
    columns |= {name: pa.array(values, pa.float32()) for name, values in features.items()}
    buffer = io.BytesIO()
    # one thread: pyarrow's own pool would compete with the device for the cores
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()

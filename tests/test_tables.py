"""sites.parquet and profiles.parquet: readable by anybody, metadata first, a row a site and a row a well."""

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hcs_daemon.publish.documents import WellDraft, well_result
from hcs_daemon.publish.quality import QualityBook
from hcs_daemon.publish.schemas import ContentEntry, WellResult
from hcs_daemon.publish.tables import profile_table, site_table
from hcs_daemon.publish.verdict import judge
from hcs_daemon.records import WellClosed
from wells import CONTROL, FACTS, NOON, QUALITY, TREATED, closed_well, predicted


def result_of(
    closed: WellClosed, logits: tuple[float, ...] = TREATED, inside: ContentEntry | None = None
) -> WellResult:
    found = {site: predicted(closed, site, logits) for site in closed.ready}
    draft = WellDraft(closed, judge(FACTS, found, 0.9), found, {})
    return well_result(draft, FACTS, "f" * 64, revision=1, published_at=NOON, latency_s=1.0, inside=inside)


def read(data: bytes) -> Any:
    return pq.read_table(io.BytesIO(data))


def sites(results: list[WellResult]) -> bytes:
    return site_table(results, QualityBook().judge(results))


def profiles(results: list[WellResult]) -> bytes:
    return profile_table(results, QualityBook().judge(results))


RESULTS = [result_of(closed_well("B03", sites=(1, 2))), result_of(closed_well("C01", sites=(5,)), CONTROL)]


@pytest.mark.parametrize("make", [sites, profiles])
def test_metadata_columns_come_first_and_features_are_floats(make: Any) -> None:
    table = read(make(RESULTS))
    metadata = [name.startswith("Metadata_") for name in table.column_names]
    assert metadata == sorted(metadata, reverse=True)
    features = [name for name in table.column_names if not name.startswith("Metadata_")]
    assert {table.schema.field(name).type for name in features} == {pa.float32()}
    assert features[:3] == ["embedding_000", "embedding_001", "embedding_002"]
    assert [name for name in features if name.startswith("logit_")] == [f"logit_{name}" for name in FACTS.classes]
    for name in features:
        assert np.isfinite(table[name].to_numpy()).all()


def test_sites_have_a_row_each_in_the_order_of_the_wells() -> None:
    rows = read(sites(RESULTS)).to_pylist()
    assert [(row["Metadata_Well"], row["Metadata_Site"]) for row in rows] == [("B03", 1), ("B03", 2), ("C01", 5)]
    assert [row["Metadata_SiteLabel"] for row in rows] == ["much_DNA", "much_DNA", "control"]
    assert [row["embedding_000"] for row in rows] == pytest.approx([1 / 3, 2 / 3, 5 / 3])
    assert rows[0]["logit_much_DNA"] == 4.0
    assert rows[0]["focus_ER"] == pytest.approx(0.2)


def test_wells_have_a_row_each_with_the_mean_of_their_sites() -> None:
    rows = read(profiles(RESULTS)).to_pylist()
    assert [(row["Metadata_Well"], row["Metadata_Sites"]) for row in rows] == [("B03", 2), ("C01", 1)]
    assert rows[0]["embedding_000"] == pytest.approx(0.5)
    assert rows[0]["Metadata_Plate"] == "P1"
    assert rows[0]["Metadata_Label"] == "much_DNA"
    prediction = RESULTS[0].prediction
    assert prediction is not None
    assert rows[0]["Metadata_Probability"] == prediction.probabilities["much_DNA"]
    assert rows[0]["Metadata_ModelSHA256"] == FACTS.sha256


def test_a_well_of_which_nothing_was_analysed_has_no_row() -> None:
    nothing = result_of(closed_well("D04", sites=(), expected_sites=1, rejected=(1,)))
    assert nothing.prediction is None
    assert [row["Metadata_Well"] for row in read(profiles([*RESULTS, nothing])).to_pylist()] == ["B03", "C01"]
    assert read(sites([nothing])).num_rows == 0


def test_what_is_in_a_well_stands_beside_its_features() -> None:
    taxol = ContentEntry(compound="Taxol", concentration_um=0.1, role="treatment")
    found = [result_of(closed_well("B03", sites=(1, 2)), inside=taxol), *RESULTS[1:]]
    for make, rows in ((sites, 2), (profiles, 1)):
        table = read(make(found))
        assert table["Metadata_Compound"].to_pylist() == ["Taxol"] * rows + [""]
        assert table["Metadata_Concentration"].to_pylist() == [0.1] * rows + [None]
        assert table["Metadata_Role"].to_pylist() == ["treatment"] * rows + [""]


@pytest.mark.parametrize("make", [sites, profiles])
def test_columns_have_the_same_types_whatever_is_in_them(make: Any) -> None:
    nothing = result_of(closed_well("D04", sites=(), expected_sites=1, rejected=(1,)))
    metadata = [
        [field for field in read(make(found)).schema if field.name.startswith("Metadata_")]
        for found in (RESULTS, [nothing])
    ]
    assert metadata[0] == metadata[1]
    assert read(make(RESULTS)).schema.field("Metadata_Concentration").type == pa.float64()


def test_time_points_have_rows_of_their_own() -> None:
    found = [result_of(closed_well("B03", time=time)) for time in (1, 2, 10)]
    for make in (sites, profiles):
        rows = read(make(found)).to_pylist()
        assert [(row["Metadata_Well"], row["Metadata_Time"]) for row in rows] == [("B03", 1), ("B03", 2), ("B03", 10)]


def test_a_plane_that_is_one_grey_has_no_focus() -> None:
    closed = closed_well()
    use = closed.inputs[0]
    measures = type(use.plane.measures)(100, 100, 7, 0.0, math.nan)
    plane = type(use.plane)(
        use.plane.id, use.plane.channel, use.plane.source, (64, 64), "uint16", measures, use.plane.seen_at
    )
    flat = closed_well(inputs=(type(use)(plane, use.used), *closed.inputs[1:]))
    for make in (sites, profiles):
        (row,) = read(make([result_of(flat)])).to_pylist()
        assert row["focus_DNA"] is None
        assert row["focus_ER"] == pytest.approx(0.2)


def test_flags_and_what_was_measured_of_each_picture_stand_beside_the_features() -> None:
    closed = closed_well("B03", sites=(1, 2, 3))
    saturated = tuple(
        replace(use, plane=replace(use.plane, measures=replace(use.plane.measures, saturated_fraction=0.02)))
        if use.plane.channel == "ER" and use.plane.id.site.site < 3
        else use
        for use in closed.inputs
    )
    found = [result_of(replace(closed, inputs=saturated)), *RESULTS[1:]]
    rows = read(sites(found)).to_pylist()
    assert [row["Metadata_Flags"] for row in rows] == ["saturated:ER", "saturated:ER", "", ""]
    assert (rows[0]["spots_DNA"], rows[0]["power_slope_Mito"]) == (QUALITY.spots, QUALITY.power_slope)
    assert [row["Metadata_Flags"] for row in read(profiles(found)).to_pylist()] == ["saturated:ER", ""]


def test_what_an_earlier_version_did_not_measure_is_null() -> None:
    closed = closed_well()
    before = tuple(
        replace(use, plane=replace(use.plane, measures=replace(use.plane.measures, quality=None)))
        for use in closed.inputs
    )
    (row,) = read(sites([result_of(replace(closed, inputs=before))])).to_pylist()
    assert row["bright_DNA"] is None
    assert row["Metadata_Flags"] == ""

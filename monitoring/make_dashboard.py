"""Writes `grafana/hcs-daemon.json`: the panels are listed here, Grafana's own kit knows how they are written down."""

import json
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILE = Path(__file__).parent / "grafana" / "hcs-daemon.json"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""Whatever the reader chooses on top: no data source of one site is written down."""
GREEN, YELLOW, RED = "green", "yellow", "red"

Queries = Mapping[str, str]
"""Legend -> expression."""
Panel = stat.Panel | timeseries.Panel | heatmap.Panel


def of(metric: str, labels: str = "", over: str = "") -> str:
    """A metric of the instances chosen on top. labels: further matchers. over: a range, such as 5m."""
    chosen = 'job=~"$job",instance=~"$instance"'
    return f"{metric}{{{chosen}{',' + labels if labels else ''}}}" + (f"[{over}]" if over else "")


def rate(metric: str, labels: str = "") -> str:
    """How much a counter grows a second."""
    return f"rate({of(metric, labels, '$__rate_interval')})"


def grown(metric: str, labels: str = "", over: str = "$__rate_interval") -> str:
    """How much a counter grew."""
    return f"increase({of(metric, labels, over)})"


def quantile(share: float, histogram: str, labels: str = "", over: str = "$__rate_interval") -> str:
    """What this share of the observations lies below."""
    return f"histogram_quantile({share}, sum by (instance, le) (rate({of(histogram + '_bucket', labels, over)})))"


def targets(queries: Queries, *, table: bool = False) -> list[prometheus.Dataquery]:
    """The queries of a panel, from A on."""
    found = []
    for number, (legend, expr) in enumerate(queries.items()):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + number)).range()
        found.append(query.format(PromQueryFormat.HEATMAP) if table else query)
    return found


def steps(*values: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colours from values on; None: from below."""
    found = [models.Threshold(value=value, color=color) for value, color in values]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def curves(title: str, unit: str, queries: Queries, words: str, *, stacked: bool = False) -> timeseries.Panel:
    """Lines over time; stacked: bars upon each other."""
    panel = timeseries.Panel().title(title).description(words).datasource(SOURCE).unit(unit).min(0).height(8).span(8)
    panel.line_width(1).fill_opacity(10)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(kinds.LegendDisplayMode.LIST)
        .placement(kinds.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )
    panel.tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    if stacked:
        panel.draw_style(kinds.GraphDrawStyle.BARS).fill_opacity(80)
        panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    for target in targets(queries):
        panel.with_target(target)
    return panel


def number(
    title: str, unit: str, queries: Queries, words: str, *colors: tuple[float | None, str], span: int = 4
) -> stat.Panel:
    """The last value, large, in its colour."""
    panel = stat.Panel().title(title).description(words).datasource(SOURCE).unit(unit).height(4).span(span)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).graph_mode(kinds.BigValueGraphMode.NONE)
    panel.thresholds(steps(*(colors or ((None, GREEN),)))).color_mode(kinds.BigValueColorMode.BACKGROUND)
    for target in targets(queries):
        panel.with_target(target)
    return panel


def state(title: str, metric: str, good: int, words: Mapping[int, str], tells: str) -> stat.Panel:
    """A metric that is 0 or 1, in words."""
    options = {
        str(value): models.ValueMappingResult(text=text, color=GREEN if value == good else RED)
        for value, text in words.items()
    }
    panel = number(title, "none", {"{{instance}}": of(metric)}, tells)
    return panel.mappings([models.ValueMap(options=options)])


def name_of(title: str, metric: str, legend: str, words: str) -> stat.Panel:
    """What the labels of an info metric say."""
    return number(title, "none", {legend: of(metric)}, words, (None, "blue")).text_mode(kinds.BigValueTextMode.NAME)


def healthy() -> tuple[Panel, ...]:
    """Is it healthy?"""
    numbers = (
        state("Ready", "hcs_ready", 1, {1: "ready", 0: "not ready"}, "Model, watched folder and results can be used."),
        state("Watched folder", "hcs_watch_available", 1, {1: "there", 0: "away"}, "It can be listed."),
        state(
            "Device", "hcs_device_fallback", 0, {0: "as asked for", 1: "on the CPU instead"}, "Where the model runs."
        ),
        state("Ledger", "hcs_ledger_broken", 0, {0: "holds", 1: "broken"}, "The chain of digests, at the last start."),
        number(
            "Last word",
            "s",
            {"{{instance}}": f"time() - {of('hcs_rendered_timestamp_seconds')}"},
            "Since the figures were put together, by the clock of Prometheus; old in a file whose daemon is gone.",
            (None, GREEN),
            (120, RED),
        ),
        number(
            "Failed writes in an hour",
            "none",
            {"{{instance}}": grown("hcs_results_write_failures_total", over="1h")},
            "Into the results folder. While it takes nothing, each second is one.",
            (None, GREEN),
            (1, RED),
        ),
        name_of("Version", "hcs_build_info", "{{version}}", "Of the program.").span(8),
        name_of("Model", "hcs_model_info", "{{name}} {{version}}", "The package in use.").span(8),
        name_of("Runs on", "hcs_device_info", "{{name}} ({{device}})", "The device in use.").span(8),
    )
    charts: tuple[Panel, ...] = (
        curves(
            "Since each stage last got something done",
            "s",
            {"{{instance}} {{stage}}": of("hcs:stage_still_seconds")},
            "Only scan always has something to do: it stays near watch.rescan_s. The others rest when nothing comes.",
        ),
        curves(
            "Free for results",
            "bytes",
            {
                "{{instance}}": of("hcs_results_free_bytes"),
                "{{instance}} kept free": of("hcs_results_min_free_bytes"),
                "{{instance}} in a day": f"predict_linear({of('hcs_results_free_bytes', over='6h')}, 86400)",
            },
            "What is free, what results.min_free_bytes keeps, and where the last six hours lead.",
        ),
        curves(
            "Clock skew",
            "s",
            {"{{instance}}": of("hcs_clock_skew_seconds")},
            "The newest file's own time minus this machine's clock when it was found. Above 0: files from the future.",
        ).min(-60),
        curves(
            "What the daemon could not do",
            "none",
            {
                "{{instance}} results not written": grown("hcs_results_write_failures_total"),
                "{{instance}} metrics file not written": grown("hcs_textfile_failures_total"),
                "{{instance}} commands for plates": grown("hcs_plate_commands_total", 'result="failed"'),
                "{{instance}} settings {{result}}": grown("hcs_settings_reloads_total", 'result!="applied"'),
            },
            "Writes and commands for finished plates that failed, and settings that were not taken.",
            stacked=True,
        ),
    )
    return (*numbers, *charts)


def keeping_up() -> tuple[Panel, ...]:
    """Is it keeping up?"""
    return (
        curves(
            "Planes that wait",
            "none",
            {"{{instance}}": of("hcs_planes_pending")},
            "Seen and not yet decided. It rises and falls with every well, and should not rise for long.",
        ),
        curves(
            "Planes decided",
            "cps",
            {"{{instance}} {{outcome}}": of("hcs:planes:rate5m")},
            "A second, over five minutes.",
            stacked=True,
        ),
        curves(
            "What waits for each stage",
            "none",
            {"{{instance}} {{stage}}": of("hcs_stage_queue_items", 'stage!="scan"')},
            "Planes to be decoded, sites to be brought together, predicted and explained, messages to be published.",
        ),
        curves(
            "How busy each stage is",
            "percentunit",
            {"{{instance}} {{stage}}": of("hcs:stage_seconds:rate5m", 'stage!="scan"')},
            "Seconds of work a second. infer, explain and publish have one thread each: 100 % is all it can.",
        ),
        curves(
            "A look through the watched folder",
            "s",
            {
                "{{instance}} half": quantile(0.5, "hcs_rescan_seconds"),
                "{{instance}} 99 %": quantile(0.99, "hcs_rescan_seconds"),
            },
            "How long a full rescan takes.",
        ),
        curves(
            "New files",
            "none",
            {
                "{{instance}} seen": grown("hcs_files_seen_total"),
                "{{instance}} events": grown("hcs_watch_events_total"),
                "{{instance}} without an event": grown("hcs_watch_missed_events_total"),
            },
            "Files found by a rescan alone come up to watch.rescan_s later.",
        ),
        curves(
            "Plates",
            "none",
            {
                "{{instance}} acquiring": of("hcs_plates_open"),
                "{{instance}} without a new plane": of("hcs_plates_stalled"),
            },
            "A plate is stalled when nothing came for expect.well_timeout_s.",
        ),
        curves("Planes in memory", "bytes", {"{{instance}}": of("hcs_cache_bytes")}, "At most watch.cache_bytes."),
        curves(
            "Planes read twice",
            "cps",
            {"{{instance}}": rate("hcs_cache_rereads_total")},
            "For the memory was full: a larger watch.cache_bytes avoids it.",
        ),
    )


def refused() -> tuple[Panel, ...]:
    """What was rejected, and why?"""
    return (
        number(
            "Planes refused",
            "percentunit",
            {"{{instance}}": of("hcs:planes_rejected:ratio30m")},
            "Of those accepted or refused in half an hour.",
            (None, GREEN),
            (0.01, YELLOW),
            (0.05, RED),
            span=8,
        ),
        number(
            "Of the wrong bit depth",
            "none",
            {"{{instance}}": grown("hcs_rejections_total", 'reason="bit_depth"', "$__range")},
            "Planes, in the time shown.",
            (None, GREEN),
            (1, RED),
            span=8,
        ),
        number(
            "Given up",
            "none",
            {
                "{{instance}}": grown("hcs_sites_total", 'outcome="poisoned"', "$__range"),
            },
            "Sites that alone do not fit on the card, in the time shown.",
            (None, GREEN),
            (1, RED),
            span=8,
        ),
        curves(
            "Files refused, by reason",
            "none",
            {"{{instance}} {{reason}}": grown("hcs_rejections_total")},
            "docs/results.md says what each reason means; the plate's rejected.jsonl names the files.",
            stacked=True,
        ),
        curves(
            "Wells published, by status",
            "none",
            {"{{instance}} {{status}}": grown("hcs_wells_total")},
            "Revisions: a well that is completed later counts as partial, then as complete.",
            stacked=True,
        ),
        curves(
            "Plates finished",
            "none",
            {"{{instance}} {{status}}": grown("hcs_plates_finished_total")},
            "Partial: an expected well is missing, partial or rejected.",
            stacked=True,
        ),
    )


def waiting() -> tuple[Panel, ...]:
    """How long does a well wait?"""
    cells = heatmap.Panel().title("How long wells waited").datasource(SOURCE).height(8).span(16)
    cells.description("From a well's last plane being complete to its result being visible. Brighter: more wells.")
    cells.calculate(calculate=False).unit("none").color(
        heatmap.HeatmapColorOptions().mode(heatmaps.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    )
    cells.y_axis(heatmap.YAxisConfig().unit("s"))
    cells.scale_distribution(common.ScaleDistributionConfig().type(kinds.ScaleDistribution.LINEAR))
    for target in targets({"{{le}}": f"sum by (le) ({grown('hcs_well_latency_seconds_bucket')})"}, table=True):
        cells.with_target(target)
    return (
        cells,
        curves(
            "Wells keep below",
            "s",
            {
                "{{instance}} half": quantile(0.5, "hcs_well_latency_seconds", over="30m"),
                "{{instance}} nine of ten": of("hcs:well_latency_seconds:p90_30m"),
                "{{instance}} 99 of 100": quantile(0.99, "hcs_well_latency_seconds", over="30m"),
            },
            "Over half an hour. A well waits up to explain.max_wait_s for its explanation.",
        ),
    )


def trusted() -> tuple[Panel, ...]:
    """Are explanations and verdicts to be trusted?"""
    return (
        number(
            "Explanations that fail their checks",
            "percentunit",
            {"{{instance}}": of("hcs:explanations_failed:ratio1h")},
            "Of those made in an hour.",
            (None, GREEN),
            (0.05, YELLOW),
            (0.2, RED),
            span=8,
        ).height(8),
        curves(
            "Sites explained, by result",
            "none",
            {"{{instance}} {{result}}": grown("hcs_explanations_total")},
            "Shed: the well was published before, and is explained when nothing else waits.",
            stacked=True,
        ),
        curves(
            "Control drift",
            "none",
            {"{{instance}}": of("hcs_control_drift")},
            "How far the later controls of a plate lie from the earlier, in their scatter. From 1 on they moved.",
        )
        .thresholds(steps((None, GREEN), (1, RED)))
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(kinds.GraphTresholdsStyleMode.LINE)),
    )


def device() -> tuple[Panel, ...]:
    """What does the device do?"""
    return (
        curves(
            "Sites, by outcome",
            "cps",
            {"{{instance}} {{outcome}}": rate("hcs_sites_total")},
            "A second.",
        ),
        curves(
            "Time a batch",
            "s",
            {
                "{{instance}} half": quantile(0.5, "hcs_inference_seconds"),
                "{{instance}} 90 %": quantile(0.9, "hcs_inference_seconds"),
            },
            "On the device.",
        ),
        curves(
            "Sites a batch",
            "none",
            {"{{instance}}": f"{rate('hcs_batch_sites_sum')} / {rate('hcs_batch_sites_count')}"},
            "On average; at most model.batch_sites.",
        ),
        curves(
            "Time an explanation",
            "s",
            {"{{instance}} 90 %": quantile(0.9, "hcs_stage_seconds", 'stage="explain"')},
            "Nine of ten take less.",
        ),
        curves("Memory of the card", "bytes", {"{{instance}}": of("hcs_device_memory_bytes")}, "0 on the CPU."),
        curves(
            "Batches that did not fit",
            "none",
            {"{{instance}}": grown("hcs_device_oom_total")},
            "Then batches are halved; a smaller model.batch_sites avoids it.",
            stacked=True,
        ),
    )


ROWS: Mapping[str, Callable[[], tuple[Panel, ...]]] = {
    "Is it healthy?": healthy,
    "Is it keeping up?": keeping_up,
    "What was rejected, and why?": refused,
    "How long does a well wait?": waiting,
    "Are explanations and verdicts to be trusted?": trusted,
    "What does the device do?": device,
}


def chosen(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A choice on top: all values of a label, or some."""
    variable = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    everything = models.VariableOption(selected=True, text="All", value="$__all")
    return variable.multi(multi=True).include_all(include_all=True).all_value(".+").current(everything)


def make() -> str:
    """The dashboard, as JSON."""
    board = dashboard.Dashboard("hcs-daemon").tags(["hcs-daemon", "microscopy"]).refresh("30s").time("now-6h", "now")
    board.description("Is it healthy, is it keeping up, what was rejected and why, how long a well waits, and more.")
    board.tooltip(models.DashboardCursorSync.CROSSHAIR).timezone("browser")
    board.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    board.with_variable(chosen("job", "Job", "label_values(hcs_build_info, job)"))
    board.with_variable(chosen("instance", "Instance", 'label_values(hcs_build_info{job=~"$job"}, instance)'))
    numbers = count(1)
    for title, panels in ROWS.items():
        board.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels():
            board.with_panel(panel.id(next(numbers)))
    return json.dumps(board.build(), cls=JSONEncoder, indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(make(), encoding="utf-8")

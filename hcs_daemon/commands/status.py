"""`hcs-daemon status`: what a running daemon is doing, by asking its endpoints."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from hcs_daemon.config import Http, load_settings
from hcs_daemon.errors import NotRunningError, SettingsError
from hcs_daemon.telemetry import parse_metrics
from hcs_daemon.terminal import counted, say
from hcs_daemon.vocabulary import Stage

TIMEOUT_S = 10.0
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (asked, not listened on)


def show_status(config: Path, *, as_json: bool) -> int:
    """0 healthy and ready, 1 not. Raises NotRunningError (6) or SettingsError."""
    http = load_settings(config).http
    if http.port == 0:
        raise SettingsError("http.port is 0: the daemon answers nobody", "set http.port; status asks there")
    status = ask(http)
    say(json.dumps(status) if as_json else "\n".join(in_words(status)))
    return 0 if status["healthy"] and status["ready"] else 1


def ask(http: Http) -> dict[str, Any]:
    """Everything that is worth knowing, as `status --json` prints it."""
    host = _EVERY_ADDRESS.get(http.host, http.host)
    where = f"{host}:{http.port}"
    try:
        pages = {page: _get(host, http.port, page) for page in ("/healthz", "/readyz", "/metrics")}
    except (OSError, HTTPException) as error:
        raise NotRunningError(
            f"nothing is running: {where} does not answer ({error})",
            "start it with hcs-daemon run -c FILE; http.host and http.port must be those that it was started with",
        ) from error
    healthy, health = pages["/healthz"]
    ready, readiness = pages["/readyz"]
    metrics = parse_metrics(pages["/metrics"][1]) if pages["/metrics"][0] else {}
    if "hcs_ready" not in metrics:
        raise NotRunningError(
            f"no hcs-daemon is running: what answers at {where} is another program",
            "start the daemon with hcs-daemon run -c FILE, at a port of its own (http.port)",
        )
    return {
        "address": where,
        "healthy": healthy,
        "ready": ready,
        "detail": next((text for good, text in ((healthy, health), (ready, readiness)) if not good), None),
        **_figures(metrics),
    }


def _get(host: str, port: int, page: str) -> tuple[bool, str]:
    connection = HTTPConnection(host, port, timeout=TIMEOUT_S)  # not urllib, which would ask a proxy
    try:
        connection.request("GET", page)
        answer = connection.getresponse()
        return answer.status == 200, answer.read().decode("utf-8", errors="replace").strip()
    finally:
        connection.close()


def _figures(metrics: Mapping[str, float]) -> dict[str, Any]:
    latencies = metrics["hcs_well_latency_seconds_count"]
    return {
        "version": _labels(metrics, "hcs_build_info").get("version"),
        "model": _labels(metrics, "hcs_model_info"),
        "device": _labels(metrics, "hcs_device_info"),
        "device_fallback": bool(metrics["hcs_device_fallback"]),
        "plates_open": int(metrics["hcs_plates_open"]),
        "plates_stalled": int(metrics["hcs_plates_stalled"]),
        "planes_pending": int(metrics["hcs_planes_pending"]),
        "planes": _by_label(metrics, "hcs_planes_total"),
        "wells": _by_label(metrics, "hcs_wells_total"),
        "rejections": {reason: n for reason, n in _by_label(metrics, "hcs_rejections_total").items() if n},
        "explanations": _by_label(metrics, "hcs_explanations_total"),
        "mean_latency_s": metrics["hcs_well_latency_seconds_sum"] / latencies if latencies else None,
        "results_free_bytes": int(metrics["hcs_results_free_bytes"]),
        "ledger_broken": bool(metrics["hcs_ledger_broken"]),
        "last_progress": {
            stage.value: datetime.fromtimestamp(
                metrics[f'hcs_stage_last_progress_timestamp_seconds{{stage="{stage}"}}'], UTC
            ).isoformat(timespec="seconds")
            for stage in Stage
        },
    }


def _labels(metrics: Mapping[str, float], name: str) -> dict[str, str]:
    """The labels of an `_info` metric that is set."""
    return next((dict(_LABEL.findall(key)) for key in metrics if key.startswith(name + "{")), {})


def _by_label(metrics: Mapping[str, float], name: str) -> dict[str, int]:
    """A counter's values by its only label."""
    return {_LABEL.findall(key)[0][1]: int(n) for key, n in metrics.items() if key.startswith(name + "{")}


def in_words(status: Mapping[str, Any]) -> list[str]:
    """For a person."""
    state = "ready" if status["healthy"] and status["ready"] else "NOT READY" if status["healthy"] else "NOT HEALTHY"
    model, device = status["model"], status["device"]
    latency = status["mean_latency_s"]
    lines = [
        f"{state}{': ' + status['detail'] if status['detail'] else ''}",
        f"daemon      {status['version']} at {status['address']}",
        f"model       {model.get('name')} {model.get('version')} on {device.get('device')} ({device.get('name')})"
        + (", though a card was asked for" if status["device_fallback"] else ""),
        f"plates      {status['plates_open']} open, {status['plates_stalled']} stalled",
        f"planes      {status['planes_pending']} pending, {_counts(status['planes'])}",
        f"wells       {_counts(status['wells'])}"
        + (f"; published {latency:.1f} s after the last plane" if latency else ""),
        f"rejections  {_counts(status['rejections']) or 'none'}",
        f"disk        {status['results_free_bytes'] / 1e9:.1f} GB free for results",
        f"progress    {_ages(status['last_progress'])}",
    ]
    if status["ledger_broken"]:
        lines.append("ledger      BROKEN: hcs-daemon ledger verify RESULTS names the first break")
    return lines


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _ages(last: Mapping[str, str]) -> str:
    now = datetime.now(UTC)
    ages = {stage: max(0, round((now - datetime.fromisoformat(at)).total_seconds())) for stage, at in last.items()}
    return ", ".join(f"{stage} {counted(age, 'second')} ago" for stage, age in ages.items())

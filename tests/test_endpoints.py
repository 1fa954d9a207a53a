"""/metrics, /healthz and /readyz."""

import http.client
import socket
from collections.abc import Callable, Iterator

import pytest

from hcs_daemon import endpoints
from hcs_daemon.endpoints import Endpoints
from hcs_daemon.errors import SettingsError
from hcs_daemon.telemetry import Telemetry, parse_metrics

HOST = "127.0.0.1"
Start = Callable[..., Endpoints]


def nothing_wrong() -> None:
    return None


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Endpoints] = []

    def begin(
        render: Callable[[], bytes] = lambda: b"",
        health: Callable[[], str | None] = nothing_wrong,
        readiness: Callable[[], str | None] = nothing_wrong,
        host: str = HOST,
    ) -> Endpoints:
        server = Endpoints(host, 0, render, health, readiness)
        server.start()
        started.append(server)
        return server

    yield begin
    for server in started:
        server.stop()


def ask(server: Endpoints, path: str, method: str = "GET") -> tuple[int, str, str]:
    """Status, content type and body."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.headers["Content-Type"], body


def test_metrics_are_what_prometheus_scrapes(start: Start) -> None:
    telemetry = Telemetry("1.2.3")
    telemetry.files_seen.inc(3)
    status, content_type, body = ask(start(render=telemetry.render), "/metrics")
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert parse_metrics(body)["hcs_files_seen_total"] == 3


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readyz?verbose"])
def test_when_all_is_well_the_answer_is_ok(start: Start, path: str) -> None:
    assert ask(start(), path) == (200, "text/plain; charset=utf-8", "ok\n")


def test_what_is_not_well_is_said_in_words_with_503(start: Start) -> None:
    server = start(health=lambda: "stage infer makes no progress", readiness=lambda: "no folder")
    assert ask(server, "/healthz")[::2] == (503, "stage infer makes no progress\n")
    assert ask(server, "/readyz")[::2] == (503, "no folder\n")


def test_each_question_is_answered_anew(start: Start) -> None:
    problems = ["warming up"]
    server = start(readiness=lambda: problems[0] if problems else None)
    assert ask(server, "/readyz")[0] == 503
    problems.clear()
    assert ask(server, "/readyz")[0] == 200


def test_another_path_is_404_and_says_what_there_is(start: Start) -> None:
    status, _, body = ask(start(), "/")
    assert status == 404
    assert "/metrics, /healthz, /readyz" in body


def test_head_has_the_status_and_no_body(start: Start) -> None:
    assert ask(start(readiness=lambda: "no"), "/readyz", "HEAD")[::2] == (503, "")


def test_nothing_can_be_changed_over_http(start: Start) -> None:
    assert ask(start(), "/readyz", "POST")[0] == 501


def test_a_check_that_fails_itself_is_500_and_the_next_is_answered(start: Start) -> None:
    answers = iter([ZeroDivisionError("in the check"), None])

    def health() -> str | None:
        answer = next(answers)
        if answer is not None:
            raise answer
        return None

    server = start(health=health)
    status, _, body = ask(server, "/healthz")
    assert (status, body) == (500, "failed: ZeroDivisionError('in the check')\n")
    assert ask(server, "/healthz")[0] == 200


def test_requests_are_not_logged(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    server = start()
    ask(server, "/healthz")
    ask(server, "/nothing")
    server.stop()
    assert capfd.readouterr() == ("", "")


def test_a_silent_client_holds_up_nobody(start: Start) -> None:
    server = start()
    with socket.create_connection((HOST, server.port)) as silent:
        silent.sendall(b"GET /met")
        assert ask(server, "/healthz")[0] == 200


def test_a_silent_client_is_hung_up_on(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints._Handler, "timeout", 0.05)
    server = start()
    with socket.create_connection((HOST, server.port), timeout=30) as silent:
        assert silent.recv(1) == b""


@pytest.mark.parametrize("sent", [b"\0\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 100_000])
def test_a_broken_client_harms_nobody(start: Start, sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    server = start()
    with socket.create_connection((HOST, server.port), timeout=30) as broken:
        broken.sendall(sent)
    assert ask(server, "/healthz")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_port_in_use_is_refused_by_its_setting(start: Start) -> None:
    port = start().port
    second = Endpoints(HOST, port, lambda: b"", nothing_wrong, nothing_wrong)
    with pytest.raises(SettingsError, match=f"http.port = {port} on {HOST}") as caught:
        second.start()
    assert "http.port" in caught.value.hint
    second.stop()


def test_an_address_of_another_machine_is_refused_by_its_setting() -> None:
    # 192.0.2.0/24 is kept for examples (RFC 5737): no machine has it
    with pytest.raises(SettingsError, match=r"http\.port = 0 on 192\.0\.2\.1"):
        Endpoints("192.0.2.1", 0, lambda: b"", nothing_wrong, nothing_wrong).start()


def test_a_host_that_is_no_address_is_refused_by_its_setting() -> None:
    with pytest.raises(SettingsError, match=r"http\.host = 'not an address'"):
        Endpoints("not an address", 0, lambda: b"", nothing_wrong, nothing_wrong).start()


def test_after_stop_nobody_answers_and_the_port_is_free_again(start: Start) -> None:
    first = start()
    port = first.port
    first.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port), timeout=30)
    again = Endpoints(HOST, port, lambda: b"", nothing_wrong, nothing_wrong)
    again.start()
    assert again.port == port
    again.stop()


def test_stopping_what_never_started_does_nothing() -> None:
    server = Endpoints(HOST, 9464, lambda: b"", nothing_wrong, nothing_wrong)
    server.stop()
    assert server.port == 9464


def test_it_answers_over_ipv6_where_there_is_one(start: Start) -> None:
    try:
        server = start(host="::1")
    except SettingsError as problem:
        pytest.skip(f"no IPv6 here: {problem}")
    connection = http.client.HTTPConnection("::1", server.port, timeout=30)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()

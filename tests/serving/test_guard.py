"""Who is answered: by host, origin and token; and what every answer carries."""

import threading
import time

import numpy as np
import pytest
from fastapi.testclient import TestClient

from seg_pipeline.serving import guard
from seg_pipeline.serving.schema import RequestError


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "10.1.2.3", "LAB.example."]
)
def test_the_server_answers_for_itself_addresses_and_given_names(fake, host):
    with fake.client(fake.Predictor(), hosts=("lab.example",)) as client:
        assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "@"])
def test_another_name_is_refused_as_dns_may_have_been_rebound(client, host):
    answer = client.get("/", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]) == (400, "unknown_host")
    assert (
        answer.json()["detail"] == f"unknown Host header {host!r}; to allow it, start the server with --allow-host NAME"
    )


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost", 200), ("https://evil.example", 403), ("http://localhost:99", 403), ("null", 403)],
)
def test_a_page_of_another_server_is_refused(client, origin, status):
    assert client.get("/api/model", headers={"Origin": origin}).status_code == status


def test_no_other_origin_is_ever_allowed(client):
    answer = client.options(
        "/api/predict", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic secret"}, 401),
        ({"Authorization": "Bearer s\u00e4cret".encode("latin-1").decode("latin-1")}, 401),
        ({"Authorization": "Bearer secret"}, 200),
        ({"Authorization": "bearer  secret "}, 200),
    ],
)
def test_the_api_asks_for_the_token(fake, authorization, status):
    with fake.client(fake.Predictor(), token="secret") as client:
        headers = [(name.encode(), value.encode("latin-1")) for name, value in authorization.items()]
        answers = [client.get(path, headers=headers) for path in ("/api/model", "/metrics", "/api/none")]
    assert [answer.status_code for answer in answers[:2]] == [status] * 2
    assert answers[2].status_code == (401 if status == 401 else 404)  # what there is, is not told either
    if status == 401:
        assert answers[0].headers["www-authenticate"] == "Bearer"
        assert answers[0].json()["error"] == "token"


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/page/page.css", "/docs", "/openapi.json", "/healthz"])
def test_the_page_needs_no_token_to_ask_for_it(fake, path):
    with fake.client(fake.Predictor(), token="secret") as client:
        assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/model", "/page/page.js", "/none", "/healthz"])
def test_every_answer_forbids_what_the_page_does_not_need(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-store" if path.startswith("/api") else "no-cache")


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/none", 404, "Not Found"),
        ("GET", "/api/predict", 405, "Method Not Allowed"),
        ("GET", "/page/../app.py", 404, "Not Found"),
    ],
)
def test_what_is_not_there_is_said_in_the_same_form(client, method, path, status, detail):
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()) == (status, {"error": "http", "detail": detail})


def test_the_documentation_asks_nobody_else(client):
    page = client.get("/docs").text
    assert "curl -F image=@scan.png http://localhost/api/predict" in page
    assert "<script" not in page
    links = [part.split('"')[0] for part in page.replace('src="', 'href="').split('href="')[1:]]
    assert links == ["page/icon.svg", "page/page.css", "./", "openapi.json"]


def test_metrics_count_requests_and_pictures(client, fake):
    import numpy as np

    client.get("/api/model")
    client.get("/secret-of-a-patient")
    client.post("/api/predict", files={"image": fake.file(np.zeros((2, 3), np.uint8))})
    lines = client.get("/metrics").text.splitlines()
    assert 'seg_pipeline_requests_total{method="GET",path="/api/model",status="200"} 1' in lines
    assert 'seg_pipeline_requests_total{method="GET",path="other",status="404"} 1' in lines
    assert 'seg_pipeline_requests_total{method="POST",path="/api/predict",status="200"} 1' in lines
    assert 'seg_pipeline_predict_seconds_bucket{le="+Inf"} 1' in lines
    assert "seg_pipeline_predict_seconds_count 1" in lines
    assert {"seg_pipeline_places_held 0", "seg_pipeline_places 34"} <= set(lines)


@pytest.mark.fault(
    scenario="fault in the server's code",
    command="seg-pipeline serve",
    outcome="500 as JSON with security headers, counted, without a traceback",
    review="serving 9",
)
def test_a_fault_of_the_server_is_answered_like_any_other_error(fake, caplog):
    def fault():
        raise ZeroDivisionError("secret /path")

    predictor = fake.Predictor()
    with fake.client(predictor) as client:
        predictor.job = fault  # after the first, blank image
        response = client.post("/api/predict", files={"image": ("a.png", fake.file(np.zeros((4, 4), np.uint8)))})
        counted = client.get("/metrics").text
    assert (response.status_code, response.json()["error"]) == (500, "fault")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "secret" not in response.text
    assert 'status="500"' in counted
    assert "POST /api/predict failed" in caplog.text


def test_a_client_that_asks_too_often_is_told_when_to_come_back(fake):
    with fake.client(fake.Predictor(), client_requests=2, token="secret") as client:
        answers = [client.get("/api/model") for _ in range(3)]  # wrong tokens count
        assert [answer.status_code for answer in answers] == [401, 401, 429]
        assert answers[2].json()["error"] == "too_many"
        assert answers[2].headers["retry-after"] == "30"
        assert answers[2].headers["x-content-type-options"] == "nosniff"
        assert client.get("/healthz").status_code == 200  # checks are not limited


def test_the_server_is_ready_when_the_model_is_warm_and_until_it_stops(fake):
    predictor, go = fake.Predictor(), threading.Event()
    predictor.job = lambda: go.wait(120)
    app = fake.app(predictor)
    with TestClient(app, base_url="http://localhost") as client:
        cold, alive = client.get("/readyz"), client.get("/healthz").status_code
        assert (cold.status_code, alive) == (503, 200)
        assert cold.json() == {"error": "not_ready", "detail": "the server is warming up"}
        go.set()
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        app.state.served.readiness.is_stopping = True
        stopping = client.get("/readyz")
        assert (stopping.status_code, stopping.json()["detail"]) == (503, "the server is stopping")
        assert stopping.headers["retry-after"] == "1"


def test_a_model_that_cannot_predict_is_never_ready(fake, caplog):
    def fault():
        raise ValueError("broken network")

    predictor = fake.Predictor(job=fault)
    with TestClient(fake.app(predictor), base_url="http://localhost") as client:
        end = time.monotonic() + 120
        while "cannot predict a blank image" not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)
        assert client.get("/readyz").status_code == 503
    assert "broken network" in caplog.text


@pytest.mark.parametrize("given", ["s", "secret", "secret and more", "Secret"])
def test_tokens_are_compared_in_constant_time(monkeypatch, given):
    """By bytes of any length, never by ==, which ends at the first difference."""
    compared = []
    true = guard.secrets.compare_digest
    monkeypatch.setattr(guard.secrets, "compare_digest", lambda *pair: compared.append(pair) or true(*pair))
    accepted = True
    try:
        guard._check_token(f"Bearer {given}", "secret")
    except RequestError:
        accepted = False
    assert compared == [(given.encode(), b"secret")]
    assert accepted == (given == "secret")

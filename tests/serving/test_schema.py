"""Requests that are made from the OpenAPI schema, and their answers held against it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

OPERATIONS = [
    ("/api/predict", "POST"),
    ("/api/model", "GET"),
    ("/api/examples/{number}", "GET"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
    ("/metrics", "GET"),
]

ANSWERS = {"GET": {200, 404}, "POST": {200, 400, 413, 415, 422}}


@pytest.fixture
def schema(fake):
    import schemathesis  # takes seconds, also in processes that run none of these tests

    return schemathesis.openapi.from_asgi("/openapi.json", fake.app(fake.Predictor(), hosts=("testserver",)))


@pytest.mark.slow
def test_every_operation_is_tried(schema):
    assert [(one.ok().path, one.ok().method.upper()) for one in schema.get_all_operations()] == OPERATIONS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [
        *((path, method, "positive") for path, method in OPERATIONS),
        ("/api/predict", "POST", "negative"),  # the others take nothing that could be wrong
    ],
)
def test_no_request_is_answered_with_a_server_error(schema, path, method, mode):
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks

    held = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    strategy, answers = schema[path][method].as_strategy(generation_mode=GenerationMode(mode)), []

    @settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def tried(case):
        answers.append(case.call_and_validate(checks=held).status_code)

    tried()
    assert answers
    assert set(answers) <= ANSWERS[method]


@pytest.mark.slow
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=300), ending=st.binary(max_size=40), name=st.text(max_size=20))
def test_any_form_is_answered_with_words(client, content, ending, name):
    head = f'--x\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode("utf-8", "replace")
    body = head + content + b"\r\n--x" + ending
    answer = client.post("/api/predict", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert 400 <= answer.status_code < 500
    assert set(answer.json()) == {"error", "detail"}

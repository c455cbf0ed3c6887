import os

import pytest


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory) -> str:
    """URI of one sqlite store for all tests: to make its tables takes some 5 s."""
    return f"sqlite:///{(tmp_path_factory.mktemp('mlflow') / 'mlflow.db').as_posix()}"


@pytest.fixture(scope="session", autouse=True)
def _environment_as_before():
    """The hooks set mlflow's switches in the environment, as defaults."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)

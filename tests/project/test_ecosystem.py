"""Files that other programs read: CI, container, templates, editor."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def test_github_runs_what_the_ci_runs():
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert ".ci/run" in commands
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {command.split()[1] for command in commands if command.startswith("make ")} <= targets


def test_actions_are_pinned_by_commit_and_keep_no_credentials():
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    used = [step for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]) for step in used)
    checkout = next(step for step in used if "checkout" in step["uses"])
    assert checkout["with"]["persist-credentials"] is False


@pytest.mark.fault(
    scenario="container is removed",
    command="docker run --rm",
    outcome="data and tracked runs stay in the volume",
    review="serving 13",
)
def test_the_volume_of_the_container_keeps_the_tracked_runs():
    text = (ROOT / "Dockerfile").read_text()
    (volume,) = re.findall(r"^VOLUME (\S+)", text, re.M)
    assert f"MLFLOW_TRACKING_URI=sqlite:///{volume}/mlflow.db" in text


def test_the_container_starts_from_a_digest_and_runs_as_a_user():
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (.+)", text, re.M) == ["${BASE}"]
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", text, re.M)
    assert re.findall(r"^USER (.+)", text, re.M) == ["1000"]


@pytest.mark.slow
@pytest.mark.parametrize("unknown", [False, True])
def test_the_manifest_for_kubernetes_has_the_fields_of_a_train_job(unknown):
    from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob

    (text,) = re.findall(r"```yaml\n(apiVersion: .*?)```", (ROOT / "docs/how-to/gpus.md").read_text(), re.S)
    manifest = yaml.safe_load(text)
    if unknown:
        manifest["spec"]["trainer"]["numberOfNodes"] = manifest["spec"]["trainer"].pop("numNodes")
    read = TrainerV1alpha1TrainJob.from_dict(manifest).to_dict()
    assert (read == manifest) != unknown  # unknown fields are left out


def test_container_workflow_and_makefile_name_the_same_system_libraries():
    wanted = re.search(r'apt install (libgl1[^"]+)"', (ROOT / "Makefile").read_text())
    assert wanted
    for file in ("Dockerfile", ".github/workflows/ci.yml"):
        assert wanted[1] in (ROOT / file).read_text(), file


def test_the_container_installs_extras_that_there_are_and_takes_no_data_or_secrets_along():
    extras = re.search(r"--editable '\.\[([\w,]+)\]'", (ROOT / "Dockerfile").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {"data", ".git", "conf/local/*", "**/*credentials*", "mlflow.db*"} <= set(ignored)


@pytest.mark.parametrize("file", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")), ids=lambda path: path.stem)
def test_issue_templates_ask_for_something(file):
    form = yaml.safe_load(file.read_text())
    if file.stem != "config":
        assert {"name", "description", "body"} <= form.keys()
        assert all(one["attributes"]["label"] for one in form["body"])


def test_editor_settings_are_json():
    for file in ROOT.glob(".vscode/*.json"):
        assert json.loads(file.read_text())

"""Figures and page of a search, from a table as ``trial_table`` makes it."""

import io
import math

import cv2
import numpy as np
import pytest

from seg_pipeline.segmentation.report.search import search_page
from seg_pipeline.segmentation.search import best_hyperparameters, search_figures
from seg_pipeline.segmentation.search.figures import importances
from seg_pipeline.segmentation.search.trials import trial_table
from seg_pipeline.segmentation.settings.search import GridSettings

RATE, DECAY = "optimizer.learning_rate", "optimizer.weight_decay"
PNG = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
GRID = GridSettings(average_last_validations=1, repeats=2)


def record(step, rate, decay, dice, *, repeat=0, state="complete", **values):
    rows = [
        {"epoch": epoch, "val_dice": dice * epoch / 2, "val_loss": 1 - dice, "train_loss": 1.0, "seconds": 1.5}
        for epoch in (1, 2)
    ]
    about = {"step": step, "repeat": repeat, "seed": repeat, "state": state, "reason": "loss <is> nan" * (dice < 0.1)}
    return about | {"rows": rows[: 1 + (state == "complete")], "values": {RATE: rate, DECAY: decay, **values}}


@pytest.fixture(scope="module")
def trials(config):
    records = [
        record("learning_rate", rate, 0.01, dice + 0.1 * repeat, repeat=repeat)
        for rate, dice in ((1e-3, 0.3), (1e-2, 0.6))
        for repeat in (0, 1)
    ]
    records.append(record("learning_rate", 1.0, 0.01, 0.05, state="diverged"))
    records += [record("weight_decay", 1e-2, decay, 0.4, repeat=repeat) for decay in (0.0, 0.1) for repeat in (0, 1)]
    for number in range(8):
        encoder = "resnet18" if number % 2 else "resnet34"
        values = {"model.encoder": encoder, "fit.ema": number / 10}
        records.append(record("tpe", 1e-2, 0.01, 0.3 + 0.2 * (number % 2) + number / 100, **values))
    return trial_table(records, config)


def drawn(figure):
    """Sizes, after a check that nothing sticks out of the figure."""
    with io.BytesIO() as file:
        figure.savefig(file)
        assert cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR) is not None
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.02
    assert box.x1 <= width + 0.02
    assert box.y1 <= height + 0.02


@pytest.mark.slow
def test_every_figure_is_drawn_and_shows_what_was_chosen(trials):
    figures = search_figures(trials, GRID)
    for figure in figures:
        drawn(figure)
    _, dice, final = figures.learning_rates.axes
    legend = [text.get_text() for text in figures.learning_rates.legends[0].get_texts()]
    assert legend == ["0.001", "0.01", "1 (diverged)"]
    assert len(dice.lines) == 6  # a line a repeat, and the cross where one diverged
    (bars,) = (part for part in final.containers)
    assert [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()] == [
        pytest.approx([0.3, 0.4]),
        pytest.approx([0.6, 0.7]),
    ]
    assert final.get_xscale() == "log"
    assert figures.weight_decays.axes[2].get_xscale() == "symlog"  # a decay of 0
    assert figures.learning_rates.get_suptitle().startswith("Learning rates at weight decay 0.01: 0.01 is best")
    texts = [text.get_text() for text in figures.heat_map.axes[0].texts]
    assert sorted(texts) == ["0.350", "0.400", "0.400", "0.650", "×"]
    (cells,) = figures.heat_map.axes[0].images
    assert min(cells.cmap(0.0)[:3]) > 0.9 > max(cells.cmap(1.0)[:1])  # a dark page turns light to dark
    (frame,) = figures.heat_map.axes[0].patches
    assert figures.heat_map.get_supxlabel() == "grey: not tried; ×: diverged or failed"
    assert final.get_ylim()[0] == 0
    assert frame.get_xy() == (0.5, 0.5)  # the second decay and the second rate


def test_importances_rank_the_setting_that_made_the_difference_first(trials):
    found = importances(trials, GRID)
    assert set(found) == {RATE, DECAY, "model.encoder", "fit.ema"}
    assert importances(trials[trials["trial"] < 5], GRID) == {}


def test_the_page_shows_checks_choice_and_every_trial(trials, config):
    best = best_hyperparameters(trials, config, GRID, data_hash="x")
    first = {
        "passed": False,
        "causes": ["set `most_covered`"],
        "num_images": 4,
        "terms": [{"term": "bce", "found": 0.8, "expected": 0.6931, "formula": "ln 2", "passed": True}],
        "input": {"mean": 0.1, "deviation": 0.9, "num_images": 4, "constant": 0},
        "classes": [{"class": "<b>", "num_images": 3, "covered": 0.25, "border": 0.0}],
    }
    curve = [{"step": 1, "loss": 0.9, "dice": None}, {"step": 2, "loss": 0.5, "dice": 0.96}]
    second = {"passed": True, "causes": [], "num_images": 4, "dice": 0.96, "steps": 2, "expected": 0.95}
    second |= {"curve": curve, "pairing": 0.0005, "pairing_images": 12, "pairing_note": ""}
    checks = {"passed": False, "initial_loss": first, "overfit": second}
    page = search_page(checks, trials, best, [PNG] * 6, grid=GRID)
    assert "set <code>most_covered</code>" in page
    assert "&lt;b&gt;" in page
    assert "loss &lt;is&gt; nan" in page
    assert page.count("<tr data-row") == trials["trial"].nunique() == 17
    assert best["reason"] in page
    assert "p = 0.0005" in page
    assert "http" not in page.replace("http-equiv", "")
    assert " style=" not in page
    assert math.isfinite(best["val_dice"])


def test_figures_with_nothing_to_show_are_not_drawn(trials, config):
    few = trials[trials["trial"] < 5]
    assert search_figures(few, GRID)[1:] == ((), (), ())
    checks = {
        "initial_loss": {"passed": True, "causes": [], "num_images": 4, "terms": [], "classes": [],
                         "input": {"mean": 0.0, "deviation": 1.0, "constant": 0}},
        "overfit": {"passed": True, "causes": [], "num_images": 4, "dice": 0.96, "steps": 1, "expected": 0.95,
                    "curve": [{"step": 1, "loss": 0.5, "dice": 0.96}], "pairing": None, "pairing_note": "few"},
    }  # fmt: skip
    page = search_page(
        checks, few, best_hyperparameters(few, config, GRID, data_hash="x"), [PNG] * 3 + [None] * 3, grid=GRID
    )
    assert "Further settings" not in page
    assert "Weight decays" not in page

from dataclasses import replace

import pytest
import torch

from seg_pipeline.segmentation import engine
from seg_pipeline.segmentation.loaders import make_loaders
from seg_pipeline.segmentation.manifest import data_hash
from seg_pipeline.segmentation.metrics import mean_dice
from seg_pipeline.segmentation.predict import predict_masks
from seg_pipeline.segmentation.recipe import Recipe, with_search
from seg_pipeline.segmentation.scoring import score_predictions
from seg_pipeline.segmentation.segmenter import Segmenter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(manifest):
    return data_hash(manifest)


@pytest.fixture
def loaders(manifest):
    return lambda recipe: make_loaders(manifest, recipe, device=CPU, num_workers=0, cache=True)


def run(state, loaders, rows=None):
    """Trains on, all the way or for some epochs."""
    for done, _ in enumerate(engine.fit(state, loaders), start=1):
        if done == rows:
            break
    return state


def without_time(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def through_a_file(saved, tmp_path):
    torch.save(saved, tmp_path / "last.pt")
    return torch.load(tmp_path / "last.pt", weights_only=True)


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_run_equals_an_unbroken_one(recipe, loaders, data, tmp_path, stop):
    whole = run(engine.start(recipe, data, CPU), loaders(recipe))
    broken = run(engine.start(recipe, data, CPU), loaders(recipe), rows=stop)
    saved = through_a_file(broken.last_checkpoint(), tmp_path)
    torch.manual_seed(999)  # whatever happened to torch's generator in between must not matter
    resumed = run(engine.resume(recipe, data, CPU, saved), loaders(recipe))
    assert len(whole.history) == recipe.epochs
    assert without_time(resumed.history) == without_time(whole.history)
    assert same(resumed.model.state_dict(), whole.model.state_dict())
    assert same(resumed.best["model"], whole.best["model"])


def test_training_learns_and_keeps_the_best_epoch(recipe, loaders, data):
    longer = replace(recipe, epochs=8, augmentation="none", learning_rate=1e-2)
    state = run(engine.start(longer, data, CPU), loaders(longer))
    first, last = state.history[0], state.history[-1]
    assert last["train_loss"] < 0.7 * first["train_loss"]
    assert state.best["row"]["val_dice"] == max(row["val_dice"] for row in state.history)
    assert [row["epoch"] for row in state.history] == list(range(1, 9))
    assert first["learning_rate"] == pytest.approx(1e-2)
    assert last["learning_rate"] < 1e-3


def test_the_first_of_equally_good_epochs_is_kept(recipe, data):
    state = engine.start(recipe, data, CPU)
    for epoch, score in enumerate([float("nan"), 0.5, 0.5, 0.4, float("nan")], start=1):
        state.add({"epoch": epoch, "val_dice": score})
    assert state.best["row"]["epoch"] == 2


def test_prediction_from_the_checkpoint_scores_what_training_scored(manifest, recipe, loaders, data, tmp_path):
    native = replace(recipe, size=(64, 64), epochs=2)
    grown = manifest.assign(split="val")
    state = run(engine.start(native, data, CPU), loaders(native))
    val = manifest[manifest["split"] == "val"]
    checkpoint = through_a_file(state.best_checkpoint(), tmp_path)
    table = predict_masks(val, checkpoint, device=CPU, batch_size=2, threshold=0.5)
    scores, _, _ = score_predictions(grown, table, aggregation="dataset", empty_policy="skip")
    # Taken at 40 x 48 instead of 64 x 64, so near and not equal.
    assert scores["mean_dice"] == pytest.approx(state.best["row"]["val_dice"], abs=0.05)


def test_a_loss_that_is_no_number_stops_the_run(recipe, loaders, data):
    wild = replace(recipe, learning_rate=1e30, warmup_epochs=0, clip_norm=None)
    with pytest.raises(RuntimeError, match=r"mean (train|val) loss over \d+ images is (nan|inf); lower `training.opt"):
        run(engine.start(wild, data, CPU), loaders(wild))


def test_a_finished_run_has_nothing_left_to_do(recipe, loaders, data):
    state = run(engine.start(replace(recipe, epochs=1), data, CPU), loaders(recipe))
    again = engine.resume(state.recipe, data, CPU, state.last_checkpoint())
    assert again.finished
    assert list(engine.fit(again, loaders(recipe))) == []
    assert same(again.best_checkpoint()["model"], state.best_checkpoint()["model"])


def test_an_unfinished_run_with_other_settings_is_refused(recipe, loaders, data):
    saved = run(engine.start(recipe, data, CPU), loaders(recipe), rows=1).last_checkpoint()
    other = replace(recipe, learning_rate=0.5, size=(64, 64))
    with pytest.raises(ValueError, match="unfinished") as caught:
        engine.resume(other, data, CPU, saved)
    assert str(caught.value) == (
        "an unfinished training run (1 of 3 epochs) has other settings: size: [64, 64], there [32, 64]; "
        "learning_rate: 0.5, there 0.003. Set them back to go on with it, or start anew with "
        "`--params training.resume=false`"
    )
    with pytest.raises(ValueError, match="has other settings: data or splits"):
        engine.resume(recipe, "another", CPU, saved)


def test_a_finished_run_with_other_settings_makes_room(recipe, loaders, data):
    saved = run(engine.start(replace(recipe, epochs=1), data, CPU), loaders(recipe)).last_checkpoint()
    state = engine.resume(recipe, data, CPU, saved)
    assert state.history == []
    assert same(state.model.state_dict(), engine.start(recipe, data, CPU).model.state_dict())


def test_a_recipe_survives_a_checkpoint(recipe):
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("found", "rate"),
    [
        (None, 0.003),
        ({"learning_rate": 0.1, "reason": "it won", "data_hash": "here"}, 0.1),
        ({"learning_rate": 0.1, "reason": "it won", "data_hash": "elsewhere"}, 0.003),
    ],
)
def test_the_searchs_rate_counts_on_its_own_data_only(recipe, found, rate):
    assert with_search(recipe, found, "here").learning_rate == rate


def test_the_runner_trains_from_equal_weights(manifest, recipe):
    train = engine.runner(manifest, device="cpu", num_workers=0, cache=None)
    short = replace(recipe, epochs=1)
    assert without_time(train(short)) == without_time(train(short))


def test_masks_of_a_multiclass_task_leave_the_background_out(recipe):
    with_background = replace(recipe, task="multiclass", background=True)
    model = Segmenter(with_background, pretrained=False).eval()
    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 3, 32, 32)
    logits = torch.tensor([[5.0, 0, 0], [1, 2, 0], [0, 1, 3]]).T.view(1, 3, 1, 3)  # background, box, disc
    assert model.masks(logits, threshold=0.5).int().tolist() == [[[[0, 1, 0]], [[0, 0, 1]]]]


def test_the_threshold_is_a_probability(recipe):
    model = Segmenter(recipe, pretrained=False)
    logits = torch.logit(torch.tensor([0.29, 0.31])).view(1, 2, 1, 1)
    assert model.masks(logits, threshold=0.3).flatten().tolist() == [False, True]


def test_perfect_and_empty_predictions_score_as_worked_by_hand(manifest):
    truth = manifest[manifest["split"] == "test"]
    perfect = truth[["image_id", "height", "width", "mask_box", "mask_disc"]]
    scores, by_image, confusion = score_predictions(manifest, perfect, aggregation="image", empty_policy="skip")
    assert (scores["mean_dice"], scores["mean_iou"], scores["pixel_accuracy"]) == (1, 1, 1)
    assert scores["classes"]["disc"] == {"dice": 1.0, "iou": 1.0, "num_images": 3}
    assert (by_image["false_pos"] + by_image["false_neg"]).sum() == 0
    area = truth["area_box"].sum()
    assert confusion.loc["box"].tolist() == [area, 0, 0]
    empty = perfect.assign(mask_box="")
    scores, _, confusion = score_predictions(manifest, empty, aggregation="dataset", empty_policy="skip")
    assert scores["mean_dice"] == 0.5
    assert scores["classes"]["box"]["dice"] == 0
    assert confusion.loc["box"].tolist() == [0, 0, area]
    assert scores["by_aggregation"]["image"]["classes"]["disc"]["dice"] == 1


def test_a_class_that_nobody_shows_has_no_score(manifest):
    bare = manifest.assign(mask_box="", area_box=0)
    rows = bare[bare["split"] == "test"]
    scores, by_image, _ = score_predictions(bare, rows, aggregation="image", empty_policy="skip")
    assert scores["classes"]["box"] == {"dice": None, "iou": None, "num_images": 0}
    assert scores["mean_dice"] == 1
    assert by_image.loc[by_image["class"] == "box", "dice"].isna().all()


def test_predictions_of_other_images_or_classes_are_refused(manifest):
    rows = manifest.head(2)
    options = {"aggregation": "image", "empty_policy": "skip"}
    with pytest.raises(ValueError, match=r"1 predicted images are not in the manifest \(new\): predict again"):
        score_predictions(manifest, rows.assign(image_id=["scan00", "new"]), **options)
    with pytest.raises(ValueError, match=r"of the classes \['box'\], the manifest has \['box', 'disc'\]"):
        score_predictions(manifest, rows.drop(columns="mask_disc"), **options)


def test_validation_dice_is_the_metrics_own(recipe, loaders, data):
    state = engine.start(replace(recipe, epochs=1), data, CPU)
    parts = loaders(recipe)
    run(state, parts)
    state.model.eval()
    counts = engine.OverlapCounts()
    with torch.inference_mode():
        for images, masks in parts.val:
            counts.update(state.model.masks(state.model(images), threshold=0.5), masks)
    expected = mean_dice(counts.compute(), aggregation="dataset", empty_policy="skip")
    assert state.history[0]["val_dice"] == expected

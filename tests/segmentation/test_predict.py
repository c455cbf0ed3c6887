import pytest
import torch

from seg_pipeline.segmentation.predict import load_members, mean_vote, predict_masks
from seg_pipeline.segmentation.recipe import ComputeSettings
from seg_pipeline.segmentation.scoring import score_predictions
from seg_pipeline.segmentation.state import start
from seg_pipeline.segmentation.training import train

CPU = torch.device("cpu")


def untrained(recipe, *seeds):
    members = [start(recipe.changed({"seed": seed}), "", CPU).best_member() for seed in seeds]
    return {"members": [{"recipe": recipe.to_dict(), **member} for member in members]}


@pytest.mark.parametrize("fit", ["resize", "pad", "crop"])
def test_prediction_from_the_checkpoint_scores_what_training_scored(manifest, recipe, fit):
    """Images are 40 x 48 and the input 64 x 64, so that scores are near and not equal, but for crop."""
    native = recipe.changed({"input.size": (64, 64), "input.fit": fit, "fit.epochs": 2})
    *_, end = train(manifest, native, ComputeSettings())
    val = manifest[manifest["split"] == "val"]
    table = predict_masks(val, end.best, device=CPU, batch_size=2, threshold=0.5)
    scores, _, _ = score_predictions(manifest, table, aggregation="dataset", empty_policy="skip")
    row = end.best["members"][0]["row"]
    assert scores["mean_dice"] == pytest.approx(row["val_dice"], abs=1e-6 if fit == "crop" else 0.05)


def test_several_members_vote_by_their_mean_probability(manifest, recipe):
    checkpoint = untrained(recipe, 1, 2)
    rows = manifest.head(2)
    both = predict_masks(rows, checkpoint, device=CPU, batch_size=2, threshold=0.5)
    again = predict_masks(rows, {"members": checkpoint["members"][::-1]}, device=CPU, batch_size=2, threshold=0.5)
    assert both.equals(again)
    assert len(load_members(checkpoint, CPU)) == 2


@pytest.mark.parametrize(("task", "expected"), [("multilabel", [0.5, 0.25]), ("multiclass", [0.625, 0.375])])
def test_the_mean_vote_by_hand(task, expected):
    if task == "multilabel":  # probabilities .9 and .1, .4 and .1
        votes = [torch.logit(torch.tensor([0.9, 0.4])), torch.logit(torch.tensor([0.1, 0.1]))]
        mean = mean_vote(tuple(vote.view(2, 1, 1) for vote in votes), task).sigmoid()
    else:  # .75 and .25 of one, .5 and .5 of the other
        votes = [torch.tensor([3.0, 1]).log(), torch.tensor([1.0, 1]).log()]
        mean = mean_vote(tuple(vote.view(2, 1, 1) for vote in votes), task).softmax(0)
    torch.testing.assert_close(mean.flatten(), torch.tensor(expected))


def test_predictions_are_at_each_images_own_size(manifest, recipe):
    rows = manifest.head(2)
    table = predict_masks(rows, untrained(recipe, 1), device=CPU, batch_size=2, threshold=0.5)
    assert table[["height", "width"]].values.tolist() == [[40, 48]] * 2


def test_an_empty_test_split_is_named(manifest):
    with pytest.raises(ValueError, match=r"no image to predict: the test split is empty; .*`split.shares.test`"):
        predict_masks(manifest[:0], {}, device=torch.device("cpu"), batch_size=2, threshold=0.5)

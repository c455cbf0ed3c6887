import pytest

from seg_pipeline.segmentation.scoring import score_predictions


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

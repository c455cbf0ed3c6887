import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.images.masks import IGNORE, encode_rle
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED
from seg_pipeline.segmentation.metrics import overlap as metrics
from seg_pipeline.segmentation.metrics.counting import count_images, count_pixels
from seg_pipeline.segmentation.settings.training import MeasureSettings


def masks_of(rng, *, overlap, fill):
    """Bool (3, 8, 13), with some pixels of no class or of two."""
    labels = rng.integers(0, 3 if fill else 4, (8, 13))
    masks = labels == np.arange(3)[:, None, None]
    return masks | (rng.random(masks.shape) > 0.9) if overlap else masks


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("ignored", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("fill", [True, False])
@pytest.mark.parametrize("overlap", [(False, False), (True, False), (False, True)])
def test_the_quick_counts_are_those_of_the_metrics(overlap, fill, ignored, partial):
    rng = np.random.default_rng(5)
    predicted, truth = (masks_of(rng, overlap=one, fill=fill) for one in overlap)
    truth = truth.astype(np.uint8)
    predicted[:, :3], truth[:, :3] = False, 0  # rows in which there is nothing
    truth[:, rng.random((8, 13)) < ignored] = IGNORE
    if partial:
        truth[1] = IGNORE  # a class that is not annotated
    counts, confusion = count_pixels(predicted, truth)
    pair = torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None]
    for name, expected in metrics.count(*pair)._asdict().items():
        assert torch.equal(getattr(counts, name), expected), name
    assert torch.equal(confusion, metrics.confusion(*pair))


def test_many_declared_classes_change_neither_counts_nor_memory():
    """The classes a to c among 300, of which one image annotates only some; the counts of the others are 0."""
    names, shape = [f"n{number}" for number in range(300)], (64, 90)
    names[3], names[150], names[299] = some = ["a", "b", "c"]
    mask = np.zeros(shape, dtype=bool)
    mask[5:20, 7:30] = True
    box, moved, corner = (encode_rle(one, order="C") for one in (mask, np.roll(mask, 4, axis=1), np.roll(mask, 30)))
    true = pd.DataFrame({"mask_a": [box, "", NOT_ANNOTATED, box], "mask_b": ["", "", box, NOT_ANNOTATED],
                         "mask_c": [box, "", NOT_ANNOTATED, ""]}).assign(height=64, width=90)  # fmt: skip
    true["ignore"] = [corner, corner, "", ""]
    guess = pd.DataFrame({"mask_a": [moved, "", box, ""], "mask_b": [moved, "", box, moved], "mask_c": [""] * 4})
    guess = guess.assign(height=64, width=90)

    def counted(classes):
        fill = pd.DataFrame({f"mask_{name}": [""] * 4 for name in classes if name not in some})
        tracemalloc.start()
        tables = (pd.concat([one, fill], axis=1) for one in (true, guess))
        counts, confusion = count_images(*tables, classes, measures=MeasureSettings())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return counts, confusion, peak / mask.size

    few, many = counted(some), counted(names)
    places = [names.index(name) for name in some]
    for kind, value in few[0]._asdict().items():
        found = getattr(many[0], kind)
        torch.testing.assert_close(
            found[:, places] if value.ndim == 2 else found, value, equal_nan=True, rtol=0, atol=0
        )
        if value.ndim == 2:
            assert not np.delete(np.nan_to_num(found.numpy()), places, axis=1).any()
    assert torch.equal(many[1][np.ix_([*places, 300], [*places, 300])], few[1])
    assert many[1].sum() == few[1].sum()
    assert many[2] < few[2] + 400  # 3 (true, predicted, both) x 297 bytes per pixel would be 891 more; tables are 300

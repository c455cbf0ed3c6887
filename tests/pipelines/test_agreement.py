"""The pipeline agreement, through Kedro's runner and the catalog class of its figure."""

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from seg_pipeline.datasets.atomic import JSONDataset
from seg_pipeline.datasets.figure import FigureDataset
from seg_pipeline.params import AgreementParams, EvaluationParams
from seg_pipeline.pipelines import agreement
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.settings.training import ScoreSettings


def manifest(*widths):
    """One image and mask of each width."""
    masks = [encode_rle(np.arange(40).reshape(4, 10) % 10 < width, order="C") for width in widths]
    numbers = list(range(len(widths)))
    columns = {"frame": 0, "height": 4, "width": 10, "split": "test", "ignore": "", "mask_vessel": masks}
    names = [f"image{number}" for number in numbers]
    return pd.DataFrame({"image_id": names, "group": names, "series": names, "content_hash": names, **columns})


def run(first, other, tmp_path):
    values = {
        "manifest": first,
        "params:scores": ScoreSettings(),
        "params:evaluation": EvaluationParams(),
        "params:agreement": AgreementParams(compare_with=other),
        "params:seed": 1,
    }
    entries = {name: MemoryDataset(value) for name, value in values.items()}
    kept = JSONDataset(filepath=str(tmp_path / "agreement.json"))  # a runner forgets what is only in memory
    outputs = {"reader_agreement": kept, "agreement_page": MemoryDataset()}
    chart = FigureDataset(filepath=str(tmp_path / "areas.png"))
    catalog = DataCatalog({**entries, **outputs, "area_differences": chart, "image_agreement": MemoryDataset()})
    SequentialRunner().run(agreement.create_pipeline(), catalog)
    return {name: catalog[name].load() for name in outputs}


def test_two_manifests_become_a_page(tmp_path):
    other = tmp_path / "reader_b"
    (other / "05_model_input").mkdir(parents=True)
    manifest(4, 6).to_parquet(other / "05_model_input" / "manifest.parquet")
    found = run(manifest(4, 4), str(other), tmp_path)
    assert found["reader_agreement"]["mean_dice"] == pytest.approx((1 + 32 / 40) / 2)
    assert found["reader_agreement"]["other"] == str(other)
    assert str(other) in found["agreement_page"]
    assert (tmp_path / "areas.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (None, "no other reader: set `agreement.compare_with` to the data_root"),
        (
            "nowhere",
            "`agreement.compare_with`: there is no nowhere/05_model_input/manifest.parquet; run `kedro run --pipeline",
        ),
    ],
)
def test_an_absent_reader_is_named(other, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        run(manifest(4), other, tmp_path)

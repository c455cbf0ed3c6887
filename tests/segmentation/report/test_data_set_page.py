"""The page of the data set: what it shows, and that the pipeline passes every figure it has a place for."""

import io
import re

import pandas as pd
from PIL import Image

from seg_pipeline.pipelines.eda.pipeline import PAGE_FIGURES
from seg_pipeline.segmentation.report import data_set_page
from seg_pipeline.segmentation.report.page import FOLDER

IMAGES = pd.DataFrame(
    {"width": [64, 64, 80], "height": [48, 48, 60], "group": ["a", "a", "b"], "series": ["a1", "a2", "b1"]}
)
COUNTS = pd.DataFrame({"train": [1234, 1], "test": [0, 2]}, index=["<liver>", "no mask"])
FIGURES = tuple(re.findall(r'\("(\w+)", "', (FOLDER / "data_set.html").read_text()))
MEMORY = {"cache": {"advice": "kept in memory"}}


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 30)).save(stream, kind)
    return stream.getvalue()


def test_the_pipeline_passes_the_figures_of_the_page_in_its_order():
    assert PAGE_FIGURES == FIGURES


def test_the_page_shows_sizes_counts_and_the_figures_that_exist():
    figures = dict.fromkeys(FIGURES) | {"sample_sheet": picture("PNG"), "series_gif": picture("GIF")}
    html = data_set_page(IMAGES, COUNTS, MEMORY, figures)
    assert "3 images of 64 × 48 pixels and one more size, 2 groups.<" in html  # each image is a series of its own
    assert "Kept in memory." not in html  # a section without figures is left out
    # dark pages invert PNG, so a sheet of images is none
    assert html.count('<img src="data:image/jpeg;base64,') == html.count('<img src="data:image/gif;base64,') == 1
    assert '<section id="Samples">' in html
    assert '<section id="Classes">' not in html


def test_a_section_with_figures_has_its_table_and_class_names_are_escaped():
    html = data_set_page(IMAGES, COUNTS, MEMORY, {"class_counts_chart": picture("PNG"), "memory_chart": picture("PNG")})
    assert '<td>&lt;liver&gt;</td><td class="number">1,234</td><td class="number">0</td>' in html
    assert "<p>Kept in memory.</p>" in html

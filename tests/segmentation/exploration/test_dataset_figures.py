from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from seg_pipeline.segmentation import exploration, plotting
from seg_pipeline.segmentation.data import memory
from seg_pipeline.segmentation.exploration import contact_sheets, image_figures, pixel_statistics, tables
from seg_pipeline.segmentation.settings import figures
from seg_pipeline.segmentation.settings.training import InputSettings

CAMVID = Path(__file__).parents[3] / "conf" / "camvid" / "parameters.yml"
ELEVEN = [one["name"] for one in yaml.safe_load(CAMVID.read_text())["dataset"]["classes"]]
SIXTY = [f"class_{index}" for index in range(60)]


def table_of(names=("box", "disc"), number=60, seed=0) -> pd.DataFrame:
    """Images of two sizes in four groups; each class is shown by a third of them, the first by all."""
    rng = np.random.default_rng(seed)
    index = np.arange(number)
    columns = {
        "image_id": [f"im{one}" for one in index],
        "group": [f"case{one % 12}" for one in index],
        "series": [f"case{one % 12}_day{one % 12 % 3}" for one in index],
        "frame": index // 12,
        "height": np.where(index % 3, 128, 96),
        "width": 160,
        "channels": 1,
        "intensity_max": rng.integers(900, 4000, number),
        "split": np.array(["train", "train", "val", "test"])[index % 4],
        "day": (index % 12 % 3).astype(float),
    }
    for rank, name in enumerate(names):
        shown = rng.random(number) < (0.34 if rank else 2)
        columns |= {f"area_{name}": shown * rng.integers(1, 4000, number)}
        columns |= {f"objects_{name}": shown * rng.integers(1, 60, number)}
    return pd.DataFrame(columns)


def intensities_of(names, groups=4) -> pd.DataFrame:
    rows = [("all", "all pixels"), *[("class", name) for name in names]]
    rows += [("group", f"case{index}") for index in reversed(range(groups))]
    numbers = {"images": 30, "pixels": 900, "p5": 10, "p25": 90, "p50": 800, "p75": 1700, "p95": 9000}
    return pd.DataFrame([{"kind": kind, "name": name, **numbers} for kind, name in rows])


def texts(figure) -> list[str]:
    """All that is written in a figure, once drawn."""
    figure.draw_without_rendering()
    found = [figure.get_suptitle(), figure.get_supxlabel()]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), *(text.get_text() for text in axes.texts)]
        found += [label.get_text() for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()]
    for legend in figure.legends:
        found += [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]
    return found


def assert_whole(figure) -> None:
    """Nothing sticks out of the figure, and no two titles or names of rows overlap."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.02
    assert box.x1 <= width + 0.02
    assert box.y1 <= height + 0.02
    titles = [axes.title for axes in figure.axes if axes.get_visible() and axes.get_title()]
    outer = [text for text in (figure._suptitle, figure._supxlabel) if text is not None and text.get_text()]
    outer += figure.legends
    boxes = [artist.get_window_extent() for artist in [*titles, *outer]]
    for axes in figure.axes:
        boxes += [label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()]
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert not one.padded(-1).overlaps(other.padded(-1))


@pytest.fixture
def configured():
    """The way to set the appearance, which is the usual one again afterwards."""
    yield figures.configure
    figures.configure()


def places_of(table, names):
    maps = np.random.default_rng(0).random((len(names), 36, 48)) * 40
    return image_figures.draw_locations(maps, names, [7] * len(names), sampled="all", note="")


def estimate_of(table, num_classes):
    return memory.estimate_memory(
        table,
        InputSettings(size=(128, 96)),
        task="multilabel",
        num_classes=num_classes,
        mode="auto",
        free_ram=2**33,
        free_disk=2**36,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "font_size"), [(("box", "disc"), 14), (ELEVEN, 9), (SIXTY, 9), (SIXTY, 14)], ids=["2", "11", "60", "60"]
)
def test_every_figure_is_whole_at_any_font_size(classes, font_size, configured):
    configured(font_size=font_size)
    table = table_of(classes)
    names, _ = tables.top_classes(table, 20)
    report = tables.compare_splits(table)
    estimate = estimate_of(table, num_classes=len(names))
    for figure in [
        exploration.class_overview(table, max_classes=20),
        exploration.split_comparison(table, report, max_classes=20),
        exploration.image_overview(table, intensities_of(names, groups=30)),
        exploration.series_overview(table, max_classes=20),
        exploration.series_overview(table.assign(day=np.nan), max_classes=20),
        places_of(table, names),
        plotting.plot_memory(estimate, memory.format_bytes),
    ]:
        assert_whole(figure)


def test_the_class_sheet_by_hand():
    table = table_of(number=4).assign(
        area_box=[205, 0, 0, 0], objects_box=[7, 0, 0, 0], area_disc=[0, 410, 410, 0], objects_disc=[0, 1, 3, 0]
    )
    found = texts(exploration.class_overview(table.assign(height=128), max_classes=5))
    assert "Class overview: 4 images, 1 (25%) without any class" in found
    assert "75% (3)" in found  # box is absent
    assert "50% (2)" in found
    assert {"1", "2", "7"} <= set(found)  # medians of area and objects
    assert found.count("100") >= 2


@pytest.mark.slow
def test_of_many_classes_the_rest_is_summed_in_words():
    table = table_of(SIXTY)
    report = tables.compare_splits(table)
    note = tables.top_classes(table, 20)[1]
    assert note.startswith("the 20 most frequent of 60 classes; the other 40 occur ")
    for figure in (
        exploration.class_overview(table, max_classes=20),
        exploration.split_comparison(table, report, max_classes=20),
        exploration.series_overview(table, max_classes=20),
    ):
        found = texts(figure)
        assert any(note in text for text in found)
        assert len([text for text in found if text.startswith("class_")]) < 90


def test_classes_keep_their_colours_when_others_are_left_out():
    table = table_of(ELEVEN).assign(area_sky=0)
    figure = exploration.class_overview(table, max_classes=10)
    bars = [patch.get_facecolor()[:3] for patch in figure.axes[1].patches]
    np.testing.assert_allclose(bars, plotting.class_colours(11)[1:] / 255)


def test_the_split_sheet_names_the_largest_difference():
    table = table_of()
    table.loc[table["split"] == "test", "height"] = 999
    found = texts(exploration.split_comparison(table, tables.compare_splits(table), max_classes=20))
    assert any("Largest difference: mean height (pixels): " in text for text in found)
    assert any("test 999 (KS distance 1.00)" in text for text in found)
    assert {"train (30)", "val (15)", "test (15)", "height", "1.00"} <= set(found)


def test_splits_keep_their_colours_without_a_test_split():
    def colours(table):
        figure = exploration.split_comparison(table, tables.compare_splits(table), max_classes=20)
        return [patch.get_facecolor() for patch in figure.legends[0].get_patches()]

    table = table_of()
    assert colours(table[table["split"] != "test"]) == colours(table)[:2]


def test_data_without_a_split_is_shown_too():
    table = table_of().assign(split="train")
    assert_whole(exploration.split_comparison(table, tables.compare_splits(table), max_classes=20))


def test_the_image_sheet_counts_sizes_and_states_the_sample():
    found = texts(exploration.image_overview(table_of(), intensities_of(["box"], groups=4)))
    assert "Image overview: sizes of 60 images, intensities of 30, drawn at random" in found
    assert "96 x 160: 20\n128 x 160: 40" in found
    groups = [text for text in found if text.startswith("case")]
    assert groups == ["case0", "case1", "case2", "case3"]
    assert "800" in found


def test_of_many_groups_those_with_most_images_are_shown():
    table = intensities_of(["box"], groups=30)
    table.loc[table["name"] == "case2", "images"] = 99
    found = texts(exploration.image_overview(table_of(), table))
    groups = [text for text in found if text.startswith("case")]
    assert len(groups) == 20
    assert "case2" in groups
    assert groups == sorted(groups, key=lambda name: int(name.removeprefix("case")))
    assert any("not shown: 10 more groups with 300 images" in text for text in found)


def test_many_sizes_are_binned():
    table = table_of().assign(height=np.arange(60) + 50, width=np.arange(60) * 3 + 70)
    found = texts(exploration.image_overview(table, intensities_of(["box"])))
    assert any(text.startswith("60 sizes, most often ") for text in found)


def test_the_place_sheet_states_the_sample(manifest):
    found = texts(exploration.class_locations(manifest.head(8), num_images=1000, max_classes=20))
    assert "8 of 1,000 images, drawn at random" in found
    assert any(text.startswith("box\n6 images, up to ") for text in found)
    assert "all 16 images" in texts(exploration.class_locations(manifest, num_images=16, max_classes=20))


def test_all_maps_have_one_scale():
    figure = image_figures.draw_locations(
        np.array([[[0.0, 40]], [[1, 2]]]), ["box", "disc"], [7, 7], sampled="all", note=""
    )
    assert [axes.images[0].norm.vmax for axes in figure.axes[:2]] == [40, 40]
    assert min(figure.axes[0].images[0].cmap(0.0)[:3]) > 0.9  # 0 is paper, and dark on a dark page


def test_a_class_that_no_image_shows_has_an_empty_map(manifest):
    assert_whole(exploration.class_locations(manifest.iloc[[0]], num_images=1, max_classes=20))


def test_the_series_sheet_shows_days_where_there_are():
    found = texts(exploration.series_overview(table_of(), max_classes=20))
    assert {"0 (20)", "1 (20)", "2 (20)"} <= set(found)
    assert "60 images in 12 series" in found
    without = texts(exploration.series_overview(table_of().assign(day=np.nan), max_classes=20))
    assert "60 images in 12 series; the series' names contain no day" in without
    half = table_of()
    half.loc[half["day"] == 0, "day"] = np.nan
    assert "60 images in 12 series; the day is known for 40" in texts(exploration.series_overview(half, max_classes=20))


def test_very_many_days_have_fewer_names():
    table = table_of(number=300).assign(day=np.arange(300.0))
    figure = exploration.series_overview(table, max_classes=20)
    assert len([text for text in texts(figure) if text.endswith(" (1)")]) == 38


def test_points_say_which_image_they_are():
    figure = exploration.point_chart(table_of(), max_points=5000, seed=0)
    assert [trace.name for trace in figure.data] == ["train (30)", "val (15)", "test (15)"]
    assert figure.data[1].customdata[0][:4] == ["im2", "case2", "case2_day2", 0]
    assert "customdata[0]" in figure.data[0].hovertemplate
    row = table_of().iloc[2]
    assert figure.data[1].y[0] == row["objects_box"] + row["objects_disc"]
    assert figure.data[1].x[0] == pytest.approx(100 * (row["area_box"] + row["area_disc"]) / (128 * 160))
    assert figure.layout.title.text == "Annotated area and objects per image (all 60)"


def test_of_many_images_a_stated_sample_is_pointed_at():
    figure = exploration.point_chart(table_of(), max_points=12, seed=0)
    assert sum(len(trace.x) for trace in figure.data) == 12
    assert "12 of 60 images, drawn at random" in figure.layout.title.text


def test_the_memory_chart_has_limits_and_advice():
    estimate = estimate_of(table_of(), num_classes=2)
    figure = plotting.plot_memory(estimate, memory.format_bytes)
    found = texts(figure)
    assert {
        "native size, uint8",
        "128 x 96, float32",
        "free RAM 8 GiB",
        "free disk 64 GiB",
        "cache limit 1 GiB",
    } <= set(found)
    assert any("are kept in memory" in text for text in found)
    (points,) = figure.axes[0].collections
    assert not figure.axes[0].patches  # no bars on an axis without a zero
    low, high = figure.axes[0].get_xlim()
    assert low < points.get_offsets()[:, 0].min()
    assert high > 2**36
    # 20 of 96 x 160 and 40 of 128 x 160 pixels: 1,126,400; 2 classes
    assert "3.22 MiB  (images 1.07 MiB, masks 2.15 MiB)" in found


def test_the_sample_sheet_says_how_samples_were_picked(manifest):
    found = texts(contact_sheets.sample_sheet(manifest.iloc[[1, 12]], note="2 named, others random"))
    assert "Samples (2 named, others random): image, masks, overlay" in found
    assert {"scan01 (train)", "scan12 (val)", "box", "disc"} <= set(found)


def test_of_many_classes_the_sample_sheet_holds_those_that_occur(manifest):
    rows = manifest.iloc[[1]].copy()
    for index in range(20):
        rows[f"mask_no{index}"], rows[f"area_no{index}"] = "", 0
    figure = contact_sheets.sample_sheet(rows, note="")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["box", "disc"]
    assert figure.legends[0].get_patches()[1].get_facecolor()[:3] == pytest.approx(plotting.class_colours(2)[1] / 255)


@pytest.mark.slow
def test_pixels_of_a_sample_make_the_image_sheet(manifest):
    table = tables.image_table(manifest, day_pattern=None)
    measured = pixel_statistics.measure_intensities(manifest, ["box", "disc"])
    assert_whole(exploration.image_overview(table, measured))


def test_the_appearance_is_that_of_every_figure():
    figures.configure(font_size=13, dpi=80, rc={"font.family": "serif", "axes.spines.top": True})
    try:
        figure = exploration.class_overview(table_of(), max_classes=20)
        chart = exploration.point_chart(table_of(), max_points=9, seed=0)
    finally:
        figures.configure()
    assert figure.dpi == 80
    assert figure.axes[1].title.get_fontsize() == 13
    assert figure._suptitle.get_fontsize() == 14
    assert figure._supxlabel.get_fontsize() == 12
    assert figure.axes[1].title.get_fontfamily() == ["serif"]
    assert figure.axes[1].spines["top"].get_visible()
    assert chart.layout.font.size == pytest.approx(13 * 4 / 3)
    again = exploration.class_overview(table_of(), max_classes=20)
    assert (again.dpi, again.axes[1].title.get_fontsize()) == (192, 9)

"""The report in headless Chromium, opened from disk: what it asks for, how it sorts and filters, how it fits."""

import io
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image

from seg_pipeline.segmentation.manifest.findings import Finding, findings_table
from seg_pipeline.segmentation.manifest.split_checks import split_table
from seg_pipeline.segmentation.report import data_set_page, findings_page, report_page
from seg_pipeline.segmentation.settings.model_card import ModelCardDetails

CHROMIUM = shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Playwright leaves a pipe open when it stops
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    """The file of a report."""
    scores = results.image_scores.copy()
    scores.loc[scores["image_id"] == "scan10", "dice"] = 0.125
    missed = (scores["image_id"] == "scan13") & (scores["class"] == "disc")
    scores.loc[missed, ["dice", "true_pos", "false_pos"]] = 0.0, 0, 0
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(
        report_page(
            replace(results, image_scores=scores),
            ModelCardDetails(),
            phantom=True,
            images_per_gallery=2,
            other=None,
            seed=0,
        )
    )
    return file


@pytest.fixture
def opened(browser, report):
    """Opens the report at a width; what it complained of or asked for is in ``page.faults``."""

    def open_at(width, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.faults = []
        page.on("console", lambda message: page.faults.append(message.text))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on(
            "request", lambda one: page.faults.append(one.url) if not one.url.startswith(("file:", "data:")) else None
        )
        page.goto(report.as_uri())
        return page

    return open_at


def ids(page):
    """Images in the order in which they are shown."""
    return [cell.inner_text() for cell in page.locator("#images [data-row]:visible td:first-child").all()]


def sort_by(page, name):
    page.locator("#images th button", has_text=name).click()


def test_the_table_sorts_by_numbers_and_by_text_with_the_undefined_last(opened):
    page = opened(1280)
    assert ids(page) == ["scan10", "scan13", "scan11", "scan14", "scan15", "scan12"]
    sort_by(page, "mean Dice")
    assert ids(page)[0] == "scan10"
    sort_by(page, "mean Dice")
    assert ids(page)[-2:] == ["scan10", "scan12"]  # falling; what has no Dice stays last
    assert page.locator("#images th[aria-sort]").get_attribute("aria-sort") == "descending"
    sort_by(page, "image")
    assert ids(page) == [f"scan{number}" for number in range(10, 16)]
    assert page.faults == []


def test_filters_work_together_and_count(opened):
    page = opened(1280)
    count = page.locator("#images [data-count]")
    assert count.inner_text() == "6 of 6"
    page.select_option("#images [data-filter=outcome]", "missed")
    assert ids(page) == ["scan13"]
    page.select_option("#images [data-filter=outcome]", "")
    page.select_option("#images [data-filter=classes]", "box")
    assert count.inner_text() == "5 of 6"  # the empty image shows no class
    page.fill("#images [type=search]", "SCAN1")
    page.select_option("#images [data-filter=group]", "group7")
    assert ids(page) == ["scan14", "scan15"]
    page.fill("#images [type=search]", "nowhere")
    assert ids(page) == []
    assert page.faults == []


def test_the_keyboard_sorts(opened):
    page = opened(1280)
    page.locator("#images th button", has_text="wrong pixels").focus()
    page.keyboard.press("Enter")
    assert ids(page)[0] == "scan12"  # nothing to get wrong there
    page.keyboard.press("Space")
    assert ids(page)[-1] == "scan12"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling_and_sorts_by_a_list(opened, scheme):
    page = opened(390, scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.select_option("#images [data-order]", label="image, descending")
    assert ids(page)[0] == "scan15"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 31)"}[scheme]
    assert page.faults == []


@pytest.mark.slow
def test_a_crowded_page_fits_a_phone_and_sorts(browser, crowded, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(report_page(crowded, ModelCardDetails(), phantom=False, images_per_gallery=2, other=None, seed=0))
    page = browser.new_page()
    page.goto(file.as_uri())
    for width in (1000, 390):  # at most 720 pixels, tables are cards
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("#images [data-count]").inner_text() == "2000 of 2000"
    page.select_option("#images [data-order]", label="image, descending")
    assert page.locator("#images tbody tr:first-child td").first.inner_text() == "image01999"


def test_a_rule_of_the_findings_page_filters_its_list(browser, tested, tmp_path):
    found = findings_table([Finding("blank_image", "", "flagged", f"scan0{number}") for number in range(3)])
    found = pd.concat([found, findings_table([Finding("mask_jumps", "", "flagged", "scan05")])])
    accounts = pd.DataFrame({"input": ["rows"], "read": [16], "kept": [16], "set_aside": [0]})
    none = pd.DataFrame({"image_id": [], "path": []})
    file = tmp_path / "findings.html"
    file.write_text(findings_page(found, tested, accounts, none, splits=split_table(tested)))
    page = browser.new_page()
    page.goto(file.as_uri())
    assert page.locator("[data-count]").inner_text() == "4 of 4"
    page.locator("#rule-blank_image a").click()
    assert page.locator("[data-count]").inner_text() == "3 of 4"


def test_the_pictures_are_there_and_described(opened):
    page = opened(1280)
    pictures = page.evaluate(
        "[...document.images].map((one) => [one.naturalWidth, one.closest('figure') ? one.alt : '-'])"
    )
    assert len(pictures) > 10
    assert all(width > 0 and alt for width, alt in pictures)


def test_in_print_nothing_is_left_to_click(opened):
    page = opened(1280)
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#images form").is_visible()
    assert len(ids(page)) == 6
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"


def views(page):
    return [one.inner_text() for one in page.locator(".viewer .views [aria-pressed=true]").all()]


def colour(page, x, y):
    """RGB at this share of the first canvas's size."""
    code = (
        "(one, [x, y]) => [...one.getContext('2d').getImageData(x * one.width, y * one.height, 1, 1).data].slice(0, 3)"
    )
    return page.locator(".viewer canvas").first.evaluate(code, [x, y])


def test_a_picture_opens_large_and_is_explored_by_keyboard(opened):
    page = opened(1400)
    page.locator("#galleries [data-picture] img").first.click()
    viewer = page.locator(".viewer")
    viewer.locator("canvas").wait_for()
    assert viewer.locator("header").inner_text().startswith("scan10")
    assert views(page) == ["Both"]
    page.keyboard.press("d")
    assert views(page) == ["Difference"]
    assert "false negative" in viewer.inner_text()
    page.keyboard.press("o")
    assert views(page) == []  # only the image
    page.keyboard.press("g")
    page.keyboard.press("2")
    assert not viewer.get_by_label("disc").is_checked()
    page.keyboard.press("+")
    assert "scale(1.25)" in viewer.locator("canvas").get_attribute("style")
    page.keyboard.press("ArrowRight")
    viewer.get_by_text("2 of 2").wait_for()
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert page.faults == []


def test_the_views_show_truth_prediction_and_their_difference(opened, results):
    page = opened(1400)
    page.locator("#images [data-row][data-picture=scan10] button").click()
    page.locator(".viewer canvas").wait_for()
    row = results.manifest.set_index("image_id").loc["scan10"]
    start = int(row["mask_box"].split()[0]) - 1  # the first pixel of the box, which the prediction misses
    place = [(start % row["width"] + 0.5) / row["width"], (start // row["width"] + 0.5) / row["height"]]
    page.keyboard.press("o")
    plain = colour(page, *place)
    page.keyboard.press("p")
    assert colour(page, *place) == plain
    for _ in range(5):
        page.keyboard.press("]")  # opaque
    page.keyboard.press("g")
    assert colour(page, *place) == [230, 159, 0]
    page.keyboard.press("d")
    assert colour(page, *place) == [0, 114, 178]
    page.keyboard.press("1")
    assert colour(page, *place) == plain


def test_only_the_classes_of_the_image_can_be_switched(opened):
    page = opened(1400)
    for image_id, classes in (("scan10", ["box", "disc"]), ("scan12", [])):
        page.locator(f"#images [data-picture={image_id}] button").click()
        page.locator(".viewer header b", has_text=image_id).wait_for()
        page.locator(f".viewer canvas[aria-label^={image_id}]").wait_for()
        boxes = page.locator(".viewer .controls label:has(i):visible")
        assert [one.inner_text().strip() for one in boxes.all()] == classes
        page.keyboard.press("Escape")


def test_rows_open_in_the_order_shown_and_a_swipe_turns_the_page(opened):
    page = opened(420, "dark")
    page.select_option("#images [data-order]", label="image, descending")
    page.select_option("#images [data-filter=classes]", "box")
    page.locator("#images [data-row]:visible").first.click()
    gaps = page.locator("table.cards td").evaluate_all("(all) => all.map((one) => getComputedStyle(one).paddingLeft)")
    assert set(gaps) == {"112px"}  # room for the names of the columns
    viewer = page.locator(".viewer")
    viewer.get_by_text("1 of 5").wait_for()
    box = viewer.locator(".stage").bounding_box()
    for direction, place in ((-1, "2 of 5"), (1, "1 of 5"), (1, "5 of 5")):
        page.mouse.move(box["x"] + 200, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 200 + 120 * direction, box["y"] + 100, steps=3)
        page.mouse.up()
        viewer.get_by_text(place).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 420
    assert page.faults == []


def corner(page, element):
    """RGB colour of the element's top left pixel, as the page shows it."""
    with Image.open(io.BytesIO(element.screenshot())) as shot:
        return list(shot.convert("RGB").getpixel((4, 4)))


def test_the_sections_stay_in_view_and_a_class_lists_its_images(opened):
    page = opened(1400)
    page.locator("#scores [data-choose=box]").click()
    assert page.input_value("#images [data-filter=classes]") == "box"
    assert page.locator("nav").bounding_box()["y"] == pytest.approx(0, abs=1)
    assert page.locator("#images h2").bounding_box()["y"] > page.locator("nav").bounding_box()["height"]


def test_charts_open_large_and_are_dark_in_dark_mode(opened):
    page = opened(1400, "dark")
    chart = page.locator("#scores .chart img").first
    assert "invert" in chart.evaluate("(one) => getComputedStyle(one).filter")
    ground = chart.locator("xpath=..").evaluate("(one) => getComputedStyle(one).backgroundColor")
    assert corner(page, chart) == pytest.approx([int(part) for part in ground[4:-1].split(",")], abs=3)  # no box
    chart.focus()
    page.keyboard.press("Enter")
    page.locator(".viewer .stage img").wait_for()
    assert not page.locator(".viewer .controls").is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    assert chart.evaluate("(one) => getComputedStyle(one).filter") == "none"


def test_charts_tell_their_values_to_mouse_and_keyboard(opened):
    page = opened(420)
    dice = page.locator("#training .panel").first
    assert page.locator("#training .chart img").count() == 0
    box = dice.locator("svg").bounding_box()
    dice.locator("svg").hover(position={"x": box["width"] - 5, "y": 50})
    assert dice.locator("output").inner_text() == "epoch 3, train 0.9, val 0.6"
    dice.locator("svg").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert dice.locator("output").inner_text().startswith("epoch 2, ")
    sizes = page.locator("#galleries .panel svg").first
    sizes.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    image_id = page.locator("#galleries .panel output").first.inner_text().split(":")[0]
    page.locator(".viewer header", has_text=f"{image_id}").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 420
    assert page.faults == []


def test_images_are_filtered_by_their_score(opened):
    page = opened(1400)
    page.fill("#images [data-most=dice]", "0.4")
    assert ids(page) == ["scan10", "scan13"]  # not the correctly empty one


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_figures_of_other_pages_fit_a_phone_and_open_large(browser, tmp_path, kind):
    stream = io.BytesIO()
    Image.new("RGB", (1500, 700), (200, 30, 30)).save(stream, "PNG")
    images = pd.DataFrame({"width": [64], "height": [48], "group": ["a"], "series": ["a"]})
    name = {"PNG": "class_overview", "JPEG": "sample_sheet"}[kind]
    file = tmp_path / "data_set.html"
    counts = pd.DataFrame({"train": [1]}, index=["box"])
    file.write_text(data_set_page(images, counts, {"cache": {"advice": "none"}}, {name: stream.getvalue()}))
    page = browser.new_page(viewport={"width": 420, "height": 800}, color_scheme="dark")
    page.goto(file.as_uri())
    figure = page.locator(".plots img")
    assert page.locator(".plots figure").bounding_box()["width"] < 400
    assert figure.bounding_box()["width"] == {"PNG": 1500, "JPEG": 374}[kind]  # text stays legible: its card scrolls
    assert page.evaluate("document.documentElement.scrollWidth") == 420
    assert ("invert" in figure.evaluate("(one) => getComputedStyle(one).filter")) == (kind == "PNG")
    page.emulate_media(media="print")
    assert figure.bounding_box()["width"] < 420
    page.emulate_media(media="screen")
    figure.click()
    assert page.locator(".viewer .stage img").is_visible()

"""The page in a real browser on a real server; whatever is done, it asks nobody else."""

import io
import json
import zipfile
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import tifffile

from seg_pipeline.segmentation.images.masks import encode_rle

pytestmark = pytest.mark.slow
RAMP = np.tile(np.linspace(0, 65535, 60).astype(np.uint16), (40, 1))  # 16 bits; brightness 0 to 1 from left to right


@pytest.fixture(scope="module")
def address(fake):
    with fake.running(fake.app(fake.Predictor(), max_bytes=100_000)) as (address, _):
        yield address


@pytest.fixture
def page(open_page, address):
    with open_page(address) as page:
        yield page


@pytest.fixture
def ramp(tmp_path, fake) -> Path:
    path = tmp_path / "ramp.16.png"
    path.write_bytes(fake.file(RAMP))
    return path


def choose(page, path: Path) -> None:
    page.set_input_files("#file", path)
    page.wait_for_selector("#view:not([hidden])")


def until(page, condition):
    """Wait until a JavaScript expression holds. The page's policy forbids ``wait_for_function`` to look twice."""
    for _ in range(1200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not within a minute: {condition}")


def pixel(page, canvas: str, column: int, row: int) -> list[int]:
    read = "([id, x, y]) => [...document.getElementById(id).getContext('2d').getImageData(x, y, 1, 1).data]"
    return page.evaluate(read, [canvas, column, row])


def numbers(page, row: int) -> list[str]:
    return page.locator("#classes tr.class").nth(row).locator("td:visible").all_inner_texts()


def wait_for_area(page, text: str, row: int = 0) -> None:
    page.locator("#classes tr.class").nth(row).locator("td").first.get_by_text(text, exact=True).wait_for()


def test_the_page_says_which_model_answers(page):
    expected = "Model: input 64 × 32; validation Dice 0.900; weights ffffffffffff."
    assert page.text_content("#model") == expected


def test_an_image_is_shown_with_its_masks_and_numbers(page, ramp):
    choose(page, ramp)
    assert page.inner_text("#name") == "ramp.16.png60 × 40, 16 bits grey, PNG"
    assert numbers(page, 0) == ["1,200", "50.0 %", "0.75"]
    assert pixel(page, "picture", 59, 5) == [255, 255, 255, 255]  # a browser alone shows 16 bits, but not their range
    assert pixel(page, "fill", 50, 5) == [0xE6, 0x9F, 0x00, 255]
    assert pixel(page, "fill", 10, 5) == [0x56, 0xB4, 0xE9, 255]
    assert pixel(page, "line", 30, 5)[3] == 255  # the edge of the bright half
    assert pixel(page, "line", 40, 5)[3] == 0
    assert "Found: bright, dark." in page.inner_text("#status")
    assert page.wrong == []


def test_a_class_is_hidden_and_shown_again(page, ramp):
    choose(page, ramp)
    page.get_by_label("bright", exact=True).uncheck()
    assert pixel(page, "fill", 50, 5)[3] == 0
    assert pixel(page, "fill", 10, 5)[3] == 255
    page.get_by_label("bright", exact=True).check()
    assert pixel(page, "fill", 50, 5)[3] == 255


def test_a_threshold_is_seen_at_once_and_settled_by_the_server(page, ramp, address):
    choose(page, ramp)
    page.route("**/api/predict*", lambda _: None)  # held back: what is seen now, the page found itself
    slider = page.get_by_label("Threshold of bright")
    slider.focus()
    slider.press("End")
    wait_for_area(page, "40")  # above 0.99 is the last column alone
    assert pixel(page, "fill", 50, 5)[3] == 0
    page.unroute("**/api/predict*")
    with page.expect_response(lambda answer: "threshold=0.98&threshold=0.5" in answer.url) as answered:
        slider.press("ArrowLeft")
    exact = answered.value.json()["classes"][0]
    assert exact["area"] == 80
    wait_for_area(page, "80")
    page.get_by_role("button", name="Reset thresholds").click()
    wait_for_area(page, "1,200")
    assert page.wrong == []


def saved(page, form, scope="one") -> tuple[str, bytes]:
    """Name and contents of a download."""
    page.select_option("#form", form)
    page.select_option("#scope", scope)
    with page.expect_download() as download:
        page.click("#download")
    return download.value.suggested_filename, download.value.path().read_bytes()


def unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


def as_mask(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_the_downloads_are_what_the_server_computes(page, ramp, address):
    choose(page, ramp)
    with page.expect_response("**/api/predict*"):
        page.get_by_label("Threshold of dark").fill("0.9")
    wait_for_area(page, "240", row=1)
    query = {"threshold": [0.5, 0.9]}
    asked = httpx.post(f"{address}/api/predict", params=query, files={"image": (ramp.name, ramp.read_bytes())}).json()
    name, data = saved(page, "classes")
    files = unpacked(data)
    assert (name, list(files)) == ("ramp.16_classes.zip", ["masks/bright/ramp.16.png", "masks/dark/ramp.16.png"])
    for mask, one in zip(map(as_mask, files.values()), asked["classes"], strict=True):
        assert (mask.shape, mask.dtype, set(np.unique(mask))) == ((40, 60), np.uint8, {0, 255})
        assert encode_rle(mask > 0, order="C") == one["rle"]
    name, data = saved(page, "json")
    answer = json.loads(data)
    polygons = [one.pop("polygons") for one in answer["classes"]]
    assert name == "ramp.16_result.json"
    assert answer["classes"] == asked["classes"]
    assert polygons[1] == [{"area": 240, "outline": [[0, 0], [6, 0], [6, 40], [0, 40]], "holes": []}]
    name, data = saved(page, "overlay")
    assert (name, as_mask(data).shape[:2]) == ("ramp.16_overlay.png", (40, 60))
    name, data = saved(page, "areas")
    assert data.decode().splitlines() == [
        "image,page,class,area_px,share,area_mm2,corrected",
        "ramp.16.png,1,bright,1200,0.500000,,no",
        "ramp.16.png,1,dark,240,0.100000,,no",
    ]
    assert page.wrong == []


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("notes.png", b"some text", "This is text; send a PNG, JPEG, TIFF, WebP, BMP or DICOM file."),
        ("empty.png", b"", "The file is empty (0 bytes)."),
        ("large.png", bytes(200_000), "It has 200,000 bytes; this server accepts at most 100,000."),
    ],
)
def test_a_refused_file_is_explained(page, ramp, tmp_path, name, data, words):
    choose(page, ramp)
    (tmp_path / name).write_bytes(data)
    page.set_input_files("#file", tmp_path / name)
    page.wait_for_selector("#problem:not([hidden])")
    assert page.get_by_role("alert").inner_text() == f"{name} was rejected\n{words}"
    assert page.is_visible("#drop")
    assert page.is_hidden("#view")
    choose(page, ramp)  # and the page goes on
    assert page.is_hidden("#problem")


def test_an_image_can_be_dropped(page, ramp):
    drop = """([bytes]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, [list(ramp.read_bytes())])
    page.wait_for_selector("#view:not([hidden])")
    assert page.inner_text("#name").startswith("dropped.png")


def test_keys_reach_everything_and_zoom(page, ramp):
    choose(page, ramp)
    page.focus("#keys")
    reached = []
    for _ in range(26):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    wanted = ["file", "smaller", "fit", "compare", "correct", "scroller", "threshold-0", "opacity", "level", "download"]
    assert [one for one in reached if one in wanted][: len(wanted)] == wanted
    page.focus("#scroller")
    before = page.inner_text("#zoom")
    page.keyboard.press("+")
    assert page.inner_text("#zoom") != before
    page.keyboard.press("0")
    assert page.inner_text("#zoom") == before
    centres = """() => ["#scroller", "#sheet"].map((one) => document.querySelector(one).getBoundingClientRect())
      .map((box) => [box.left + box.width / 2, box.top + box.height / 2])"""
    for _ in range(20):
        page.keyboard.press("+")
    (middle, down), (sheet_middle, sheet_down) = page.evaluate(centres)  # the middle of the image stays where it is
    assert max(abs(middle - sheet_middle), abs(down - sheet_down)) < 10
    assert page.inner_text("#zoom") == "3200%"
    assert page.evaluate("(one => one.scrollWidth <= one.clientWidth)(document.querySelector('#zoom'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [420, 1400])
def test_nothing_is_wider_than_the_window(page, ramp, width, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 844})
    choose(page, ramp)
    page.click("#correct")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    contrast = page.evaluate(CONTRAST)
    assert min(contrast.values()) >= 4.5, contrast


CONTRAST = """() => {
  const light = (text) => {
    const parts = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (one) => {
    const found = getComputedStyle(one).backgroundColor;
    return found === "rgba(0, 0, 0, 0)" && one.parentElement ? behind(one.parentElement) : found;
  };
  return Object.fromEntries(["h1", "#about", "#items .soft", "#download", "#correct", "#hint"].map((name) => {
    const one = document.querySelector(name);
    const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
    return [name, (a + 0.05) / (b + 0.05)];
  }));
}"""


def test_every_control_has_a_name(page, ramp):
    choose(page, ramp)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, button, select')].filter((one) => "
        "!one.textContent && !one.labels?.length && !one.getAttribute('aria-label')).map((one) => one.outerHTML)"
    )
    assert unnamed == []


def test_the_token_is_asked_for(open_page, fake, ramp):
    with fake.running(fake.app(fake.Predictor(), token="secret")) as (address, _), open_page(address) as page:
        for token in ("wrong", "secret"):
            page.get_by_label("This server requires a token").fill(token)
            with page.expect_response("**/api/model"):
                page.get_by_role("button", name="Continue").click()
        choose(page, ramp)
        assert numbers(page, 0)[0] == "1,200"


def test_many_images_are_listed_and_those_that_are_none_say_why(page, fake, tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png", "no.png")]
    for value, path in enumerate(paths[:2]):
        path.write_bytes(fake.file(np.full((8, 8), 255 * value, dtype=np.uint8)))
    paths[2].write_bytes(b"text")
    page.set_input_files("#file", paths)
    page.locator("#items li.failed").wait_for()
    assert page.locator("#items button").all_inner_texts() == [
        "a.png\ndark",
        "b.png\nbright",
        "no.png\nThis is text; send a PNG, JPEG, TIFF, WebP, BMP or DICOM file.",
    ]
    assert (page.inner_text("#place"), page.inner_text("#number")) == ("1 / 3", "3")
    page.keyboard.press(".")
    wait_for_area(page, "64")
    assert page.inner_text("#name").startswith("b.png")
    _, data = saved(page, "areas", "all")  # of those that are images
    assert [line.split(",")[3] for line in data.decode().splitlines()] == ["area_px", "0", "64", "64", "0"]
    _, data = saved(page, "classes", "all")
    assert list(unpacked(data)) == [f"masks/{folder}/{name}.png" for name in "ab" for folder in ("bright", "dark")]
    page.click("#remove")
    page.get_by_text("no.png was rejected").wait_for()
    page.keyboard.press(",")
    page.locator("#view").wait_for()
    assert page.inner_text("#name").startswith("a.png")


def test_a_folder_keeps_the_paths_of_its_images(page, fake, tmp_path):
    for number, name in enumerate(("scans/x/a.png", "scans/y/a.png", "scans/notes.txt", "scans/.hidden.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(fake.file(np.full((4, 4 + number), 255, dtype=np.uint8)))
    page.set_input_files("#folder", tmp_path / "scans")
    page.locator("#items li.done").nth(1).wait_for()
    assert page.locator("#items .title").all_inner_texts() == ["x/a.png", "y/a.png"]
    _, data = saved(page, "coco", "all")
    assert [one["file_name"] for one in json.loads(data)["images"]] == ["x/a.png", "y/a.png"]
    _, data = saved(page, "classes", "all")
    assert list(unpacked(data))[::2] == ["masks/bright/x/a.png", "masks/bright/y/a.png"]
    name, data = saved(page, "labelme")
    assert (name, json.loads(data)["imagePath"]) == ("a.json", "a.png")


def test_pages_of_a_tiff_are_listed_one_by_one(page, fake, tmp_path):
    pages = np.stack([np.full((6, 8), value, dtype=np.uint8) for value in (0, 255)])
    about = {"unit": "mm", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "stack.tif", pages, imagej=True, resolution=(2, 4), metadata=about)
    choose(page, tmp_path / "stack.tif")
    page.get_by_text("stack.tif, page 2").wait_for()
    assert numbers(page, 1) == ["48", "6", "100.0 %", "1.00"]  # dark: a pixel is 0.5 mm wide and 0.25 mm high
    page.click("#next")
    wait_for_area(page, "48")
    assert page.inner_text("#name").endswith("8 × 6, 8 bits grey, TIFF, 0.5 × 0.25 mm")


def test_window_and_level_change_what_is_shown_and_nothing_else(page, ramp):
    choose(page, ramp)
    page.asked.clear()
    before = pixel(page, "picture", 45, 5)[0]
    page.get_by_label("Level").fill("50000")
    page.get_by_label("Window").fill("20000")
    page.locator("#width-text").get_by_text(
        "20,000", exact=True
    ).wait_for()  # both changes are drawn, not the first alone
    value = int(RAMP[0, 45])  # 49982, black is 40000 and white 60000
    assert pixel(page, "picture", 45, 5)[0] == round(255 * (value - 40000) / 20000) != before
    assert [pixel(page, "picture", column, 5)[0] for column in (30, 59)] == [0, 255]
    assert (numbers(page, 0)[0], [url for url in page.asked if "/api/" in url]) == ("1,200", [])
    assert page.locator("#level-text, #width-text").all_inner_texts() == ["50,000", "20,000"]
    page.click("#auto")
    until(page, "document.getElementById('auto').disabled")
    assert pixel(page, "picture", 45, 5)[0] == before


def test_the_right_mouse_button_drags_level_and_window(page, ramp):
    choose(page, ramp)
    box = page.locator("#sheet").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 100)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 150, box["y"] + 80)  # a narrower window, a higher level
    page.mouse.up(button="right")
    until(page, "location.hash.startsWith('#window=')")
    low, high = (int(one) for one in page.evaluate("decodeURIComponent(location.hash)").partition("=")[2].split(","))
    automatic = np.percentile(RAMP, (1, 99))
    assert (low + high) / 2 == pytest.approx(automatic.mean() + 20 * 65535 / 500, abs=2)
    assert high - low == pytest.approx(np.ptp(automatic) - 50 * 65535 / 500, abs=2)


def test_the_uncertainty_is_a_layer(page, ramp, fake, open_page):
    choose(page, ramp)
    assert pixel(page, "map", 30, 5)[3] == 0
    assert page.locator("#of-folds").is_hidden()  # a single network
    with page.expect_response(lambda answer: "include=uncertainty" in answer.url):
        page.select_option("#map-of", "uncertainty")
    until(page, "document.getElementById('map').getContext('2d').getImageData(30, 5, 1, 1).data[3] > 0")
    share = RAMP[0] / 65535
    certain = np.maximum(np.stack([share, 1 - share]), 1e-9)
    expected = np.rint(-255 * (certain * np.log2(certain)).sum(0))
    assert [pixel(page, "map", at, 5)[3] for at in (0, 7, 30, 59)] == expected[[0, 7, 30, 59]].tolist()
    assert pixel(page, "map", 30, 5)[:3] == [255, 0, 255]
    page.select_option("#map-of", "")
    assert pixel(page, "map", 30, 5)[3] == 0
    with (
        fake.running(fake.app(fake.Predictor(networks=2))) as (other, _),
        open_page(f"{other}/#map=spread") as ensemble,
    ):
        choose(ensemble, ramp)
        assert pixel(ensemble, "map", 59, 5) == [255, 0, 255, 255]
        assert pixel(ensemble, "map", 0, 5)[3] == 0
        assert ensemble.input_value("#map-of") == "spread"
        assert ensemble.wrong == []


def test_comparison_hides_the_masks_on_one_side(page, ramp):
    choose(page, ramp)
    page.click("#compare")
    box = page.locator("#sheet").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    page.mouse.up()
    assert page.get_attribute("#divider", "aria-valuenow") == "25"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.getElementById('fill').style.clipPath").startswith("inset(0px 0px 0px 27")
    page.click("#compare")
    assert page.evaluate("document.getElementById('fill').style.clipPath") == ""


def test_a_link_brings_the_settings_back(page, ramp, address, open_page):
    choose(page, ramp)
    page.get_by_label("bright", exact=True).uncheck()
    page.get_by_label("Opacity").fill("30")
    with page.expect_response("**/api/predict*"):
        page.get_by_label("Threshold of dark").fill("0.9")
    link = page.evaluate("location.href")
    assert link == f"{address}/#opacity=30&threshold.dark=0.9&hide=bright"
    with open_page(link) as other:
        choose(other, ramp)
        assert other.get_by_label("bright", exact=True).is_checked() is False
        assert other.input_value("#opacity") == "30"
        assert numbers(other, 1)[0] == "240"


def test_the_most_uncertain_images_can_come_first(page, fake, tmp_path):
    doubts = {"a.png": [0.2, False], "b.png": [0.7, True], "c.png": [0.4, False]}
    with_doubts = """(doubts) => {
      const real = window.fetch;
      window.fetch = async (...given) => {
        const found = await (await real(...given)).json();
        [found.uncertainty, found.look_at_this] = doubts[found.image.file];
        return new Response(JSON.stringify(found));
      };
    }"""
    page.evaluate(with_doubts, doubts)
    for name in doubts:
        (tmp_path / name).write_bytes(fake.file(np.zeros((8, 8), dtype=np.uint8)))
    page.set_input_files("#file", [tmp_path / name for name in doubts])
    page.locator("#items li.done").nth(2).wait_for()
    page.select_option("#order", "uncertain")
    assert page.locator("#items .title").all_inner_texts() == ["b.png", "c.png", "a.png"]
    assert page.locator("#items .doubtful .title").all_inner_texts() == ["b.png"]
    assert page.inner_text("#place") == "3 / 3"
    page.keyboard.press(",")
    page.get_by_text("2 / 3").wait_for()
    assert "Uncertainty 0.40." in page.inner_text("#status")


def test_a_pasted_image_is_predicted(page, ramp):
    paste = """([bytes]) => {
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
    }"""
    page.evaluate(paste, [list(ramp.read_bytes())])
    page.wait_for_selector("#view:not([hidden])")
    assert page.inner_text("#name").startswith("image.png")

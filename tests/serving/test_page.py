"""The page in a real browser on a real server; whatever is done, it asks nobody else."""

import json
import shutil
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

RAMP = np.tile(np.linspace(0, 65535, 60).astype(np.uint16), (40, 1))  # 16 bits; brightness 0 to 1 from left to right


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(fake):
    with fake.running(fake.app(fake.Predictor(), max_bytes=100_000)) as (address, _):
        yield address


@pytest.fixture
def page(browser, address):
    """A page that notes what it asked for and what went wrong."""
    with browser.new_context(viewport={"width": 1280, "height": 860}) as context:
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.asked, page.wrong = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#classes tr")
        yield page
        assert [url for url in page.asked if not url.startswith((address, "blob:" + address))] == []


@pytest.fixture
def ramp(tmp_path, fake) -> Path:
    path = tmp_path / "ramp.16.png"
    path.write_bytes(fake.file(RAMP))
    return path


def choose(page, path: Path) -> None:
    page.set_input_files("#file", path)
    page.wait_for_selector("#view:not([hidden])")


def pixel(page, canvas: str, column: int, row: int) -> list[int]:
    read = "([id, x, y]) => [...document.getElementById(id).getContext('2d').getImageData(x, y, 1, 1).data]"
    return page.evaluate(read, [canvas, column, row])


def numbers(page, row: int) -> list[str]:
    return page.locator("#classes tr.class").nth(row).locator("td").all_inner_texts()


def wait_for_area(page, text: str) -> None:
    page.locator("#classes td").first.get_by_text(text, exact=True).wait_for()


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


def test_the_downloads_are_what_the_server_computes(page, ramp, address):
    choose(page, ramp)
    with page.expect_response("**/api/predict*"):
        page.get_by_label("Threshold of dark").fill("0.9")
    saved = {}
    for name in ("Mask", "Overlay", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        saved[download.value.suggested_filename] = download.value.path()
    assert list(saved) == ["ramp.16_mask.png", "ramp.16_overlay.png", "ramp.16_result.json"]
    query = {"threshold": [0.5, 0.9]}
    files = {"image": ("ramp.16.png", ramp.read_bytes())}
    asked = httpx.post(f"{address}/api/predict", params={**query, "response_format": "mask"}, files=files)
    assert saved["ramp.16_mask.png"].read_bytes() == asked.content
    mask = cv2.imdecode(np.frombuffer(asked.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (mask.shape, int((mask[40:] > 0).sum())) == ((80, 60), 240)  # dark above 0.9: six columns
    answer = json.loads(saved["ramp.16_result.json"].read_text())
    assert answer["classes"] == [
        {**one, "probabilities": None}
        for one in httpx.post(f"{address}/api/predict", params=query, files=files).json()["classes"]
    ]
    assert cv2.imread(str(saved["ramp.16_overlay.png"])).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("notes.png", b"some text", "This is text; send a PNG, JPEG, TIFF, WebP or BMP file."),
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
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(18):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    wanted = ["file", "smaller", "larger", "fit", "scroller", "threshold-0", "threshold-1", "opacity", "save-mask"]
    assert [one for one in reached if one in wanted][: len(wanted)] == wanted
    page.focus("#scroller")
    before = page.inner_text("#zoom")
    page.keyboard.press("+")
    assert page.inner_text("#zoom") != before
    page.keyboard.press("0")
    assert page.inner_text("#zoom") == before


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(page, ramp, width):
    page.set_viewport_size({"width": width, "height": 844})
    choose(page, ramp)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_every_control_has_a_name(page, ramp):
    choose(page, ramp)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, button')].filter((one) => "
        "!one.textContent && !one.labels?.length && !one.getAttribute('aria-label')).map((one) => one.outerHTML)"
    )
    assert unnamed == []


def test_the_token_is_asked_for(browser, fake, ramp):
    with fake.running(fake.app(fake.Predictor(), token="secret")) as (address, _), browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        for token in ("wrong", "secret"):
            page.get_by_label("This server requires a token").fill(token)
            with page.expect_response("**/api/model"):
                page.get_by_role("button", name="Continue").click()
        choose(page, ramp)
        assert numbers(page, 0)[0] == "1,200"

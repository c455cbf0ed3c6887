"""Take the pictures of the documentation again, from this checkout's `kedro run` of the sample.

    python docs/_site/pictures.py [gallery predictions report findings serving mlflow kedro_viz]

It needs Chromium, and for the serving page the exported model (`kedro run --pipeline export`).
"""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[2]
IMAGES, DATA = ROOT / "docs/images", ROOT / "data"
RESULTS = DATA / "08_reporting"
WIDTH, MOST_ROWS, COLOURS = 900, 700, 256
SIZE = {"width": 1200, "height": 820}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def save(picture: Image.Image, file: Path) -> None:
    """A small file: JPEG for photos, else few colours, rare ones included, as those of classes are."""
    if file.suffix == ".jpg":
        picture.convert("RGB").save(file, quality=72, optimize=True)
    else:
        picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            file, optimize=True
        )


def gallery() -> None:
    """Figures of the run as the gallery shows them; those that it did not draw stay as they are."""
    for file in IMAGES.glob("*/*.*"):
        drawn = RESULTS / f"{file.stem}.png"
        if drawn.exists():
            with Image.open(drawn) as figure:
                width = min(WIDTH, figure.width)
                height = round(figure.height * width / figure.width)
                small = figure.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            save(small.crop((0, 0, width, min(height, MOST_ROWS))), file)


def predictions() -> None:
    """Two rows of the contact sheet of predictions, for the README: the worst and the best with all classes."""
    from seg_pipeline.segmentation.exploration.contact_sheets import prediction_sheet

    scores = pd.read_parquet(RESULTS / "image_scores.parquet")
    mean = scores.groupby("image_id")["dice"].agg(["mean", "count"]).query("count == 3")["mean"].sort_values()
    shown = scores[scores["image_id"].isin(mean.index[[0, -1]])]
    tables = [
        pd.read_parquet(DATA / one)
        for one in ("05_model_input/manifest.parquet", "07_model_output/predictions.parquet")
    ]
    figure = prediction_sheet(*tables, shown, num_images=2)
    figure.suptitle("Predictions on test images", weight="bold")
    stream = io.BytesIO()
    figure.savefig(stream, dpi=660 / figure.get_figwidth())
    save(Image.open(stream), IMAGES / "predictions.png")


def shot(page: Page, name: str) -> None:
    save(Image.open(io.BytesIO(page.screenshot())), IMAGES / name)


def report(page: Page) -> None:
    page.goto((RESULTS / "report.html").as_uri())
    page.locator("#scores").evaluate("(one) => one.scrollIntoView()")
    shot(page, "report.png")
    page.locator("#galleries [data-picture] img").nth(2).click()
    page.locator(".viewer canvas").wait_for()
    page.wait_for_timeout(300)
    shot(page, "viewer.jpg")


def findings(page: Page) -> None:
    page.goto((RESULTS / "findings.html").as_uri())
    shot(page, "findings.png")


@contextmanager
def served(port: int, *command: str) -> Iterator[str]:
    """Address of a server that a command starts, which gets the port as its last argument."""
    known = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}
    with subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, env=known) as server:
        try:
            for _ in range(1200):
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def serving(page: Page) -> None:
    """The comparison of an image with its masks, and a correction: a brush stroke and a polygon that is being drawn."""
    images = sorted((DATA / "01_raw/phantom/train/case1").rglob("*.png"))[3:10]
    program = (sys.executable, "-m", "seg_pipeline", "serve", "--model", str(DATA / "07_model_output/bundle"))
    with TemporaryDirectory() as saved, served(8155, *program, "--save", saved) as address:
        page.goto(address)
        page.set_input_files("input[type=file]", [str(image) for image in images])
        page.get_by_text("Order").wait_for()
        page.wait_for_timeout(4000)
        page.get_by_text("Compare", exact=True).click()
        page.wait_for_timeout(800)
        shot(page, "serving.png")
        page.get_by_text("Compare", exact=True).click()
        page.get_by_text("Correct", exact=True).click()
        page.wait_for_timeout(1200)
        box = page.locator("#sheet").bounding_box() or {}

        def place(across: float, down: float) -> tuple[float, float]:
            return box["x"] + box["width"] * across, box["y"] + box["height"] * down

        page.mouse.move(*place(0.52, 0.33))
        page.mouse.down()
        page.mouse.move(*place(0.58, 0.36), steps=5)
        page.mouse.up()
        page.get_by_text("Polygon", exact=True).click()
        for corner in [(0.33, 0.70), (0.39, 0.66), (0.43, 0.71), (0.40, 0.77)]:
            page.mouse.click(*place(*corner))
        page.mouse.move(*place(0.35, 0.76))
        page.wait_for_timeout(500)
        shot(page, "correct.png")


def mlflow(page: Page) -> None:
    """Curves of the run whose name is not that of a trial."""
    tools = Path(sys.executable).parent
    with served(
        5055, str(tools / "mlflow"), "server", "--backend-store-uri", "sqlite:///mlflow.db", "--workers", "1"
    ) as address:
        page.goto(f"{address}/#/experiments/1/runs", wait_until="domcontentloaded")
        page.get_by_text("Model training").first.click()
        page.get_by_role("link", name=re.compile("^base tu-")).first.click()
        page.get_by_role("tab", name="Model metrics").click()
        page.get_by_text("mean_dice", exact=True).first.wait_for()  # before it, the page forgets what is typed
        page.wait_for_timeout(3000)
        while (close := page.get_by_role("button", name="Close")).count():  # the assistant
            close.first.click()
        page.get_by_placeholder("Search metric charts").press_sequentially("(train|val)/(dice|loss)|rate")
        page.get_by_text("mean_dice", exact=True).first.wait_for(state="hidden")
        page.mouse.move(600, 40)
        page.wait_for_timeout(6000)
        shot(page, "mlflow.png")


def kedro_viz(page: Page) -> None:
    """The pipeline of the training, in the light theme and without the menu."""
    tools = Path(sys.executable).parent
    with served(4155, str(tools / "kedro"), "viz", "run", "--no-browser", "--host", "127.0.0.1") as address:
        page.goto(f"{address}/?pid=training", wait_until="domcontentloaded")
        page.locator(".pipeline-node").first.wait_for()
        page.locator(".feature-hints__close").wait_for()
        labels = ("Change to light theme", "Hide menu", "Turn minimap off")
        for button in (".feature-hints__close", "text=Dismiss", *(f"[aria-label='{label}']" for label in labels)):
            if page.locator(button).count():
                page.locator(button).first.click()
        page.mouse.move(600, 40)
        page.wait_for_timeout(8000)  # until the last hint goes
        shot(page, "kedro_viz.png")


def main(names: list[str]) -> None:
    if "gallery" in names:
        gallery()
    if "predictions" in names:
        predictions()
    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET) as browser,
    ):
        for take in (report, findings, serving, mlflow, kedro_viz):
            if take.__name__ in names:
                page = browser.new_page(viewport=SIZE)
                page.set_default_timeout(120_000)
                take(page)


if __name__ == "__main__":
    main(sys.argv[1:] or ["gallery", "predictions", "report", "findings", "serving", "mlflow", "kedro_viz"])

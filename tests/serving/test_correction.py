"""Correcting masks in a real browser: strokes compared to the pixel, on the page and in what it saves."""

import base64
import io
import json
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.new_data.test_zoo import processed

from seg_pipeline.new_data.command import main as new_data
from seg_pipeline.segmentation.formats.coco_masks import decode_segmentation
from seg_pipeline.segmentation.manifest.table import read_masks
from seg_pipeline.segmentation.objects.label_maps import decode_labels

pytestmark = pytest.mark.slow
HEIGHT, WIDTH = 20, 30
GREY = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
GREY[2:8, 4:12] = 255  # bright; all else is dark


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kept") / "corrected"


@pytest.fixture(scope="module")
def addresses(fake, folder):
    """Of a multilabel server that saves, and of a multiclass one that does not."""
    multilabel = fake.app(fake.Predictor(), save=folder)
    multiclass = fake.app(fake.Predictor(fake.MULTICLASS))
    with fake.running(multilabel) as (first, _), fake.running(multiclass) as (second, _):
        yield {"multilabel": first, "multiclass": second}


@pytest.fixture(scope="module")
def objects_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kept") / "objects"


@pytest.fixture(scope="module")
def objects_address(fake, objects_folder):
    """Of a server whose model knows objects: pixels of one grey value."""
    with fake.running(fake.app(fake.Predictor(fake.OBJECTS), save=objects_folder)) as (address, _):
        yield address


@pytest.fixture
def object_page(open_page, objects_address, tmp_path, fake):
    """The page in correction mode, with an image of two bright objects that touch."""
    pixels = np.full((HEIGHT, WIDTH), 60, dtype=np.uint8)
    pixels[2:8, 4:8], pixels[2:8, 8:12] = 200, 250
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "cells.png").write_bytes(fake.file(pixels))
    with open_page(objects_address) as page:
        page.set_input_files("#file", [tmp_path / "raw" / "cells.png"])
        page.wait_for_selector("#view:not([hidden])")
        page.keyboard.press("c")
        yield page
        assert page.wrong == []


@pytest.fixture
def page(open_page, addresses, request, images):
    """The page in correction mode, with three images of which the first is open."""
    with open_page(addresses[getattr(request, "param", "multilabel")]) as page:
        page.set_input_files("#file", images)
        page.wait_for_selector("#view:not([hidden])")
        page.locator("#items li.done").nth(2).wait_for()
        page.keyboard.press("c")
        yield page
        assert page.wrong == []


@pytest.fixture
def images(tmp_path, fake):
    paths = [tmp_path / "scans" / f"{name}.png" for name in "abc"]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        path.write_bytes(fake.file(np.roll(GREY, number, axis=0)))
    return paths


def spot(page, column, row):
    """Where on the screen the centre of a pixel is."""
    box = page.locator("#sheet").bounding_box()
    return box["x"] + (column + 0.5) * box["width"] / WIDTH, box["y"] + (row + 0.5) * box["height"] / HEIGHT


def drag(page, *pixels):
    page.mouse.move(*spot(page, *pixels[0]))
    page.mouse.down()
    for pixel in pixels[1:]:
        page.mouse.move(*spot(page, *pixel), steps=3)
    page.mouse.up()


def click(page, column, row, **options):
    page.mouse.click(*spot(page, column, row), **options)


def use(page, tool, size=None, number=1):
    page.keyboard.press(str(number))
    page.get_by_role("button", name=tool).click()
    if size:
        page.get_by_label("Size").fill(str(size))


def downloaded(page, form, scope="one"):
    page.select_option("#form", form)
    page.select_option("#scope", scope)
    with page.expect_download() as download:
        page.click("#download")
    return download.value.path().read_bytes()


def masks(page, scope="one"):
    """Bool masks by file name, as the page saves them."""
    with zipfile.ZipFile(io.BytesIO(downloaded(page, "classes", scope))) as file:
        return {name: cv2.imdecode(np.frombuffer(file.read(name), np.uint8), -1) > 0 for name in file.namelist()}


def bright(page):
    return next(iter(masks(page).values()))


def test_strokes_change_the_pixels_below_them_and_can_be_undone(page):
    expected = GREY > 0
    use(page, "Brush", 3)
    drag(page, (20, 5), (20, 10))
    expected[4:12, 19:22] = True  # 3 wide, with square ends
    np.testing.assert_array_equal(bright(page), expected)
    use(page, "Brush", 1)
    click(page, 0, 19)
    expected[19, 0] = True
    np.testing.assert_array_equal(bright(page), expected)
    use(page, "Eraser", 2)
    drag(page, (3, 4), (13, 4))
    with_gap = bright(page)
    assert (expected & ~with_gap).sum() == 16  # 2 high through an object 8 wide
    page.keyboard.press("Control+z")
    np.testing.assert_array_equal(bright(page), expected)
    page.keyboard.press("Control+Shift+z")
    np.testing.assert_array_equal(bright(page), with_gap)
    for _ in range(3):
        page.keyboard.press("Control+z")
    np.testing.assert_array_equal(bright(page), GREY > 0)
    assert page.locator("#items li").first.get_attribute("class") == "done"  # as predicted again


def test_an_eraser_clears_its_class_alone(page):
    use(page, "Eraser", 5, number=2)
    click(page, 7, 12)
    first, second = masks(page).values()
    np.testing.assert_array_equal(first, GREY > 0)
    assert (~second & (GREY == 0)).sum() == 21  # a disc of diameter 5


def test_polygons_take_the_pixels_whose_centres_they_enclose(page):
    use(page, "Polygon")
    for corner in ((15, 10), (25, 10), (15, 16)):
        click(page, *corner)
    page.keyboard.press("Enter")
    columns, rows = np.meshgrid(np.arange(WIDTH) - 15, np.arange(HEIGHT) - 10)
    inside = (columns > 0) & (rows > 0) & (columns / 10 + rows / 6 < 1)
    edge = (columns >= 0) & (rows >= 0) & (columns / 10 + rows / 6 <= 1)
    added = bright(page) & (GREY == 0)
    assert (added >= inside).all()
    assert (added <= edge).all()
    click(page, 2, 1)  # a polygon that is dropped leaves nothing
    click(page, 9, 1)
    page.keyboard.press("Backspace")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    np.testing.assert_array_equal(bright(page) & (GREY == 0), added)


def numbers(page):
    """Numbers of the bright objects (H, W), as the page downloads them."""
    with zipfile.ZipFile(io.BytesIO(downloaded(page, "objects"))) as file:
        read = cv2.imdecode(np.frombuffer(file.read("objects/bright/cells.png"), np.uint8), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16
    return read


def test_strokes_change_the_chosen_object_or_begin_one(object_page):
    page, expected = object_page, np.zeros((HEIGHT, WIDTH), dtype=int)
    expected[2:8, 4:8], expected[2:8, 8:12] = 1, 2
    np.testing.assert_array_equal(numbers(page), expected)
    use(page, "Brush", 1)
    drag(page, (20, 12), (23, 12))  # none is chosen: a new object
    expected[12, 20:24] = 3
    np.testing.assert_array_equal(numbers(page), expected)
    assert page.inner_text("#object") == "3"
    click(page, 25, 12)  # more of it, in another piece
    expected[12, 25] = 3
    page.keyboard.press("n")
    assert page.inner_text("#object") == "new"
    click(page, 24, 12)
    expected[12, 24] = 4
    page.get_by_role("button", name="Choose").click()
    click(page, 5, 3)
    assert page.inner_text("#object") == "1"
    use(page, "Brush", 1)
    drag(page, (8, 2), (8, 7))  # takes a column of its neighbour
    expected[2:8, 8] = 1
    np.testing.assert_array_equal(numbers(page), expected)
    outline = "(at) => [...document.getElementById('line').getContext('2d').getImageData(...at, 1, 1).data]"
    assert page.evaluate(outline, [8, 4]) == [255, 255, 255, 255]  # the chosen one
    assert page.evaluate(outline, [9, 4]) == [0xE6, 0x9F, 0x00, 255]
    use(page, "Eraser", 3)
    click(page, 8, 5)  # 3 x 3, of the chosen object alone
    expected[4:7, 7:9] = 0
    np.testing.assert_array_equal(numbers(page), expected)
    for _ in range(5):
        page.keyboard.press("Control+z")
    assert page.locator("#undo").is_disabled()
    assert sorted(np.unique(numbers(page))) == [0, 1, 2]
    for _ in range(5):
        page.keyboard.press("Control+Shift+z")
    np.testing.assert_array_equal(numbers(page), expected)


def test_fill_joins_and_erases_objects(object_page):
    page, expected = object_page, np.zeros((HEIGHT, WIDTH), dtype=int)
    expected[2:8, 4:8], expected[2:8, 8:12] = 1, 2
    page.keyboard.press("o")
    click(page, 5, 3)
    use(page, "Fill")
    click(page, 10, 3)
    np.testing.assert_array_equal(numbers(page), np.minimum(expected, 1))
    page.keyboard.press("Control+z")
    page.keyboard.down("Shift")
    click(page, 10, 3)
    page.keyboard.up("Shift")
    np.testing.assert_array_equal(numbers(page), np.where(expected == 2, 0, expected))
    page.keyboard.press("o")
    click(page, 20, 15)  # an object of the other class
    assert (page.input_value("#class"), page.inner_text("#object")) == ("1", "1")
    page.get_by_label("dark", exact=True).uncheck()
    click(page, 20, 15)  # which is hidden now
    assert page.inner_text("#object") == "new"


def test_saved_objects_are_an_input_of_new_data(object_page, objects_folder, tmp_path, monkeypatch, capsys):
    """On the server as labelme, and as COCO with an annotation per object: touching objects stay apart."""
    (tmp_path / "conf" / "base").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    page = object_page
    use(page, "Brush", 1)
    drag(page, (20, 12), (23, 12))
    click(page, 26, 15)  # of the same object
    expected = numbers(page)
    with page.expect_response("**/api/save*"):
        page.keyboard.press("Control+s")
    page.locator("#items li", has_text="saved").wait_for()
    (tmp_path / "raw" / "coco.json").write_bytes(downloaded(page, "coco"))
    coco = json.loads((tmp_path / "raw" / "coco.json").read_text())["annotations"]
    bright = [one for one in coco if one["category_id"] == 1]
    assert [(one["area"], one["bbox"], one["iscrowd"]) for one in bright] == [
        (24, [4, 2, 4, 6], 0), (24, [8, 2, 4, 6], 0), (5, [20, 12, 7, 4], 0)
    ]  # fmt: skip
    for root in (objects_folder, tmp_path / "raw"):
        assert new_data([str(root), root.name, "--yes", "--no-check"]) == 0
        settings = (tmp_path / "conf" / root.name / "parameters.yml").read_text()
        assert "objects: true" in settings, capsys.readouterr().out
        manifest, findings, _ = processed(tmp_path / "conf" / root.name, root)
        assert len(manifest) == 1, findings
        found = decode_labels(manifest["object_map_bright"].iloc[0], (HEIGHT, WIDTH))
        pairs = np.unique(np.stack([found, expected]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == 4, pairs  # one to one, the background included


def test_fill_closes_outlines_and_erases_objects(page):
    use(page, "Brush", 1)
    drag(page, (16, 10), (22, 10), (22, 15), (16, 15), (16, 10))
    use(page, "Fill")
    click(page, 19, 12)
    expected = GREY > 0
    expected[10:16, 16:23] = True
    np.testing.assert_array_equal(bright(page), expected)
    page.keyboard.down("Shift")
    click(page, 5, 5)
    page.keyboard.up("Shift")
    expected[GREY > 0] = False
    np.testing.assert_array_equal(bright(page), expected)


def test_a_keyboard_is_enough(page):
    page.focus("#scroller")
    page.keyboard.press("b")
    for _ in range(7):
        page.keyboard.press("[")  # from 8 to 1
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    added = np.argwhere(bright(page) & (GREY == 0)).tolist()
    assert added == [[10, 11]]
    shown = "[...document.getElementById('line').getContext('2d').getImageData(11, 10, 1, 1).data]"
    assert page.evaluate(shown) == [0xE6, 0x9F, 0x00, 255]


@pytest.mark.parametrize("page", ["multiclass"], indirect=True)
def test_a_pixel_of_a_multiclass_model_has_one_class(page):
    use(page, "Brush", 3, number=2)
    drag(page, (6, 4), (9, 4))
    with Image.open(io.BytesIO(downloaded(page, "masks"))) as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[3:9] == [0xE6, 0x9F, 0x00, 0x56, 0xB4, 0xE9]
        indices = np.array(mask)
    expected = np.where(GREY > 0, 1, 2)
    expected[3:6, 5:11] = 2
    np.testing.assert_array_equal(indices, expected)
    use(page, "Fill", number=1)
    click(page, 0, 0)  # another class's region changes its class
    with Image.open(io.BytesIO(downloaded(page, "masks"))) as mask:
        assert (np.array(mask) == 1).sum() == HEIGHT * WIDTH - 18


def test_the_forms_for_label_tools_keep_every_pixel(page):
    use(page, "Eraser", 1)
    click(page, 6, 4)  # a hole
    click(page, 11, 7)  # a corner
    use(page, "Brush", 1)
    drag(page, (20, 12), (22, 12))
    expected = bright(page)
    coco = json.loads(downloaded(page, "coco"))
    assert [one["name"] for one in coco["categories"]] == ["bright", "dark"]
    assert coco["images"] == [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}]
    first = coco["annotations"][0]
    np.testing.assert_array_equal(decode_segmentation(first["segmentation"], (HEIGHT, WIDTH)), expected)
    assert (first["area"], first["bbox"]) == (expected.sum(), [4, 2, 19, 11])
    labelme = json.loads(downloaded(page, "labelme"))
    shapes = [one for one in labelme["shapes"] if one["label"] == "bright"]
    assert (labelme["imagePath"], [one["shape_type"] for one in shapes]) == ("a.png", ["mask", "mask"])
    drawn = np.zeros_like(expected)
    for (left, top), (right, bottom), data in ((*one["points"], one["mask"]) for one in shapes):
        part = np.array(Image.open(io.BytesIO(base64.b64decode(data)))) > 0
        drawn[top : bottom + 1, left : right + 1] |= part
    np.testing.assert_array_equal(drawn, expected)
    assert shapes[1]["points"] == [[20, 12], [22, 12]]
    polygons = json.loads(downloaded(page, "json"))["classes"][0]["polygons"]
    assert [(one["area"], one["holes"]) for one in polygons] == [(46, [[[6, 5], [7, 5], [7, 4], [6, 4]]]), (3, [])]


def test_corrections_stay_with_their_image_in_the_queue(page):
    use(page, "Brush", 1)
    click(page, 20, 15)
    page.locator("#items").get_by_text("corrected", exact=True).wait_for()
    changed = bright(page)
    page.locator("#items").get_by_text("downloaded", exact=True).wait_for()
    page.keyboard.press(".")
    page.get_by_text("2 / 3").wait_for()
    np.testing.assert_array_equal(bright(page), np.roll(GREY, 1, axis=0) > 0)
    page.keyboard.press(",")
    page.get_by_text("1 / 3").wait_for()
    np.testing.assert_array_equal(bright(page), changed)
    assert list(masks(page, "edited")) == ["masks/bright/a.png", "masks/dark/a.png"]
    page.get_by_role("button", name="Revert").click()
    page.locator("#revert:disabled").wait_for()
    np.testing.assert_array_equal(bright(page), GREY > 0)


def test_what_is_saved_is_an_input_of_new_data(page, folder, images, fake, tmp_path, monkeypatch, capsys):
    """Ten images are corrected without leaving the page, and saved on the server and as COCO."""
    (tmp_path / "conf" / "base").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    expected = {}
    more = [images[0].with_stem(name) for name in "defghij"]
    for number, path in enumerate(more):
        path.write_bytes(fake.file(np.roll(GREY, 3 + number, axis=0)))
    page.set_input_files("#file", more)
    page.locator("#items li.done").nth(9).wait_for()
    page.locator("#items li").first.click()
    for number, path in enumerate([*images, *more]):
        page.get_by_text(f"{number + 1} / 10").wait_for()
        use(page, "Brush", 3)
        drag(page, (15 + number, 12), (25, 14))
        expected[path.stem] = list(masks(page).values())
        with page.expect_response("**/api/save*"):
            if number:
                page.keyboard.press("Control+s")
            else:
                page.get_by_role("button", name="Save and next").click()
    page.locator("#items li", has_text="saved").nth(9).wait_for()
    with page.expect_download() as download:
        page.select_option("#form", "coco")
        page.select_option("#scope", "all")
        page.click("#download")
    download.value.save_as(images[0].parent / "coco.json")
    for root in (folder, images[0].parent):
        assert new_data([str(root), root.name, "--yes", "--no-check"]) == 0
        manifest, findings, names = processed(tmp_path / "conf" / root.name, root)
        assert sorted(names) == ["bright", "dark"], capsys.readouterr().out
        assert sorted(manifest["image_id"]) == list("abcdefghij"), findings
        order = [names.index(name) for name in ("bright", "dark")]
        for row in manifest.to_dict("records"):
            np.testing.assert_array_equal(read_masks(row, names)[order] == 1, expected[row["image_id"]])

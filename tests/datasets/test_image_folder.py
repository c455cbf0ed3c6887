import base64
import io

from PIL import Image

from seg_pipeline.datasets.folder import GAP, TILE, ImageFolderDataset


def sheet(dataset: ImageFolderDataset, **given) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(dataset.preview(**given))))


def test_some_images_are_shown_in_the_order_of_their_names(tmp_path):
    for number in range(8):
        folder = tmp_path / "overlays" / f"case{number}"
        folder.mkdir(parents=True)
        Image.new("RGB", (2 * TILE, TILE), (number, 0, 0)).save(folder / "a.png")
    Image.new("L", (4, 4), 255).save(tmp_path / "mask.png")
    shown = sheet(ImageFolderDataset(filepath=str(tmp_path)), glob="overlays/**/*.png", columns=2, rows=2)
    assert shown.size == (2 * TILE + 3 * GAP, 2 * TILE + 3 * GAP)
    corners = [(column * (TILE + GAP) + GAP, row * (TILE + GAP) + GAP) for row in range(2) for column in range(2)]
    assert [shown.getpixel(corner)[0] for corner in corners] == [0, 2, 4, 6]  # from all over the folder
    assert shown.getpixel((GAP, GAP + TILE // 2 + 1)) == (255, 255, 255)  # a wide image fills half of its tile


def test_a_folder_without_images_shows_none(tmp_path):
    assert ImageFolderDataset(filepath=str(tmp_path)).preview() == ""

import pytest

from seg_pipeline.segmentation.images.addresses import Address, file_of, format_address, parse_address
from seg_pipeline.segmentation.settings.reading import ReadSettings

ALL = ReadSettings(orientation="keep", bands=(4, 3, 2), value_range=(-1000.5, 400.0), max_pixels=9)


def test_an_address_says_what_is_not_the_default():
    assert format_address("a/b.tif", ReadSettings()) == "a/b.tif"
    assert format_address("a.tif", ALL) == "a.tif?orientation=keep&bands=4,3,2&value_range=-1000.5,400.0&max_pixels=9"
    assert format_address("a.tif?page=7", ReadSettings(bands=(1,))) == "a.tif?page=7&bands=1"


@pytest.mark.parametrize("page", [None, 12])
@pytest.mark.parametrize("settings", [ReadSettings(), ALL, ReadSettings(bands=(2,))])
def test_an_address_is_read_back(page, settings):
    text = format_address("a/b.tif" if page is None else f"a/b.tif?page={page}", settings)
    assert parse_address(text) == Address("a/b.tif", settings, page)
    assert file_of(text) == "a/b.tif"


@pytest.mark.parametrize("name", ["a?b.png", "photo.jpg?size=large", "a.tif?page=3/b.png", "a.tif?", "a.tif?page="])
def test_a_question_mark_in_a_name_is_part_of_it(name):
    assert parse_address(name) == Address(name)


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"`bands` must be one or three numbers, counted from 1, found \[1, 2\]"):
        ReadSettings(bands=(1, 2))
    with pytest.raises(ValueError, match=r"`value_range` must be two rising values, found \[5, 5\]"):
        ReadSettings(value_range=(5, 5))

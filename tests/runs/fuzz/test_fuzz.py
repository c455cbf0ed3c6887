"""A bounded part of `make fuzz`, in this process."""

import logging
import random

import pytest
from tests.runs.fuzz import readers, seeds, workers
from tests.runs.fuzz.mutations import mutate, mutate_tree

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SHARE = 150


@pytest.fixture(scope="module", autouse=True)
def quiet():
    readers.prepare()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", seeds.NAMES)
def test_a_damaged_file_is_refused_or_read(tmp_path, name):
    form = seeds.forms()[name]
    readers.READERS[form.reader](form.sound, tmp_path)  # nothing is raised
    for number in range(max(3, round(SHARE * form.share))):
        try:
            readers.read(form.reader, workers.mutant(name, number, 7), tmp_path)
        except Exception as error:
            raise AssertionError(f"python -m tests.runs.fuzz --seed 7 --forms {name} --mutant {number}") from error


def test_all_forms_are_named():
    assert list(seeds.forms()) == seeds.NAMES


def test_a_mutant_follows_from_its_number():
    one, same, other = (workers.mutant("png_16", number, 1) for number in (4, 4, 5))
    assert one == same != other
    assert mutate_tree({"a": [1, 2]}, random.Random(3)) == mutate_tree({"a": [1, 2]}, random.Random(3))
    assert mutate(b"", random.Random(0), [b"abc"])

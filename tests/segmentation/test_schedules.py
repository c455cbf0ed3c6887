import pytest

from seg_pipeline.segmentation.schedules import constant_rate, cosine_rate, make_schedule


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.2),  # 0.8 × 1/4
        (2, 0.6),
        (3, 0.8),  # the last step of the warm-up is at the peak
        (4, 0.8),
        (6, 0.682842712),  # a quarter of the way down: 0.4 × (1 + √½)
        (8, 0.4),
        (12, 0.0),
        (15, 0.0),  # stays down, where a plain cosine would rise again
    ],
)
def test_cosine_rate_by_hand(step, expected):
    assert cosine_rate(step, peak=0.8, warmup=4, total=12) == pytest.approx(expected)


def test_cosine_rate_without_warmup_starts_at_the_peak():
    assert [cosine_rate(step, peak=0.5, warmup=0, total=2) for step in range(3)] == pytest.approx([0.5, 0.25, 0])


def test_cosine_rate_of_nothing_but_warmup_ends_at_the_peak():
    assert [cosine_rate(step, peak=0.5, warmup=2, total=2) for step in range(3)] == [0.25, 0.5, 0.5]


def test_constant_rate_by_hand():
    assert [constant_rate(step, peak=0.8, warmup=4) for step in (0, 2, 3, 4, 100)] == pytest.approx(
        [0.2, 0.6, 0.8, 0.8, 0.8]
    )
    assert constant_rate(0, peak=0.8) == 0.8


def test_make_schedule_gives_the_named_function():
    assert make_schedule("cosine", peak=0.8, warmup=4, total=12)(8) == pytest.approx(0.4)
    assert make_schedule("constant", peak=0.8, warmup=4, total=12)(8) == 0.8
    assert make_schedule("constant", peak=0.8, warmup=4, total=4)(1) == 0.4  # warm-up all along


def test_make_schedule_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"^schedule: 'cosin' is unknown; expected cosine or constant$"):
        make_schedule("cosin", peak=1, warmup=0, total=1)
    with pytest.raises(ValueError, match=r"^warm-up of 5 steps, but the run has 3; shorten it or train longer$"):
        make_schedule("constant", peak=1, warmup=5, total=3)

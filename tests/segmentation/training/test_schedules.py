import pytest

from seg_pipeline.segmentation.training.schedules import make_schedule

NAMES = ["constant", "cosine", "one_cycle", "poly"]


@pytest.mark.parametrize(
    ("name", "progress", "expected"),
    [
        ("constant", 0.0, 0.032),  # 0.8 / 25
        ("constant", 0.125, 0.416),  # half-way up
        ("constant", 0.25, 0.8),
        ("constant", 1.0, 0.8),
        ("cosine", 0.125, 0.416),
        ("cosine", 0.25, 0.8),
        ("cosine", 0.4375, 0.682842712),  # a quarter of the way down: 0.4 × (1 + √½)
        ("cosine", 0.625, 0.4),
        ("cosine", 1.0, 0.0),
        ("one_cycle", 0.0, 0.032),
        ("one_cycle", 0.0625, 0.144470996),  # a quarter of the way up: 0.8 × (0.04 + 0.96 × (1 - √½) / 2)
        ("one_cycle", 0.125, 0.416),
        ("one_cycle", 0.25, 0.8),
        ("one_cycle", 0.625, 0.40004),  # 0.8 × (1 + 1e-4) / 2
        ("one_cycle", 1.0, 8e-5),
        ("poly", 0.125, 0.416),
        ("poly", 0.25, 0.8),
        ("poly", 0.625, 0.428709385),  # 0.8 × ½^0.9
        ("poly", 1.0, 0.0),
    ],
)
def test_rates_by_hand(name, progress, expected):
    assert make_schedule(name, peak=0.8, warmup=0.25)(progress) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warmup", [0.0, 1e-9, 0.3, 1.0])
def test_every_schedule_starts_above_0_and_stays_between_0_and_the_peak(name, warmup):
    schedule = make_schedule(name, peak=0.5, warmup=warmup)
    rates = [schedule(step / 100) for step in range(101)]
    assert rates[0] > 0
    assert min(rates) >= 0
    assert max(rates) <= schedule(warmup) == 0.5


@pytest.mark.parametrize("name", NAMES)
def test_without_a_warmup_the_peak_comes_first_and_with_nothing_else_last(name):
    assert make_schedule(name, peak=0.5, warmup=0)(0) == 0.5
    assert make_schedule(name, peak=0.5, warmup=1)(1) == 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_run_beyond_its_time_keeps_the_last_rate(name):
    schedule = make_schedule(name, peak=0.5, warmup=0.1)
    assert schedule(1.3) == schedule(1)


def test_make_schedule_refuses_invalid_settings():
    text = r"^schedule: 'cosin' is unknown; expected one of constant, cosine, one_cycle, poly$"
    with pytest.raises(ValueError, match=text):
        make_schedule("cosin", peak=1, warmup=0)
    with pytest.raises(ValueError, match=r"^warmup: 5 is outside 0\.\.1; it is a share of the run$"):
        make_schedule("constant", peak=1, warmup=5)

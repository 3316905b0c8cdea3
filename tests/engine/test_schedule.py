"""schedule.py: each scheduler's curve, noise, the plateau's steps, and when a run ends."""

from __future__ import annotations

import math

import pytest

from configs import SCHEDULERS, make_config
from engine.schedule import Schedule
from training.early_stop import EarlyStopping


def make_schedule(**values) -> Schedule:
    return Schedule(make_config({"max_iter": 1000, **values}))


# --- learning rates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iteration", "expected"), [(0, 1), (499, 1), (500, 1), (750, 0.01 + 0.99 * 0.5), (1000, 0.01), (5000, 0.01)]
)
def test_poly_is_a_straight_line_from_its_start(iteration, expected):
    assert make_schedule(lr_scheduler="poly").factor(iteration) == pytest.approx(expected)


@pytest.mark.parametrize(("iteration", "expected"), [(0, 1), (250, 1), (500, 0.2 + 0.8 * (2 / 3) ** 2.5), (1000, 0.2)])
def test_poly_takes_its_power_start_and_floor(iteration, expected):
    schedule = make_schedule(lr_scheduler="poly", lr_decay_power=2.5, lr_decay_start=0.25, lr_floor=0.2)
    assert schedule.factor(iteration) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [(0, 1), (200, 1), (400, 0.05 + 0.95 * (2 + math.sqrt(2)) / 4), (600, 0.525), (1000, 0.05), (1001, 0.05)],
)
def test_cosine_is_half_a_wave_from_its_start(iteration, expected):
    schedule = make_schedule(lr_scheduler="cosine", lr_decay_start=0.2, lr_floor=0.05)
    assert schedule.factor(iteration) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [(0, 1), (99, 1), (100, 0.5), (199, 0.5), (350, 0.125), (699, 0.5**6), (700, 0.01), (1000, 0.01)],
)
def test_steplr_falls_every_tenth_of_the_run(iteration, expected):
    schedule = make_schedule(lr_scheduler="steplr", lr_decay_factor=0.5)
    assert schedule.factor(iteration) == pytest.approx(expected)


def test_steplr_takes_its_own_step_size():
    schedule = make_schedule(lr_scheduler="steplr", lr_step_size=7, lr_decay_factor=0.9, lr_floor=0.0)
    assert [schedule.factor(i) for i in (6, 7, 13, 14)] == pytest.approx([1, 0.9, 0.9, 0.81])


def test_steplr_of_a_very_short_run():
    schedule = make_schedule(lr_scheduler="steplr", max_iter=3, lr_decay_factor=0.5)
    assert [schedule.factor(i) for i in range(3)] == [1, 0.5, 0.25]


def test_plateau_stays_until_it_is_lowered():
    schedule = make_schedule(lr_scheduler="plateau", lr_decay_factor=0.3, lr_floor=0.02)
    assert [schedule.factor(i) for i in (0, 300, 500)] == [1, 1, 1]
    assert schedule.factor(750) == pytest.approx(0.51)  # half of the way to the floor: the end of a run is not flat
    assert schedule.factor(1000) == pytest.approx(0.02)
    factors = []
    for _ in range(6):
        schedule.lower()
        factors.append(schedule.factor(0))
    assert factors == pytest.approx([0.3, 0.09, 0.027, 0.02, 0.02, 0.02])


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(("start", "floor"), [(0.0, 0.0), (0.7, 0.01), (1.0, 0.01), (0.5, 1.0)])
def test_every_factor_falls_from_1_and_keeps_to_the_floor(scheduler, start, floor):
    schedule = make_schedule(lr_scheduler=scheduler, lr_decay_start=start, lr_floor=floor, max_iter=37)
    factors = [schedule.factor(i) for i in range(40)]
    assert factors[0] == 1
    assert all(a >= b for a, b in zip(factors, factors[1:]))
    assert min(factors) >= floor and all(math.isfinite(factor) for factor in factors)


@pytest.mark.parametrize("scheduler", ["poly", "cosine", "steplr"])
def test_factors_end_at_the_floor(scheduler):
    schedule = make_schedule(lr_scheduler=scheduler, lr_floor=0.125)
    assert schedule.factor(1000) == pytest.approx(0.125)
    assert schedule.decayed(1000) and not schedule.decayed(0)


@pytest.mark.parametrize("max_iter", [1, 2])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_shortest_runs(scheduler, max_iter):
    assert make_schedule(lr_scheduler=scheduler, max_iter=max_iter).factor(0) == 1


# --- noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("iteration", "expected"), [(0, 2), (400, 1), (600, 0.5), (799, 2 / 800), (800, 0), (1000, 0)])
def test_noise_falls_linearly(iteration, expected):
    schedule = make_schedule(noise_std=2.0, noise_anneal_fraction=0.8)
    assert schedule.noise_strength(iteration) == pytest.approx(expected, abs=1e-12)


def test_noise_can_be_off():
    assert make_schedule(noise_anneal_fraction=0.0).noise_strength(0) == 0
    assert make_schedule(noise_std=0.0).noise_strength(0) == 0
    assert make_schedule(quantize=False).noise_strength(0) == 0
    assert make_schedule(noise_anneal_fraction=1.0).noise_strength(1000) == 0
    assert make_schedule(noise_anneal_fraction=1.0).noise_strength(999) > 0


# --- the end of a run ------------------------------------------------------------------------------------------------

SEGMENT = 100


def make_stopping(**values) -> EarlyStopping:
    defaults = {
        "early_stop_interval": SEGMENT, "early_stop_psnr_threshold": 0.5, "noise_anneal_fraction": 0.0,
        "lr_scheduler": "plateau", "lr_decay_factor": 0.25, "lr_floor": 0.0625, "max_iter": 10_000,
    }  # fmt: skip
    config = make_config({**defaults, **values})
    return EarlyStopping(config, Schedule(config))


def verdicts(stopping: EarlyStopping, means, first=1) -> list[str]:
    """One whole segment per mean."""
    return [stopping.observe((first + i) * SEGMENT, mean, SEGMENT) for i, mean in enumerate(means)]


def test_the_first_segment_never_stops():
    for scheduler in SCHEDULERS:
        stopping = make_stopping(lr_scheduler=scheduler, lr_floor=1.0)  # decayed from the start
        assert verdicts(stopping, [0.0]) == ["go on"]
        assert verdicts(stopping, [0.0], 2) == ["stop"]


def test_plateau_lowers_before_it_stops():
    stopping = make_stopping()
    assert verdicts(stopping, [20, 20, 20, 20]) == ["go on", "lowered", "lowered", "stop"]
    assert stopping.schedule.plateau_factor == 0.0625


@pytest.mark.parametrize(
    ("factor", "floor", "steps"), [(0.1, 0.01, 2), (0.1, 0.001, 3), (0.3, 0.09, 2), (0.5, 0.01, 7)]
)
def test_plateau_takes_no_step_that_changes_nothing(factor, floor, steps):
    """0.1 * 0.1 is a little more than 0.01 in floats, which must not cost another segment."""
    stopping = make_stopping(lr_decay_factor=factor, lr_floor=floor)
    assert verdicts(stopping, [20] * (steps + 2)) == ["go on"] + ["lowered"] * steps + ["stop"]


def test_a_gain_keeps_the_rates():
    stopping = make_stopping()
    assert verdicts(stopping, [20, 21, 22, 30, 30]) == ["go on"] * 4 + ["lowered"]
    assert stopping.schedule.plateau_factor == 0.25
    assert verdicts(stopping, [31, 31, 32, 33], 6) == ["go on", "lowered", "go on", "go on"]
    assert verdicts(stopping, [33], 10) == ["stop"]


def test_the_threshold_is_a_gain_that_counts():
    assert verdicts(make_stopping(), [20, 20.5, 21.0]) == ["go on"] * 3
    assert verdicts(make_stopping(), [20, 20.49]) == ["go on", "lowered"]
    assert verdicts(make_stopping(), [20, 15]) == ["go on", "lowered"]
    assert verdicts(make_stopping(early_stop_psnr_threshold=0.0), [20, 20, 20]) == ["go on"] * 3
    assert verdicts(make_stopping(early_stop_psnr_threshold=0.0), [20, 19.99]) == ["go on", "lowered"]


def test_the_comparison_is_with_the_segment_before():
    """Not with the best one: after a dip, the way back up is a gain."""
    assert verdicts(make_stopping(), [20, 10, 11, 12]) == ["go on", "lowered", "go on", "go on"]


@pytest.mark.parametrize("scheduler", ["poly", "cosine", "steplr"])
def test_other_schedulers_wait_until_their_rates_have_decayed(scheduler):
    stopping = make_stopping(lr_scheduler=scheduler, max_iter=1000, lr_decay_start=0.2, lr_floor=0.01)
    heard = verdicts(stopping, [20] * 10)
    assert "lowered" not in heard and heard[-1] == "stop"
    stops = heard.index("stop")
    assert stops > 0
    for segment, verdict in enumerate(heard, 1):
        decayed = stopping.schedule.factor(segment * SEGMENT) <= 0.05
        assert verdict == ("stop" if decayed and segment > 1 else "go on")


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [("plateau", ["go on", "lowered", "lowered", "quiet", "stop"]), ("steplr", ["go on", "quiet", "stop"])],
)
def test_the_noise_ends_before_the_run_does(scheduler, expected):
    """Once the rates have decayed, a flat segment ends the noise; only a flat one without noise ends the run."""
    stopping = make_stopping(lr_scheduler=scheduler, max_iter=1000, noise_anneal_fraction=1.0)
    schedule = stopping.schedule
    assert verdicts(stopping, [20] * (len(expected) - 2)) == expected[:-2]
    assert not schedule.noise_ended and schedule.noise_strength(500) == 0.5
    assert verdicts(stopping, [20, 20], len(expected) - 1) == expected[-2:]
    assert schedule.noise_ended and schedule.noise_strength(0) == schedule.noise_strength(500) == 0


def test_a_gain_after_the_noise_has_ended_goes_on():
    stopping = make_stopping(noise_anneal_fraction=1.0, lr_floor=1.0)
    assert verdicts(stopping, [20, 20, 22, 24, 24]) == ["go on", "quiet", "go on", "go on", "stop"]


def test_noise_that_has_annealed_by_itself_needs_no_ending():
    stopping = make_stopping(max_iter=1000, noise_anneal_fraction=0.25, lr_floor=1.0)
    assert verdicts(stopping, [20, 21, 22, 22]) == ["go on", "go on", "go on", "stop"]
    assert not stopping.schedule.noise_ended


def test_without_early_stop_the_plateau_still_lowers_and_nothing_stops():
    stopping = make_stopping(early_stop=False, noise_anneal_fraction=1.0)
    assert verdicts(stopping, [20] * 6) == ["go on", "lowered", "lowered", "go on", "go on", "go on"]
    assert not stopping.schedule.noise_ended


def test_a_segment_is_the_mean_of_its_parts_by_their_lengths():
    stopping = make_stopping()
    assert stopping.observe(30, 10.0, 30) == "go on"
    assert stopping.observe(100, 20.0, 70) == "go on"  # mean 17
    assert stopping.observe(190, 17.4, 90) == "go on"
    assert stopping.observe(200, 18.5, 10) == "go on"  # mean 17.51: 0.51 up
    assert stopping.observe(250, 18.0, 50) == "go on"
    assert stopping.observe(300, 18.0, 50) == "lowered"  # mean 18: 0.49 up


@pytest.mark.parametrize("at", [30, 100, 150, 200, 470, 800])
def test_a_resumed_run_hears_the_same_verdicts(at):
    """Interrupted in the middle of a segment and at its end; PSNR rises, dips and stays."""
    parts = [(end, 20 + math.sin(end / 70) * 0.6 + end / 1000) for end in range(10, 1001, 10)]
    whole = make_stopping(noise_anneal_fraction=1.0)
    expected = [whole.observe(end, psnr, 10) for end, psnr in parts]
    assert set(expected) == {"go on", "lowered", "quiet", "stop"}
    first = make_stopping(noise_anneal_fraction=1.0)
    heard = [first.observe(end, psnr, 10) for end, psnr in parts if end <= at]
    resumed = make_stopping(noise_anneal_fraction=1.0)
    resumed.load_state(first.state())
    resumed.schedule.load_state(first.schedule.state())
    heard += [resumed.observe(end, psnr, 10) for end, psnr in parts if end > at]
    assert heard == expected
    assert resumed.state() == whole.state() and resumed.schedule.state() == whole.schedule.state()


def test_the_state_is_plain_values():
    stopping = make_stopping()
    assert stopping.state() == {"previous_db": None, "sum_db": 0.0, "count": 0}
    stopping.observe(40, 12.5, 40)
    assert stopping.state() == {"previous_db": None, "sum_db": 500.0, "count": 40}
    stopping.observe(100, 12.5, 60)
    assert stopping.state() == {"previous_db": 12.5, "sum_db": 0.0, "count": 0}


def test_a_psnr_that_is_not_a_number_does_not_raise():
    heard = verdicts(make_stopping(), [20, math.nan, math.nan, math.nan, math.nan])
    assert heard[0] == "go on" and heard[-1] in ("go on", "stop")

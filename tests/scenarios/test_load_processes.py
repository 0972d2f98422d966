"""Statistics of drawn background loads."""

import numpy as np
import pytest

from jaxcec.scenarios.load_processes import BACKGROUNDS, draw_background
from jaxcec.scenarios.seeds import split_rng


def draw(kind, *, rng=None, num_traces=200, num_frames=2000, frame=10.0):
    rng = rng or np.random.default_rng(0)
    return draw_background(kind, rng, num_traces=num_traces, num_frames=num_frames, frame=frame)


def test_none_is_a_single_frame_without_load():
    assert draw("none").load.tolist() == [[0.0]]


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_loads_are_float32_and_within_their_range(kind):
    background = draw(kind)
    assert background.load.dtype == np.float32 and background.frame == np.float32(10.0)
    assert background.load.min() >= 0 and background.load.max() <= 0.9


def test_ar1_has_the_documented_statistics():
    load = draw("ar1").load
    assert load.mean() == pytest.approx(0.3, abs=0.005)
    assert load.std() == pytest.approx(0.15, abs=0.005)
    moves = load - load.mean()
    assert (moves[:, 12:] * moves[:, :-12]).mean() / moves.var() == pytest.approx(np.exp(-1), abs=0.02)  # 120 s


def test_alibaba_has_the_measured_statistics():
    load = draw("alibaba", num_traces=1000, num_frames=4000).load
    assert load.mean() == pytest.approx(0.353, abs=0.01)
    assert load.std() == pytest.approx(np.hypot(0.120, np.hypot(0.099, 0.064)), abs=0.01)
    step = load[:, 60:] - load[:, :-60]  # 600 s: all of the fast component, little of the slow one
    expected = 0.099**2 * (1 - np.exp(-600 / 12_300)) + 0.064**2 * (1 - np.exp(-600 / 135))
    assert step.std() == pytest.approx(np.sqrt(2 * expected), rel=0.05)


def test_equal_seeds_give_equal_banks_and_splits_share_no_trace():
    train, again, test = (
        draw("ar1", rng=split_rng(0, split, "background"), num_traces=20, num_frames=50).load
        for split in ("train", "train", "test")
    )
    assert np.array_equal(train, again)
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "constant"}, "background: got 'constant'; must be one of none, ar1, alibaba"),
        ({"kind": "ar1", "num_traces": 0, "num_frames": 1}, "num_traces, num_frames: got 0, 1; must be at least 1"),
        ({"kind": "ar1", "frame": 0.0}, "frame: got 0.0; must be positive"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(**arguments)

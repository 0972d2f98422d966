import numpy as np
import pytest

from jaxcec.scenarios.load_processes import KINDS, draw_background
from jaxcec.scenarios.seeds import split_rng


def draw(kind, seed=0, num_traces=200, num_frames=2000):
    return draw_background(kind, np.random.default_rng(seed), num_traces, num_frames)


def test_none_is_one_frame_of_zero():
    assert draw("none").load.tolist() == [[0.0]]


@pytest.mark.parametrize("kind", KINDS)
def test_loads_lie_in_range_and_are_float32(kind):
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


def test_one_seed_gives_one_bank_and_splits_share_no_trace():
    train, again, test = (
        draw_background("ar1", split_rng(0, split, "background"), 20, 50).load for split in ("train", "train", "test")
    )
    assert np.array_equal(train, again)
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("constant", 1, 1), "background: got 'constant'; must be one of none, ar1, alibaba"),
        (("ar1", 0, 1), "num_traces, num_frames: got 0, 1; must be at least 1"),
        (("ar1", 1, 1, 0.0), "frame: got 0.0; must be positive"),
    ],
)
def test_errors(arguments, message):
    kind, *rest = arguments
    with pytest.raises(ValueError, match=message):
        draw_background(kind, np.random.default_rng(0), *rest)

"""When two implementations agree. Measured are differences a quarter to a half of each limit."""

import numpy as np

# Largest difference over the largest absolute value, float32 on both sides.
LOGITS = 1e-5
FEATURES = 2e-6  # one part alone: encoder, adaptor

# Log-mel frames differ absolutely. A bin at the floor, 80 dB below the loudest, has 1e-4 of its amplitude and so feels
# float32's 6e-8 of that as 6e-4 of its own; (log10 of the power) / 4 makes 1.3e-4 of it.
LOG_MEL, LOG_MEL_MEAN = 1e-4, 1e-6


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest absolute difference over the largest absolute value of `theirs`."""
    assert ours.shape == theirs.shape
    assert np.isfinite(ours).all() and np.isfinite(theirs).all()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def assert_same_features(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Agreement of what the encoder or the adaptor returns."""
    assert difference(ours, theirs) <= FEATURES


def assert_same_logits(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Agreement of logits [..., V]: close, and the same most likely token everywhere."""
    assert difference(ours, theirs) <= LOGITS
    np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))


def assert_same_log_mel(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Agreement of log-mel frames: at the worst bin, and on average."""
    assert ours.shape == theirs.shape
    gap = np.abs(ours - theirs)
    assert gap.max() <= LOG_MEL and gap.mean() <= LOG_MEL_MEAN

"""Promise: an example hears its own clip, whatever other datasets are in the run."""

import numpy as np
import pytest

from step_audio_r1.data.features import FeatureStore
from step_audio_r1.errors import BadInput


def part(path, values):
    """A directory as `build_features` leaves it: clips of one chunk, filled with these values."""
    path.mkdir()
    np.save(path / "features.npy", np.stack([np.full((4, 3), v, np.float16) for v in values]))
    np.save(path / "tokens.npy", np.full(len(values), 2, np.int32))
    np.save(path / "starts.npy", np.arange(len(values) + 1))
    return path


def test_clips_of_several_datasets_are_told_apart_by_id(tmp_path):
    one, two = part(tmp_path / "one", [1, 2]), part(tmp_path / "two", [3, 2])
    store = FeatureStore([(one, ["a.wav", "b.wav"]), (two, ["c.wav", "b.wav"])])
    assert [store.features(name)[0, 0, 0] for name in ("a.wav", "b.wav", "c.wav")] == [1, 2, 3]


def test_two_sounds_of_one_id_are_refused(tmp_path):
    one, two = part(tmp_path / "one", [1, 2]), part(tmp_path / "two", [3])
    with pytest.raises(BadInput, match=r"'a\.wav': two datasets \(one and two\) have different sounds"):
        FeatureStore([(one, ["a.wav", "b.wav"]), (two, ["a.wav"])])

"""Three clips of the audio world as labels, and stand-ins for features and samples, shared by several rooms."""

import numpy as np

from step_audio_r1.rollout.types import Rollout

SPEECH = {
    "domain": "speech",
    "words": ["i", "love", "my", "dog"],
    "word_emotion": "happy",
    "pitch": "high",
    "rate": "slow",
    "loudness": "loud",
    "emotion": "afraid",
}
SOUNDS = {
    "domain": "environment",
    "events": [
        {"kind": "siren", "loudness": "soft"},
        {"kind": "click", "loudness": "loud"},
        {"kind": "hum", "loudness": "loud"},
    ],
}
MUSIC = {"domain": "music", "timbre": "flute", "notes": ["mid", "high", "low", "mid"]}


class Store:
    """Two audio tokens a clip; the features of a clip hold its number, so that a test can tell them apart."""

    shape = (4, 3)

    def tokens(self, clip):
        return [2]

    def features(self, clip):
        return np.full((1, *self.shape), int(clip.rpartition("-")[2]) + 1, np.float16)


def rollout_of(rows, samples, reasons=None):
    """The rollout that these lists of token ids make; all end by a stop token unless `reasons` says otherwise."""
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for i, ids in enumerate(rows):
        tokens[i, : len(ids)] = ids
    lengths = np.array([len(ids) for ids in rows], np.int32)
    reasons = tuple(reasons or ["stop"] * len(rows))
    return Rollout(tokens, lengths, np.zeros(tokens.shape, np.float32), reasons, samples)

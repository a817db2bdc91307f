"""Stand-ins for a model, a store of features and an encoder, shared by the tests of evaluation."""

import random
import zlib

import numpy as np

from step_audio_r1.data.world.chains import grounded_chain, surrogate_chain
from step_audio_r1.data.world.examples import examples, vocabulary
from step_audio_r1.data.world.questions import Question
from step_audio_r1.text import word_level_tokenizer
from tests.world_fakes import Store, rollout_of

WORDS = vocabulary()
TOKENIZER = word_level_tokenizer(WORDS)
POOL = [*examples("questions", "test", 90), *examples("describe", "test", 30)]
BY_ID = {e.id: e for e in POOL}


def encode_clip(clip):
    """Features that hold the loudness of the clip, negative to differ from those of the store."""
    return np.full((1, *Store.shape), -float(np.abs(clip.waveform).mean()), np.float16)


def question_of(example):
    """The world's question behind an example."""
    text = example.messages[0].parts[1].text
    return Question(example.family, example.kind, example.perceptual, text, example.answer, example.choices)


def oracle(example, thinks):
    """True percepts, true answers."""
    if not thinks:
        return example.answer
    think, answer = grounded_chain(example.truth, question_of(example))
    return f"{think}\n</think>\n{answer}"


def surrogate(example, thinks):
    """Reads the caption when it thinks, and hears when it does not."""
    if not thinks:
        return example.answer
    think, answer = surrogate_chain(example.truth, question_of(example))
    return f"{think}\n</think>\n{answer}"


def garbage(example, thinks):
    """Random words, tags and line ends."""
    rng = random.Random(zlib.crc32(f"{example.id} {thinks}".encode()))
    pool = [*WORDS, "<think>", "</think>", "<response>", "so", "\n", "unheard-of"]
    return " ".join(rng.choices(pool, k=rng.randrange(30)))


class Model:
    """A `generate` that speaks `voice`, records its calls, and may die before one of them."""

    def __init__(self, voice, die_at=None):
        self.voice, self.die_at, self.calls = voice, die_at, []

    def __call__(self, prompts, samples, sampling, seed):
        self.calls.append((prompts, sampling, seed))
        if len(self.calls) == self.die_at:
            raise Killed
        assert samples == 1
        rows = [self._row(prompt, sampling) for prompt in prompts]
        return rollout_of([ids for ids, _ in rows], samples, [reason for _, reason in rows])

    def _row(self, prompt, sampling):
        thinks = TOKENIZER.decode(prompt.tokens).endswith(("<think>\n", "<thinking>\n"))
        ids = TOKENIZER.encode(self.voice(BY_ID[prompt.id], thinks))
        if len(ids) >= sampling.max_new_tokens:
            return ids[: sampling.max_new_tokens], "length"
        return [*ids, TOKENIZER.eot], "stop"


class Killed(Exception):
    """Stands for the end of the process."""

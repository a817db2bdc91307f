"""Promise: the thinking closes once, where its text closes, whatever ids spell it and wherever a budget cuts it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from public_tokenizer import public_tokenizer

from step_audio_r1.model import AudioLM, DecoderConfig, EncoderConfig, ModelConfig
from step_audio_r1.rollout import Closing, LocalEngine, Prompt, SamplingConfig
from step_audio_r1.text import FORMATS, word_level_tokenizer
from tests.train.small_model import ONE

TOKENIZERS = {
    "words": word_level_tokenizer(["low slow sad so the voice is B. happy"]),
    "bytes": public_tokenizer(),
}
CASES = [("words", "think"), ("bytes", "think"), ("bytes", "thinking_response")]
# What a model wants to write, in which no token comes twice: closings of many spellings.
WISHES = {
    "words": ["low slow\n{tag}sad so", "low{tag}sad", "{tag}\nlow"],
    "bytes": [
        "low\n{tag}.sad",
        "low.{tag}\n\nsad",
        "low {tag}\nsad",
        "low\n\n{tag}sad",
        "{tag}low",
        "low.</p\n{tag} so",
    ],
}


@functools.cache
def engine(name: str, format: str) -> LocalEngine:
    tokenizer, form = TOKENIZERS[name], FORMATS[format]
    vocab = tokenizer.vocab_size
    decoder = DecoderConfig(vocab=vocab, d_model=vocab, layers=1, heads=1, kv_heads=1, head_dim=2, ffn=1)
    model = AudioLM(ModelConfig("chain", EncoderConfig(16, 24, 1, 3, 40, 200), decoder, 20, compute_dtype="float32"))
    closing = Closing(tokenizer, form.closing_tag, form.close, vocab)
    return LocalEngine(model, ONE, (tokenizer.eot,), closing)


def chain(vocab: int, following: dict[int, int], otherwise: int):
    """Weights with which a token alone decides the next one: no layer adds anything to the token's own embedding."""
    table = np.zeros((vocab, vocab), np.float32)
    table[np.arange(vocab), [following.get(i, otherwise) for i in range(vocab)]] = 1
    shapes = {"q": (vocab, 2), "k": (vocab, 2), "v": (vocab, 2), "o": (2, vocab)}
    shapes |= {"gate": (vocab, 1), "up": (vocab, 1), "down": (1, vocab)}
    layers = {name: {"kernel": np.zeros((1, *shape), np.float32)} for name, shape in shapes.items()}
    for name in "qkv":
        layers[name]["bias"] = np.zeros((1, 2), np.float32)
    for name in ("input_norm", "post_attention_norm"):
        layers[name] = {"scale": np.ones((1, vocab), np.float32)}
    tree = {"embedding": np.eye(vocab, dtype=np.float32), "head": {"kernel": table}, "layers": layers}
    return jax.tree.map(jnp.asarray, {"decoder": tree | {"norm": {"scale": np.ones(vocab, np.float32)}}})


def written(name: str, format: str, wish: list[int], **sampling) -> list[int]:
    """What comes of a model that wants to write `wish` (no id twice) and stop."""
    tokenizer = TOKENIZERS[name]
    assert len(set(wish)) == len(wish)
    # Of what it does not know the model makes the stop token.
    weights = engine(name, format).decode_params(
        chain(tokenizer.vocab_size, dict(zip([tokenizer.bot, *wish], wish)), tokenizer.eot)
    )
    prompt = Prompt("p", np.array([tokenizer.bot], np.int32), np.array([-1], np.int32), np.zeros((0, 1, 1), np.float16))
    greedy = SamplingConfig(max_new_tokens=16, temperature=0, **sampling)
    return engine(name, format).generate(weights, [prompt], 1, greedy, 0).ids(0)


def missing(text: str, format: str) -> str:
    """What is missing of the closing after `text`: nothing once the tag stands there, unless it is just going on."""
    form = FORMATS[format]
    tag, close = form.closing_tag, form.close
    after_tag = close.index(tag) + len(tag)
    begun = max(k for k in range(len(close) + 1) if text.endswith(close[:k]))
    if tag in text:
        return close[begun:] if begun >= after_tag else ""
    return close[max([begun, *(close.index(tag) + k for k in range(1, len(tag)) if text.endswith(tag[:k]))]) :]


def wishes(name: str, format: str) -> list[list[int]]:
    return [TOKENIZERS[name].encode(text.replace("{tag}", FORMATS[format].closing_tag)) for text in WISHES[name]]


@pytest.mark.parametrize(("name", "format"), CASES)
def test_a_budget_writes_what_is_missing_of_the_closing_and_nothing_else(name, format):
    tokenizer = TOKENIZERS[name]
    seen = set()
    for budget in range(6):
        for wish in wishes(name, format):
            before = tokenizer.decode(wish[:budget])
            rest = missing(before, format)
            text = tokenizer.decode(written(name, format, wish, thinking_budget=budget))
            if rest:
                assert text.startswith(before + rest)
            else:
                assert text == tokenizer.decode([*wish, tokenizer.eot])
            seen.add(rest)
    # Budgets before, inside, at the end of and after a closing.
    close, tag = FORMATS[format].close, FORMATS[format].closing_tag
    assert seen >= {close, close[1:], close.partition(tag)[2], ""}
    assert name == "words" or close.partition("</")[2] in seen


@pytest.mark.parametrize(("name", "format"), CASES)
def test_nothing_of_a_closing_is_written_before_the_least_thinking(name, format):
    tokenizer, form = TOKENIZERS[name], FORMATS[format]
    for spelling in ("{tag}", "\n{tag}") if name == "words" else ("{tag}", "\n{tag}", ".{tag}\n\n", "\n\n{tag}"):
        wish = tokenizer.encode(spelling.replace("{tag}", form.closing_tag))
        assert written(name, format, wish) == [*wish, tokenizer.eot]
        for least in (1, 3):
            ids = written(name, format, wish, min_think_tokens=least, thinking_budget=least)
            assert tokenizer.eot not in ids[:least]
            thought = tokenizer.decode(ids[:least])
            assert missing(thought, format) == form.close
            assert tokenizer.decode(ids).startswith(thought + form.close)

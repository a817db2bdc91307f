"""A small byte-level BPE tokenizer of the public kind (Qwen2.5), trained here and always the same."""

import functools
import json

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from step_audio_r1.text import Tokenizer

# Special tokens stand above the ordinary ones and leave holes, as the public ids do (section 5.1).
_SPECIAL_TOKENS = {
    "<|endoftext|>": 0,
    "<|im_start|>": 1,
    "<|im_end|>": 2,
    "<|EOT|>": 22,
    "<|BOT|>": 25,
    "<audio_start>": 45,
    "<audio_end>": 46,
    "<audio_patch>": 47,
}
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Prose, markup and code that end their lines in the ways that make tokens such as ".</", ">\n\n" and ".\n".
_LINES = (
    "The voice is low and slow, so the speaker is sad.\n",
    "I hear a dog bark; then a door closes.\n\n",
    "<p>The pitch falls at the end.</p>\n",
    "<li>calm</li>\n\n<li>it isn't loud.</li>\n\n",
    "<b>think</b> (thinking) of the response: \n",
    "human system assistant\nThe answer is B. happy\n",
    "声音很低，语速很慢。</p>\n说话的人很难过。\n\n",
    "if x > 0: print('</a>')\n    return x\n",
    "Please choose the answer from the following options.\nA. sad\nB. happy\n",
)


@functools.cache
def public_tokenizer(vocab: int = 450) -> Tokenizer:
    """At most `vocab` ordinary tokens and, above them with holes in their ids, the special ones."""
    trained = _byte_level(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(_LINES, trainer)
    model = json.loads(trained.to_str())["model"]
    # A special token keeps the id that the model's own vocabulary gives to its name.
    first = len(model["vocab"])
    ids = model["vocab"] | {name: first + above for name, above in _SPECIAL_TOKENS.items()}
    inner = _byte_level(models.BPE(ids, [tuple(merge) for merge in model["merges"]]))
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _SPECIAL_TOKENS])
    return Tokenizer(inner)


def _byte_level(model: models.Model) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = normalizers.NFC()
    pieces = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([pieces, level])
    inner.decoder = decoders.ByteLevel()
    return inner

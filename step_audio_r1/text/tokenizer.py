"""Tokenizers: a wrapper of tokenizer.json files, the miniature's word-level vocabulary, streaming.

Special tokens are found by name (section 5.1), never by number: any tokenizer.json with these names will do.
"""

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from step_audio_r1.errors import BadInput
from step_audio_r1.files import write_text

ENDOFTEXT = "<|endoftext|>"
IM_END = "<|im_end|>"
EOT = "<|EOT|>"
BOT = "<|BOT|>"
AUDIO_START = "<audio_start>"
AUDIO_END = "<audio_end>"
AUDIO_PATCH = "<audio_patch>"
SPECIAL_TOKENS = (ENDOFTEXT, IM_END, EOT, BOT, AUDIO_START, AUDIO_END, AUDIO_PATCH)

_THINK_TAGS = ("<think>", "</think>")
_ALWAYS_WORDS = ("human", "assistant", "system", "<thinking>", "</thinking>", "<response>", "</response>")
_UNKNOWN = "<unk>"
_SPACE = "▁"


class Tokenizer:
    """Text to ids and back. Picklable; `encode` and `decode` are pure.

    Attributes:
      inner: the wrapped `tokenizers.Tokenizer`.
    """

    def __init__(self, inner: tokenizers.Tokenizer):
        self.inner = inner

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Reads a tokenizer.json, or the one inside a directory.

        Raises:
          BadInput: the file is missing or is not a tokenizer.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "tokenizer.json"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}; give a tokenizer.json or its directory") from error
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}: not UTF-8 text; give a tokenizer.json") from error
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # `tokenizers` raises plain Exception for every defect of a file
            detail = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadInput(f"{path}: not a tokenizer.json ({detail}); the file is damaged or another") from error
        # Training tools leave these in the file; text would be cut without a word.
        inner.no_truncation()
        inner.no_padding()
        return cls(inner)

    def save(self, path: Path | str) -> None:
        """Writes tokenizer.json to the file `path` atomically. Raises WorkFailed if the disk refuses."""
        write_text(path, self.inner.to_str(pretty=True))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; the name of a special token becomes that token. Nothing is added around it."""
        return self.inner.encode(text, add_special_tokens=False).ids

    def encode_content(self, text: str) -> list[int]:
        """Ids of text that a user wrote: the name of a special token stays text and cannot forge a turn."""
        ids = []
        for number, piece in enumerate(self._special_names.split(text)):
            # Every second piece is a name; cut in two, it is no name any more and still the same text.
            for part in (piece[:1], piece[1:]) if number % 2 else (piece,):
                ids.extend(self.encode(part) if part else [])
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`, special tokens included.

        Bytes that are not UTF-8 become U+FFFD; ids without a token (unused rows of the embedding) vanish.
        """
        return self.inner.decode([int(i) for i in ids], skip_special_tokens=False)

    def spellings(self) -> list[str]:
        """Text of each id below `vocab_size` by itself, as `decode` has it."""
        return self.inner.decode_batch([[number] for number in range(self.vocab_size)], skip_special_tokens=False)

    def implies_space(self, before: str, after: str) -> bool:
        """Whether `decode` puts a space between tokens of these texts; only word-level vocabularies do."""
        decoder = self.inner.decoder
        return decoder is None or decoder.decode([before, after]) != before + after

    def with_special_tokens(self) -> "Tokenizer":
        """This tokenizer with the special tokens it lacks put behind its last id, in the order of `SPECIAL_TOKENS`.

        A plain Qwen2.5 one gets <|EOT|> as id 151665, as the public models have it, and the rest after it.
        """
        inner = tokenizers.Tokenizer.from_str(self.inner.to_str())
        missing = [name for name in SPECIAL_TOKENS if inner.token_to_id(name) is None]
        inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
        return Tokenizer(inner)

    def id_of(self, name: str) -> int:
        """Id of the token called `name`. Raises BadInput if the vocabulary lacks it."""
        number = self.inner.token_to_id(name)
        if number is None:
            raise BadInput(f"tokenizer has no token {name}; use the tokenizer.json of a Step-Audio model")
        return number

    def unknown_words(self, text: str) -> list[str]:
        """Words of `text` outside the vocabulary, each once, in order; always [] for byte-level ones."""
        unknown = getattr(self.inner.model, "unk_token", None)
        if unknown is None:
            return []
        number = self.inner.token_to_id(unknown)
        found = self.inner.encode(text, add_special_tokens=False)
        words = (text[a:b] for i, (a, b) in zip(found.ids, found.offsets, strict=True) if i == number)
        return list(dict.fromkeys(words))

    @property
    def is_word_level(self) -> bool:
        """Whether words can be unknown to it, as to the miniature's."""
        return getattr(self.inner.model, "unk_token", None) is not None

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id: public vocabularies have holes, so there may be fewer tokens."""
        return max(self.inner.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def bot(self) -> int:
        return self.id_of(BOT)

    @property
    def eot(self) -> int:
        return self.id_of(EOT)

    @property
    def eos(self) -> int:
        return self.id_of(ENDOFTEXT)

    @property
    def pad(self) -> int:
        """Same id as `eos` (section 5.1): masks must come from lengths."""
        return self.id_of(ENDOFTEXT)

    @property
    def audio_start(self) -> int:
        return self.id_of(AUDIO_START)

    @property
    def audio_end(self) -> int:
        return self.id_of(AUDIO_END)

    @property
    def audio_patch(self) -> int:
        return self.id_of(AUDIO_PATCH)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a turn: <|EOT|>, <|im_end|> where there is one, <|endoftext|>."""
        im_end = self.inner.token_to_id(IM_END)
        return (self.eot, self.eos) if im_end is None else (self.eot, im_end, self.eos)

    @cached_property
    def _special_names(self) -> re.Pattern[str]:
        # Thinking tags may be special tokens in a public file, and a reply has to hold them all the same.
        added = self.inner.get_added_tokens_decoder().values()
        names = {token.content for token in added if token.special} - set(_THINK_TAGS)
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")


def word_level_tokenizer(words: Iterable[str]) -> Tokenizer:
    """The miniature's tokenizer: one id a word, one for a newline, special tokens by their public names.

    A word is what stands between spaces and newlines (punctuation belongs to its word); an entry of several
    words counts as each of them. The order of `words` does not matter. Text of known words decodes to itself
    exactly: a single space between two words is implied, any other space has a token of its own. Pieces that
    meet at a newline or at a special token encode apart as they do together.
    """
    kept = sorted({word for entry in words for word in entry.split()} - {*SPECIAL_TOKENS, *_THINK_TAGS})
    # Special tokens stay out of the model's vocabulary, or `encode_content` would find them as words.
    names = dict.fromkeys((_UNKNOWN, "\n", _SPACE, *_ALWAYS_WORDS, *kept))
    vocabulary = {name: number for number, name in enumerate(names)}
    inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    inner.add_tokens([AddedToken(name, special=False, normalized=False) for name in _THINK_TAGS])
    # A space that does not stand between two words would be lost; it gets a visible name before the split.
    inner.normalizer = normalizers.Replace(Regex(r"(?<!\S) | (?!\S)"), _SPACE)
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"\n|{_SPACE}"), "isolated"),
            pre_tokenizers.Split(" ", "removed"),
        ]
    )
    tight = "|".join(["\n", _SPACE, *(re.escape(name) for name in (*SPECIAL_TOKENS, *_THINK_TAGS))])
    inner.decoder = decoders.Sequence(
        [
            # One space before every token but the first; no word begins with the prefix.
            decoders.WordPiece(prefix=_SPACE * 2, cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(f" (?={tight})|(?<={tight}) "), ""),
            decoders.Replace(_SPACE, " "),
        ]
    )
    return Tokenizer(inner)


class StreamDecoder:
    """Turns ids into text as they come; the pieces joined equal `decode` of all ids.

    A character whose bytes are spread over several tokens is held back until it is whole.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        # ids[:shown] are printed. They stay as context: the space before a word depends on what precedes it.
        self._shown = 0

    def push(self, token: int) -> str:
        """Takes one id and returns the text that is new and whole, which may be ""."""
        self._ids.append(int(token))
        return self._advance(hold_incomplete=True)

    def flush(self) -> str:
        """Returns what was held back; an unfinished character comes out as U+FFFD."""
        return self._advance(hold_incomplete=False)

    def _advance(self, hold_incomplete: bool) -> str:
        before = self._tokenizer.decode(self._ids[: self._shown])
        text = self._tokenizer.decode(self._ids)
        if hold_incomplete and text.endswith("\ufffd"):
            return ""
        self._ids = self._ids[self._shown :] or self._ids
        self._shown = len(self._ids)
        return text[len(before) :]

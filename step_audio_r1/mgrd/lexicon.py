"""Words by which a chain gives away where it looked: at the sound, at a text in its place, or at itself.

The vocabulary stands in lexicon.json, in English (whole words, any case) and Chinese (substrings, since words
have no edges there). It serves sentences and the miniature's telegraphic chains; words that are acoustic in
the latter alone ("top", "same") count only there.
"""

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

# Chinese is written without spaces, so each of its characters counts as a word.
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+(?:['’][^\W\u3400-\u9fff]+)*")
# What somebody in the clip is quoted with says nothing about the writer of the chain.
_QUOTED = re.compile(r"\"[^\"\n]{0,300}\"|“[^”\n]{0,300}”|「[^」\n]{0,300}」|『[^』\n]{0,300}』")
# No capital, comma or full stop: the way the audio world's chains are written.
_TELEGRAPHIC = re.compile(r"[a-z;\s]*")
# Speaks of listening but names nothing that was heard.
HEARING = "hearing"


@dataclass(frozen=True)
class Wording:
    """What the words of a text tell.

    Attributes:
      groups: acoustic groups and how often a term of each occurs; no group without a term.
      surrogates: markers of a text in the sound's place, in order.
      share: words of acoustic terms among all words, 0 to 1.
    """

    groups: dict[str, int]
    surrogates: tuple[str, ...]
    share: float

    @property
    def names_features(self) -> bool:
        """Whether something heard is named, beyond the act of hearing."""
        return any(group != HEARING for group in self.groups)


def words(text: str) -> list[str]:
    """The words of a text in lower case; each Chinese character counts as one. Punctuation is gone."""
    return _WORD.findall(text.lower())


def read_wording(text: str) -> Wording:
    """Finds acoustic terms and surrogate markers."""
    terms = _patterns()["telegraphic" if _TELEGRAPHIC.fullmatch(text) else "acoustic"]
    found = {group: [m.group() for m in pattern.finditer(text)] for group, pattern in terms.items()}
    heard = sum(len(words(term)) for hits in found.values() for term in hits)
    return Wording(
        groups={group: len(hits) for group, hits in found.items() if hits},
        surrogates=tuple(m.group().lower() for m in _patterns()["surrogate"].finditer(text)),
        share=min(1.0, heard / max(1, len(words(text)))),
    )


def self_cognition(text: str) -> tuple[str, ...]:
    """Phrases in which the writer takes itself for a reader of text; quotations are not its own."""
    return tuple(m.group().lower() for m in _patterns()["self_cognition"].finditer(_QUOTED.sub(" ", text)))


@functools.cache
def _patterns() -> dict:
    table = json.loads(resources.files(__package__).joinpath("lexicon.json").read_text(encoding="utf-8"))
    acoustic, short = table["acoustic"], table["telegraphic"]
    return {
        "acoustic": {group: _pattern(terms["en"], terms["zh"]) for group, terms in acoustic.items()},
        "telegraphic": {
            group: _pattern(terms["en"] + short.get(group, []), terms["zh"]) for group, terms in acoustic.items()
        },
        "surrogate": _pattern(table["surrogate"]["en"], table["surrogate"]["zh"]),
        "self_cognition": _pattern(table["self_cognition"]["en"], table["self_cognition"]["zh"]),
    }


def _pattern(english: Iterable[str], chinese: Iterable[str]) -> re.Pattern[str]:
    """One pattern for all terms, longer ones first so that they win over their beginnings."""
    whole = "|".join(_english(term) for term in sorted(english, key=len, reverse=True))
    inside = "|".join(re.escape(term) for term in sorted(chinese, key=len, reverse=True))
    # Chinese characters are word characters to `re`, yet an English word may stand right beside them.
    return re.compile(rf"(?<![a-z0-9])(?:{whole})(?![a-z0-9])|{inside}", re.IGNORECASE)


def _english(term: str) -> str:
    return re.escape(term).replace(r"\ ", r"\s+").replace("'", "['’]")

"""The filters of a round, each a pure function (chain, example, limits) -> verdict, in a table by name.

They run in the configured order and stop at the first that drops, so a chain's last verdict says why it is
out. Where there is nothing to check against, a filter keeps and says so ("not checkable", "no gold answer").
"""

import dataclasses
from collections.abc import Callable, Sequence

from step_audio_r1.data.records import Example
from step_audio_r1.data.world.questions import FAMILIES
from step_audio_r1.mgrd.chain import Chain, FilterVerdict, verify_output
from step_audio_r1.mgrd.claims import ACOUSTIC_KINDS
from step_audio_r1.mgrd.coherence import conclusion_of, contradiction, differs_from_count, implied_answer
from step_audio_r1.mgrd.lexicon import read_wording, self_cognition, words
from step_audio_r1.rewards import verify
from step_audio_r1.text import SPECIAL_TOKENS, parse


@dataclasses.dataclass(frozen=True)
class FilterLimits:
    """Thresholds, see `MGRDConfig`."""

    min_claim_precision: float = 1.0
    min_acoustic_share: float = 0.0
    max_words: int = 2048


Filter = Callable[[Chain, Example, FilterLimits], FilterVerdict]


def run_filters(chain: Chain, example: Example, names: Sequence[str], limits: FilterLimits) -> Chain:
    """The chain with the verdicts of the named filters up to the first drop, and `kept` if there is none."""
    verdicts = []
    for name in names:
        verdicts.append(FILTERS[name](chain, example, limits))
        if not verdicts[-1].keep:
            break
    return dataclasses.replace(chain, verdicts=tuple(verdicts), kept=all(v.keep for v in verdicts))


def form(chain: Chain, example: Example, limits: FilterLimits) -> FilterVerdict:
    """Keeps one finished, non-empty think block and a reply, neither looping nor too long."""
    count = len(words(chain.think))
    reason = _defect(chain, count, limits)
    return FilterVerdict("form", reason is None, reason or "ok", float(count))


def _defect(chain: Chain, count: int, limits: FilterLimits) -> str | None:
    parsed = parse(chain.output)
    if chain.finish_reason == "length" or parsed.status == "truncated":
        return "truncated"
    if not count:
        return "no reasoning"
    if parsed.status != "complete":
        return parsed.status.replace("_", " ")
    if parsed.annotation_json:
        return "annotation json"
    if any(name in chain.output for name in SPECIAL_TOKENS):
        return "special token"
    if count > limits.max_words:
        return "too long"
    return "looping" if loops(chain.think) else None


def loops(text: str) -> bool:
    """Whether a unit of words stands 8 times in a row (4 times from 8 words on), or 4-grams mostly recur.

    The bounds are above what a telegraphic chain repeats with reason: six equal notes give five equal parts.
    """
    said = text.split() if text.isascii() else words(text)
    for unit in range(1, min(64, len(said) // 4) + 1):
        run = 0
        for i in range(unit, len(said)):
            run = run + 1 if said[i] == said[i - unit] else 0
            if run >= unit * ((8 if unit < 8 else 4) - 1):
                return True
    grams = [tuple(said[i : i + 4]) for i in range(len(said) - 3)]
    return len(grams) >= 64 and 2 * len(set(grams)) < len(grams)


def not_text_model(chain: Chain, example: Example, limits: FilterLimits) -> FilterVerdict:
    """Drops chains whose writer takes itself for a reader of text."""
    found = self_cognition(f"{chain.think}\n{chain.response}")
    reason = "claims not to hear" if found else "ok"
    return FilterVerdict("self_cognition", not found, reason, detail="; ".join(found))


def lexical(chain: Chain, example: Example, limits: FilterLimits) -> FilterVerdict:
    """Keeps chains that name acoustic features and cite no text in the sound's place.

    For a question that a caption answers, speaking of hearing is enough. The score is the acoustic share.
    """
    wording = read_wording(chain.think)
    named = wording.names_features or (example.perceptual is False and bool(wording.groups))
    if wording.surrogates:
        reason = "surrogate marker"
    elif not named:
        reason = "no acoustic feature"
    elif wording.share < limits.min_acoustic_share:
        reason = "few acoustic words"
    else:
        reason = "ok"
    detail = "; ".join(wording.surrogates or wording.groups)
    return FilterVerdict("lexical", reason == "ok", reason, wording.share, detail=detail)


def claims(chain: Chain, example: Example, limits: FilterLimits) -> FilterVerdict:
    """Keeps chains with a claim about the sound whose checkable claims are true; scores their precision.

    For a question that a caption answers, a spoken word counts as heard too.
    """
    if not example.truth:
        return FilterVerdict("claims", True, "not checkable")
    heard = (*ACOUSTIC_KINDS, "word") if example.perceptual is False else ACOUSTIC_KINDS
    if not any(claim["kind"] in heard for claim in chain.claims):
        return FilterVerdict("claims", False, "no acoustic claim")
    wrong = [claim for claim in chain.claims if claim["status"] == "contradicted"]
    right = sum(claim["status"] == "supported" for claim in chain.claims)
    if not wrong and not right:
        return FilterVerdict("claims", True, "not checkable")
    precision = right / (right + len(wrong))
    if precision >= limits.min_claim_precision:
        return FilterVerdict("claims", True, "ok", precision)
    percepts = any(claim["kind"] != "reasoning" for claim in wrong)
    detail = "; ".join(claim["text"] for claim in wrong)
    return FilterVerdict("claims", False, "false percept" if percepts else "false derivation", precision, detail=detail)


def coherence(chain: Chain, example: Example, limits: FilterLimits) -> FilterVerdict:
    """Keeps chains whose conclusion is the response and whose steps agree with one another.

    The truth of the clip plays no part: a chain may be coherent about things it misheard.
    """
    kept, reason = conclusion_of(chain.think, chain.response, chain.choices)
    if kept and _in_world(example):
        if detail := contradiction(chain.think, example.domain):
            return FilterVerdict("coherence", False, "contradicts itself", detail=detail)
        if differs_from_count(chain.think, chain.claims):
            return FilterVerdict("coherence", False, "conclusion differs from count")
    return FilterVerdict("coherence", kept, reason)


def follows(chain: Chain, example: Example, limits: FilterLimits) -> FilterVerdict:
    """Keeps chains whose percepts alone imply the response, so that no lucky guess after true percepts stays.

    Only questions of the audio world can be worked out this way. The clip's truth plays no part here either.
    """
    if not _in_world(example):
        return FilterVerdict("follows", True, "not checkable")
    implied = implied_answer(chain.think, chain.question, example.family, example.domain)
    if implied is None:
        return FilterVerdict("follows", False, "too little heard")
    agrees = verify(chain.response or None, implied, example.choices).score == 1.0
    return FilterVerdict("follows", agrees, "ok" if agrees else "does not follow", detail=f"implies {implied}")


def _in_world(example: Example) -> bool:
    """Whether the chain is about a clip of the audio world, whose language can be read closely."""
    return bool(example.truth) and example.family in FAMILIES and example.domain == FAMILIES[example.family].domain


def correctness(chain: Chain, example: Example, limits: FilterLimits) -> FilterVerdict:
    """Keeps right answers, and all where no gold answer exists; a failed check is an error."""
    if example.answer is None:
        return FilterVerdict("correctness", True, "no gold answer")
    verdict = verify_output(chain.output, chain.finish_reason, example)
    if verdict.error:
        return FilterVerdict("correctness", False, "verifier error", error=True, detail=verdict.reason)
    right = verdict.score == 1.0
    reason = "ok" if right else "wrong answer"
    return FilterVerdict("correctness", right, reason, verdict.score, detail=verdict.reason)


# All but the strictest; each run decides on that one.
DEFAULT_FILTERS = ("form", "self_cognition", "lexical", "claims", "coherence", "correctness")
FILTERS: dict[str, Filter] = {
    "form": form,
    "self_cognition": not_text_model,
    "lexical": lexical,
    "claims": claims,
    "coherence": coherence,
    "follows": follows,
    "correctness": correctness,
}

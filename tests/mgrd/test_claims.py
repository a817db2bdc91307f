"""Promise: every percept a chain states is checked against the clip's labels, and no chain can crash it."""

import random
from itertools import pairwise

import pytest

from step_audio_r1.data.world import truth as world
from step_audio_r1.data.world.chains import surrogate_chain
from step_audio_r1.data.world.examples import examples, vocabulary
from step_audio_r1.data.world.questions import FAMILIES, Question
from step_audio_r1.mgrd.claims import check_claims, claim_precision
from tests.world_fakes import MUSIC, SOUNDS, SPEECH

TRUTHS = (SPEECH, SOUNDS, MUSIC)

# Truth, chain, the contradicted words; every other claim of the chain is supported.
CASES = [
    (SPEECH, "hear high slow voice so sad", []),
    (SPEECH, "hear low slow loud voice so sad", ["low"]),
    (SPEECH, "hear high fast so happy", ["fast"]),
    (SPEECH, "hear high slow voice is sad ; love is happy so no", ["sad"]),
    (SPEECH, "hear high slow voice is afraid ; hate is angry so no", ["hate", "angry"]),
    (SPEECH, "caption i love my dog ; love is happy so happy", []),
    (SPEECH, "caption i hate my dog so dog", ["hate"]),
    (SPEECH, "hear i love my dog dog so dog", ["dog"]),
    (SPEECH, "hear siren loud so siren", ["siren", "loud"]),
    (SOUNDS, "hear siren soft zero ; click loud one ; hum loud two so two", []),
    (SOUNDS, "hear siren soft zero ; click loud two ; hum soft two so two", ["two", "soft"]),
    (SOUNDS, "hear siren one ; hum two so hum", ["hum"]),
    (SOUNDS, "hear siren one ; click three so hum", ["three"]),
    (SOUNDS, "hear siren soft ; click loud ; hum loud ; first soft last loud so yes", []),
    (SOUNDS, "hear siren soft ; click loud ; hum loud ; first loud last loud so no", ["loud"]),
    (SOUNDS, "caption first siren loud ; last hum soft so no", ["loud", "soft"]),
    (SOUNDS, "caption last hum zero so no", ["zero"]),
    (SOUNDS, "caption siren loud one ; click soft one so one", ["loud", "one", "soft"]),
    (SOUNDS, "hear siren soft ; click loud ; hum loud ; beep loud one so one", ["beep", "loud", "one"]),
    (SOUNDS, "hear flute ; mid so flute", ["flute", "mid"]),
    (SOUNDS, "hear soft ; loud ; soft so one", ["soft"]),
    (MUSIC, "hear mid ; high up one ; low down one ; mid same one so one", []),
    (MUSIC, "hear mid ; high down zero ; low down one so one", ["down", "zero"]),
    (MUSIC, "hear mid one ; high two ; low two so two", []),
    (MUSIC, "hear mid one ; high one so one", ["one"]),
    (MUSIC, "hear mid ; high ; low ; mid ; top up two so two", ["top", "up", "two"]),
    (MUSIC, "caption flute tune flat four notes ; flat so zero", []),
    (MUSIC, "caption organ tune rising five notes ; rising so four", ["organ", "rising", "five", "rising"]),
]


@pytest.mark.parametrize(("truth", "chain", "wrong"), CASES)
def test_false_percepts_are_found_and_true_ones_pass(truth, chain, wrong):
    claims = check_claims(chain, truth)
    assert [c.value for c in claims if c.status == "contradicted"] == wrong
    assert all(c.status != "uncheckable" for c in claims)
    assert all(chain[c.start : c.end] == c.text for c in claims)
    assert claim_precision(claims) == pytest.approx(1 - len(wrong) / len(claims))


def test_kinds_of_claims():
    kinds = {
        "hear high slow loud voice is afraid": "voice_pitch voice_rate voice_loudness reasoning",
        "hear siren soft zero": "event_kind event_loudness reasoning",
        "hear siren one": "event_kind event_order",
        "hear mid ; high up one": "note_level note_level reasoning reasoning",
        "caption flute tune flat four notes": "timbre tune count",
        "caption i love": "word word",
        "hear zebra": "unknown",
    }
    for chain, expected in kinds.items():
        truth = SPEECH if "voice" in chain else SOUNDS
        assert [c.kind for c in check_claims(chain, truth)] == expected.split()


def test_nothing_to_check_has_no_precision():
    assert claim_precision([]) is None
    assert claim_precision(check_claims("so happy", SPEECH)) is None
    claims = check_claims("hear high slow voice ; zebra", {})
    assert {c.status for c in claims} == {"uncheckable"}
    assert claim_precision(claims) is None


def test_every_grounded_chain_is_fully_supported():
    for example in examples("audio_grounded", "train", 1500):
        claims = check_claims(example.think, example.truth)
        assert claims and {c.status for c in claims} == {"supported"}, example.think


def test_surrogate_chains_state_false_loudness_but_true_captions():
    precisions = {family: [] for family in FAMILIES}
    for example in examples("questions", "train", 900):
        text = example.messages[0].parts[1].text
        question = Question(example.family, example.kind, example.perceptual, text, example.answer, example.choices)
        think, _ = surrogate_chain(example.truth, question)
        precisions[example.family].append(claim_precision(check_claims(think, example.truth)))
    for family in ("nloud", "nearer", "cause"):
        assert sum(p < 1 for p in precisions[family]) > 0.5 * len(precisions[family]), family
    # These go wrong in what they conclude from a true caption, so their stated claims all hold.
    for family in ("about", "feel", "fitting", "nth", "timbre", "above", "peak"):
        assert set(precisions[family]) == {1.0}, family


def test_a_chain_of_another_clip_is_rarely_supported():
    chains = [e for e in examples("audio_grounded", "test", 300) if e.family in ("nloud", "above")]
    held = 0
    for example, other in pairwise(chains):
        held += claim_precision(check_claims(example.think, other.truth)) == 1
    assert held <= 0.02 * len(chains)


def test_any_words_can_be_read():
    rng = random.Random(0)
    pool = [*vocabulary(), "zebra", "é", "??", "so", ";", "first", "last", "\n", "\t", ""]
    truths = [*TRUTHS, {}, {"domain": "speech"}, *(world.sample_truth("test", i) for i in range(30))]
    for _ in range(4000):
        think = " ".join(rng.choices(pool, k=rng.randrange(40)))
        claims = check_claims(think, rng.choice(truths))
        assert all(think[c.start : c.end] == c.text for c in claims)
        assert [c.start for c in claims] == sorted({c.start for c in claims})
        precision = claim_precision(claims)
        assert precision is None or 0 <= precision <= 1

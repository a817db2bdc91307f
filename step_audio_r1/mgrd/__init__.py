"""MGRD: question selection, sampling, filters (form, grounding, coherence, correctness), chain records."""

from step_audio_r1.mgrd.chain import Chain, FilterVerdict, make_chain, read_chains
from step_audio_r1.mgrd.claims import ACOUSTIC_KINDS, Claim, check_claims, claim_precision
from step_audio_r1.mgrd.config import MGRDConfig
from step_audio_r1.mgrd.distil import run_round
from step_audio_r1.mgrd.filters import FILTERS, FilterLimits, run_filters
from step_audio_r1.mgrd.lexicon import Wording, read_wording, self_cognition
from step_audio_r1.mgrd.selection import family_of, select_questions

__all__ = [
    "ACOUSTIC_KINDS",
    "FILTERS",
    "Chain",
    "Claim",
    "FilterLimits",
    "FilterVerdict",
    "MGRDConfig",
    "Wording",
    "check_claims",
    "claim_precision",
    "family_of",
    "make_chain",
    "read_chains",
    "read_wording",
    "run_filters",
    "run_round",
    "select_questions",
    "self_cognition",
]

"""Rewards: answer verifiers, the format reward, their composition. Knows nothing of models."""

from step_audio_r1.rewards.compose import RewardConfig, RewardParts, score_response
from step_audio_r1.rewards.format_reward import reasoning_present
from step_audio_r1.rewards.verdict import Verdict
from step_audio_r1.rewards.verifiers import verify, verify_choice, verify_exact, verify_number

__all__ = [
    "RewardConfig",
    "RewardParts",
    "Verdict",
    "reasoning_present",
    "score_response",
    "verify",
    "verify_choice",
    "verify_exact",
    "verify_number",
]

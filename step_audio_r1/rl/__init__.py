"""PPO without KL: advantages, losses, one iteration. Knows prompts and rollouts, not where questions come from."""

from step_audio_r1.rl.advantages import gae, normalise, terminal_rewards
from step_audio_r1.rl.losses import policy_terms, value_terms
from step_audio_r1.rl.ppo import PPO, PPOConfig, PPOState, RolloutBatch, Scored, rollout_batch

__all__ = [
    "PPO",
    "PPOConfig",
    "PPOState",
    "RolloutBatch",
    "Scored",
    "gae",
    "normalise",
    "policy_terms",
    "rollout_batch",
    "terminal_rewards",
    "value_terms",
]

"""Examples to prompts: rendered for thinking or for a direct answer."""

import numpy as np

from step_audio_r1.data.batches import chunk_slots, render_example
from step_audio_r1.data.features import FeatureStore, slots_of
from step_audio_r1.data.records import Example
from step_audio_r1.rollout.types import Prompt, Rollout
from step_audio_r1.text import Tokenizer, format_named


def make_prompt(
    example: Example,
    tokenizer: Tokenizer,
    store: FeatureStore,
    *,
    arm: str = "thinking",
    format: str = "think",
    features: np.ndarray | None = None,
) -> Prompt:
    """The prompt of an example.

    Args:
      example: its target, if any, is left out.
      tokenizer: for rendering.
      store: audio token counts and features of its clips.
      arm: "thinking" ends in the opening tag, "direct" in the empty think block.
      format: output format.
      features: f16[N, S, E] in place of the clips' own (silence, noise, a swapped clip), same chunk lengths.
    """
    item = render_example(example, tokenizer, store, format=format, prefill="direct" if arm == "direct" else None)
    counts = [n for clip in example.clips for n in store.tokens(clip)]
    S, E = store.shape
    if features is None:
        own = [store.features(clip) for clip in example.clips]
        features = np.concatenate(own) if own else np.zeros((0, S, E), np.float16)
    return Prompt(example.id, item.tokens, chunk_slots(item, counts, slots_of(S)), features)


def completion_text(
    rollout: Rollout,
    row: int,
    tokenizer: Tokenizer,
    arm: str = "thinking",
    format: str = "think",
) -> str:
    """The assistant's whole turn as text: what the prompt opened, then the sample without its stop token."""
    ids = rollout.ids(row)
    if ids and ids[-1] in tokenizer.stop_ids:
        ids = ids[:-1]
    form = format_named(format)
    return (form.empty_think if arm == "direct" else form.open) + tokenizer.decode(ids)

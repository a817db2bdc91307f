"""Asking a run's newest parameters about any recording."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from step_audio_r1.audio import AudioClip
from step_audio_r1.data.features import ClipFeatures
from step_audio_r1.data.records import Example
from step_audio_r1.data.world.truth import CLIP_SECONDS
from step_audio_r1.pipeline.run import newest_params
from step_audio_r1.rollout import SamplingConfig, make_prompt
from step_audio_r1.text import (
    Audio,
    Message,
    StreamDecoder,
    Text,
    extract_choice,
    format_named,
    parse,
    with_choices,
)


class Asker:
    """A loaded model. Raises BadInput if the directory is no workdir or has no checkpoint yet."""

    def __init__(self, directory: Path):
        self.run, params = newest_params(directory)
        self._params = self.run.engine.decode_params(params)

    def notes(self, clips: Sequence[AudioClip], question: str, choices: Sequence[str]) -> Iterator[str]:
        """What the user should know before trusting the answer."""
        unknown = self.run.tokenizer.unknown_words(with_choices(question, choices))
        if unknown:
            yield f"words the model does not know: {', '.join(unknown)}"
        if not self.run.config.datasets and any(clip.seconds > 2 * CLIP_SECONDS for clip in clips):
            yield f"this model was trained on clips of {CLIP_SECONDS} s; do not trust it with much longer recordings"

    def stream(
        self,
        clips: Sequence[AudioClip],
        question: str,
        choices: Sequence[str] = (),
        *,
        thinking_budget: int | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """The assistant's turn piece by piece, opening tag first. It always thinks unless the budget is 0."""
        run = self.run
        model = run.config.model
        names = [f"{i}:{clip.id}" for i, clip in enumerate(clips)]
        store = ClipFeatures.encode(
            names, clips, run.encode, model.encoder.mel_bins, model.encoder.d_model, model.token_count
        )
        parts = (*(Audio(name) for name in names), Text(with_choices(question, choices)))
        example = Example("ask", (Message("human", parts),), None, None, None, tuple(choices), "factual", "audio", "")
        arm = "direct" if thinking_budget == 0 else "thinking"
        sampling = SamplingConfig(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            min_think_tokens=0 if thinking_budget == 0 else 1,
            thinking_budget=thinking_budget or None,
        )
        form = format_named(run.config.format)
        yield form.empty_think if arm == "direct" else form.open
        prompt = make_prompt(example, run.tokenizer, store, arm=arm, format=run.config.format)
        decoder = StreamDecoder(run.tokenizer)
        for token in run.engine.stream(self._params, prompt, sampling, seed):
            yield decoder.push(token)
        yield decoder.flush()

    def result(self, text: str, choices: Sequence[str]) -> dict[str, Any]:
        """What `ask --json` prints: {think, response, answer, status}; `answer` is the choice that was named."""
        parsed = parse(text)
        answer = extract_choice(parsed.answer or "", choices) if choices else parsed.answer
        return {"think": parsed.think, "response": parsed.answer, "answer": answer, "status": parsed.status}

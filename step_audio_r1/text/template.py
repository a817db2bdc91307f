"""The chat template (section 5.2), rendered straight to ids, with the spans that masks are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from step_audio_r1.errors import BadInput
from step_audio_r1.text.formats import FORMATS, OutputFormat, format_named
from step_audio_r1.text.messages import Audio, Message, Role
from step_audio_r1.text.tokenizer import Tokenizer

_ASSISTANT = "assistant\n"


@dataclass(frozen=True)
class Span:
    """Tokens [start, stop) of a rendered item.

    Names: "system", "human", "assistant" (a turn of the conversation with its <|BOT|> and <|EOT|>), "audio"
    (one 25 s chunk with its <audio_start> and <audio_end>, inside a turn), "generation_prompt" (with any
    prefill), "think" (the reasoning with all that closes it), "response" (the reply and the format's ending),
    "eot".
    """

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Rendered:
    """A conversation as ids.

    Attributes:
      tokens: int32[T].
      audio_slots: int32[T], the running index of each <audio_patch> of the item, -1 elsewhere.
      loss_mask: bool[T], True on what the assistant has to produce, from the reasoning to its <|EOT|>.
      spans: in order of their start.
    """

    tokens: np.ndarray
    audio_slots: np.ndarray
    loss_mask: np.ndarray
    spans: tuple[Span, ...]

    def named(self, name: str) -> tuple[Span, ...]:
        """The spans called `name`, in order."""
        return tuple(span for span in self.spans if span.name == name)


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    audio_tokens: Sequence[Sequence[int]] = (),
    think: str | None = None,
    response: str | None = None,
    format: str = "think",
    prefill: str | None = None,
) -> Rendered:
    """Renders a conversation up to the assistant's turn, and that turn if it is given (sections 5.2, 5.3).

    The generation prompt is `<|BOT|>assistant\\n<think>\\n` and carries no loss. The target after it is the
    reasoning, the closing tag, the reply and <|EOT|>. Earlier assistant messages are history: they end in <|EOT|> and
    carry no loss.

    What stands before is never tokenized otherwise because of what follows: the ids of a prompt begin those of the
    same prompt with its target, and these, up to <|EOT|>, begin those of a longer conversation in which
    `form.render(think, response)` is an earlier assistant message. So do the ids of a "direct" prompt, if the message
    has an empty think block.

    Args:
      messages: turns in order, the last one not the assistant's.
      tokenizer: has the special tokens of section 5.1.
      audio_tokens: for the k-th audio part in order, the number of audio tokens of each of its 25 s chunks.
      think: target reasoning, "" for the empty think block; None (with `response`) renders the prompt only.
      response: target reply.
      format: a name in `formats.FORMATS`.
      prefill: only without a target. "direct" ends the prompt in the empty think block, so that the reply
        comes without thinking; any other string stands in place of the opening `<think>\\n`.

    Raises:
      BadInput: no turn to answer, half a target, a target beside a prefill, counts that do not match.
    """
    form = format_named(format)
    if not messages or messages[-1].role == "assistant":
        raise BadInput("messages: the last turn must be the system's or the human's; drop the final answer")
    if (think is None) != (response is None):
        raise BadInput("target: think and response come together; an empty think block is think=''")
    if think is not None and prefill is not None:
        raise BadInput("prefill: is for prompts; leave it out where a target is given")
    writer = _Writer(tokenizer)
    writer.conversation(messages, audio_tokens)
    writer.generation_prompt(form, prefill)
    prompt_length = len(writer.ids)
    if think is not None and response is not None:
        _, thinking, reply = _assistant_pieces(_ASSISTANT + form.render(think, response))
        writer.span("think", tokenizer.encode_content(thinking))
        writer.span("response", tokenizer.encode_content(reply))
        writer.span("eot", [tokenizer.eot])
    return writer.finish(loss_from=prompt_length)


def _assistant_pieces(run: str) -> tuple[str, str, str]:
    """An assistant's text after <|BOT|>, cut where it is encoded apart: opening, reasoning and its closing, reply.

    The opening is what a prompt ends in. The reasoning and its first closing are one running text. The reply stands by
    itself, because that is how it meets a closing that was forced or prefilled. Text in no format is not cut.
    """
    for form in FORMATS.values():
        opening = _ASSISTANT + form.open
        if run.startswith(opening):
            thinking, closing, reply = run[len(opening) :].partition(form.close)
            return opening, thinking + closing, reply
    return run, "", ""


class _Writer:
    """Collects ids and spans from left to right."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.slots: list[int] = []
        self.spans: list[Span] = []
        self.next_slot = 0

    def put(self, ids: Sequence[int]) -> None:
        self.ids.extend(ids)
        self.slots.extend([-1] * len(ids))

    def span(self, name: str, ids: Sequence[int]) -> None:
        start = len(self.ids)
        self.put(ids)
        self.spans.append(Span(name, start, len(self.ids)))

    def conversation(self, messages: Sequence[Message], audio_tokens: Sequence[Sequence[int]]) -> None:
        parts = sum(isinstance(part, Audio) for message in messages for part in message.parts)
        if parts != len(audio_tokens):
            raise BadInput(f"audio_tokens: {len(audio_tokens)} entries for {parts} audio parts; give one each")
        counts = iter(audio_tokens)
        for message in messages:
            start = len(self.ids)
            self.put([self.tokenizer.bot])
            run = f"{message.role}\n"
            for part in message.parts:
                if isinstance(part, Audio):
                    self.text(run, message.role)
                    run = ""
                    for count in next(counts):
                        self.audio(int(count))
                else:
                    run += part.text
            self.text(run, message.role)
            self.put([self.tokenizer.eot])
            self.spans.append(Span(message.role, start, len(self.ids)))

    def text(self, run: str, role: Role) -> None:
        # In one run up to the next special token, as the public template is, but for our own turns.
        for piece in _assistant_pieces(run) if role == "assistant" else (run,):
            self.put(self.tokenizer.encode_content(piece))

    def audio(self, count: int) -> None:
        if count < 0:
            raise BadInput(f"audio_tokens: {count} tokens in a chunk; counts are zero or more")
        start = len(self.ids)
        self.put([self.tokenizer.audio_start])
        self.ids.extend([self.tokenizer.audio_patch] * count)
        self.slots.extend(range(self.next_slot, self.next_slot + count))
        self.next_slot += count
        self.put([self.tokenizer.audio_end])
        self.spans.append(Span("audio", start, len(self.ids)))

    def generation_prompt(self, form: OutputFormat, prefill: str | None) -> None:
        text = {None: form.generation_prefix, "direct": form.empty_think}.get(prefill, prefill)
        # The usual opening is encoded apart from what follows, so that all such prompts begin alike.
        opening = form.generation_prefix if text.startswith(form.generation_prefix) else text
        ids = [self.tokenizer.bot, *self.tokenizer.encode(_ASSISTANT + opening)]
        rest = text[len(opening) :]
        self.span("generation_prompt", ids + (self.tokenizer.encode(rest) if rest else []))

    def finish(self, loss_from: int) -> Rendered:
        return Rendered(
            tokens=np.asarray(self.ids, np.int32),
            audio_slots=np.asarray(self.slots, np.int32),
            loss_mask=np.arange(len(self.ids)) >= loss_from,
            spans=tuple(sorted(self.spans, key=lambda span: (span.start, -span.stop))),
        )

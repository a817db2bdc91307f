"""The table of output formats (section 5.3): one is written, every known one is read."""

import re
from dataclasses import dataclass
from typing import Literal

from step_audio_r1.errors import BadInput


@dataclass(frozen=True)
class OutputFormat:
    """How thinking and reply are laid out: open + think + close + response + end.

    Attributes:
      name: how configs call it.
      open: the text before the reasoning; the generation prompt ends in it.
      close: all text between the reasoning and the reply.
      end: the text after the reply.
    """

    name: str
    open: str
    close: str
    end: str

    def render(self, think: str, response: str) -> str:
        """The assistant's whole turn, without <|EOT|>."""
        return self.open + think + self.close + response + self.end

    @property
    def generation_prefix(self) -> str:
        """What is prefilled when the model shall think: `<think>\\n`."""
        return self.open

    @property
    def empty_think(self) -> str:
        """What is prefilled when the model shall reply at once: `<think>\\n\\n</think>\\n`."""
        return self.open + self.close


FORMATS = {
    form.name: form
    for form in (
        OutputFormat("think", "<think>\n", "\n</think>\n", ""),
        OutputFormat("thinking_response", "<thinking>\n", "\n</thinking>\n<response>\n", "\n</response>"),
    )
}


def format_named(name: str) -> OutputFormat:
    """The format called `name`. Raises BadInput for an unknown name."""
    if name not in FORMATS:
        raise BadInput(f"format: unknown {name!r}; known are {', '.join(FORMATS)}")
    return FORMATS[name]


Status = Literal["complete", "no_think", "no_answer", "truncated", "malformed"]


@dataclass(frozen=True)
class Parsed:
    """What an output holds.

    Attributes:
      think: the reasoning, stripped; "" for a closed, blank block; None where there is no trace of any.
      answer: the reply without tags, stripped; None where there is none.
      status: "complete"; "no_think": closed blank block, then a reply; "no_answer": nothing after the closing
        tag; "truncated": thinking never closed, so no answer whatever follows; "malformed": more tags than
        one block has, think and answer are the best reading.
      annotation_json: the reply is the JSON fragment of an annotation prompt, a known defect of the public
        weights (Step-Audio-R1 issue #12); `answer` still holds it.
    """

    think: str | None
    answer: str | None
    status: Status
    annotation_json: bool = False


_THINK_TAG = re.compile(r"<(?P<slash>/?)think(?:ing)?\s*>", re.IGNORECASE)
_RESPONSE_TAG = re.compile(r"</?response\s*>", re.IGNORECASE)
_RESPONSE_BLOCK = re.compile(r"<response\s*>((?:(?!<response\s*>).)*?)</response\s*>", re.IGNORECASE | re.DOTALL)
_RESPONSE_LINE = re.compile(r"^[ \t*]*response[ \t*]*[:：][ \t*]*", re.IGNORECASE | re.MULTILINE)
_ANNOTATION = re.compile(r"\A\W{0,12}(?:json\s*)?\{\s*[\"'](?:model|prompt|transcription|speaker_\w{1,20})[\"']\s*:")


def parse(text: str) -> Parsed:
    """Reads an output in any known form (section 5.3), with or without its opening tag. Never raises.

    Reasoning is the text before the first closing tag, the answer is the rest without response tags. Of a
    rest with one response block it is the block's content; of one with a line that begins with `Response:`,
    what follows there. The generation prompt holds the opening tag, so text without tags is thinking that was
    cut off. A reply after another prefill is parsed together with it: `parse(form.empty_think + reply)`.
    """
    tags = list(_THINK_TAG.finditer(text))
    closing = next((tag for tag in tags if tag["slash"]), None)
    if closing is None:
        return Parsed(_RESPONSE_TAG.sub("", _THINK_TAG.sub("", text)).strip() or None, None, "truncated")
    head, tail = text[: closing.start()], text[closing.end() :]
    opening = _THINK_TAG.match(head.lstrip())
    one_block = len(tags) == 1 + (opening is not None) and _RESPONSE_TAG.search(head) is None
    think = _RESPONSE_TAG.sub("", _THINK_TAG.sub("", head)).strip()
    answer = _reply(_THINK_TAG.sub("", tail))
    if not answer:
        return Parsed(think, None, "no_answer")
    status: Status = "malformed" if not one_block else "complete" if think else "no_think"
    return Parsed(think, answer, status, annotation_json=_ANNOTATION.match(answer) is not None)


def _reply(tail: str) -> str:
    blocks = _RESPONSE_BLOCK.findall(tail)
    if len(blocks) == 1:
        return blocks[0].strip()
    lines = list(_RESPONSE_LINE.finditer(tail))
    return _RESPONSE_TAG.sub("", tail[lines[-1].end() :] if lines else tail).strip()

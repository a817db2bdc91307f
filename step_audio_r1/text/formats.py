"""The table of output formats (section 5.3): one is written, every known one is read."""

import re
from collections.abc import Iterable, Sequence
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
    def closing_tag(self) -> str:
        """What ends the thinking: `</think>`."""
        return self.close.split()[0]

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


Status = Literal["complete", "no_think", "no_answer", "truncated", "unclosed_answer", "repeated", "malformed"]


@dataclass(frozen=True)
class Parsed:
    """What an output holds. Neither text holds any tag, and both are stripped.

    Attributes:
      think: the reasoning; "" for a closed, blank block; None where there is no trace of any.
      answer: the reply; None where there is none.
      status: the first of these that applies.
        "truncated": the thinking is never closed, so there is no answer, whatever follows.
        "no_answer": nothing but tags and further thinking stands after the closing tag, or nothing in the response.
        "malformed": tags in no order that makes sense, and `think` and `answer` are a guess: text or a second opening
          tag before the thinking is closed, <think> mixed with <thinking>, response tags inside the thinking or
          thinking inside the response, a response opened twice or closed without having been opened.
        "repeated": more than one good block: another block of thinking or response, whole or only begun, or another
          closing tag.
        "unclosed_answer": a response tag is opened and never closed; `answer` is what there is.
        "no_think": a closed, blank block, then a reply.
        "complete": one block of reasoning, then a reply, which one pair of response tags may enclose.
      format: name of the format that the thinking tags belong to; None without such tags, or with both kinds.
      annotation_json: the reply is the JSON fragment of an annotation prompt, a known defect of the public
        weights (Step-Audio-R1 issue #12); `answer` still holds it.
    """

    think: str | None
    answer: str | None
    status: Status
    format: str | None = None
    annotation_json: bool = False


# A tag is on one line: so pieces of text that are joined by a newline never make a new one.
_TAG = re.compile(r"<(?P<slash>/?)(?P<name>think|thinking|response)[ \t]*>", re.IGNORECASE | re.ASCII)
_FORMAT_OF = {form.closing_tag[2:-1]: form.name for form in FORMATS.values()}
# One letter a tag, small to open and capital to close: t for thinking, r for response.
_ONE_BLOCK = re.compile(r"t?T(rR?)?")
_SEVERAL_BLOCKS = re.compile(r"t?T(?:t?T|rR+)*[tr]?")
_RESPONSE_LINE = re.compile(r"^[ \t*]*response[ \t*]*[:：][ \t*]*", re.IGNORECASE | re.ASCII | re.MULTILINE)
_ANNOTATION = re.compile(r"\A\W{0,12}(?:json\s*)?\{\s*[\"'](?:model|prompt|transcription|speaker_\w{1,20})[\"']\s*:")


def parse(text: str) -> Parsed:
    """Reads an output in any known form (section 5.3), with or without its opening tag. Never raises; linear in time.

    Reasoning is the text before the first closing tag, the answer is the rest: of a rest with one response tag, what
    it encloses; in the format "thinking_response" without response tags, what follows the last `Response:` that begins
    a line; else all of it but further thinking blocks. The generation prompt holds the opening tag, so text without
    tags is thinking that was cut off. A reply after another prefill is parsed together with it:
    `parse(form.empty_think + reply)`.
    """
    tags = list(_TAG.finditer(text))
    kinds = "".join(_kind(tag) for tag in tags)
    names = {tag["name"].lower() for tag in tags} - {"response"}
    format = _FORMAT_OF[names.pop()] if len(names) == 1 else None
    first = kinds.find("T")
    if first < 0:
        return Parsed(_without_tags(text, tags) or None, None, "truncated", format)
    closing = tags[first]
    think = _without_tags(text[: closing.start()], tags[:first])
    answer = _reply(text, closing.end(), tags[first + 1 :], lines=closing["name"].lower() == "thinking")
    if not answer:
        return Parsed(think, None, "no_answer", format)
    starts_well = first == 0 or not text[: tags[0].start()].strip()
    status: Status
    if format is None or not starts_well or not _SEVERAL_BLOCKS.fullmatch(kinds):
        status = "malformed"
    elif not _ONE_BLOCK.fullmatch(kinds):
        status = "repeated"
    elif kinds.endswith("r"):
        status = "unclosed_answer"
    else:
        status = "complete" if think else "no_think"
    return Parsed(think, answer, status, format, annotation_json=_ANNOTATION.match(answer) is not None)


def _kind(tag: re.Match[str]) -> str:
    letter = tag["name"][0].lower()
    return letter.upper() if tag["slash"] else letter


def _without_tags(text: str, tags: Sequence[re.Match[str]]) -> str:
    """`text`, which begins where the searched text does, with a newline for each of its tags."""
    edges = [0, *(edge for tag in tags for edge in tag.span()), len(text)]
    return _joined(text[start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True))


def _joined(pieces: Iterable[str]) -> str:
    return "\n".join(stripped for piece in pieces if (stripped := piece.strip()))


def _reply(text: str, start: int, tags: Sequence[re.Match[str]], lines: bool) -> str:
    """The reply in text[start:], of which `tags` are the tags; `lines`: a line `Response:` may begin it."""
    everything, enclosed = [], []
    thinking = inside = False
    openings = 0
    for tag in (*tags, None):
        piece = text[start : tag.start() if tag else len(text)]
        if not thinking:
            everything.append(piece)
            if inside:
                enclosed.append(piece)
        if tag:
            start, kind = tag.end(), _kind(tag)
            openings += kind == "r"
            if kind in "tT":
                thinking = kind == "t"
            else:
                inside = kind == "r"
    if openings == 1:
        return _joined(enclosed)
    reply = _joined(everything)
    if lines and not openings and (found := list(_RESPONSE_LINE.finditer(reply))):
        reply = reply[found[-1].end() :].strip()
    return reply

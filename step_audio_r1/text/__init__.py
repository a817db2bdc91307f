"""Text: messages, tokenizers, the chat template, output formats. Knows nothing of models."""

from step_audio_r1.text.formats import FORMATS, OutputFormat, format_named
from step_audio_r1.text.messages import Audio, Message, Role, Text
from step_audio_r1.text.template import Rendered, Span, close_ids, continuation_ids, render
from step_audio_r1.text.tokenizer import StreamDecoder, Tokenizer, word_level_tokenizer

__all__ = [
    "FORMATS",
    "Audio",
    "Message",
    "OutputFormat",
    "Rendered",
    "Role",
    "Span",
    "StreamDecoder",
    "Text",
    "Tokenizer",
    "close_ids",
    "continuation_ids",
    "format_named",
    "render",
    "word_level_tokenizer",
]

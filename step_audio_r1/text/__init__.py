"""Text: messages, tokenizers, chat template, output formats, answer extraction. Knows nothing of models."""

from step_audio_r1.text.answers import extract_choice, extract_number, is_number, normal_text, plain_answer
from step_audio_r1.text.formats import FORMATS, OutputFormat, Parsed, format_named, parse
from step_audio_r1.text.marker import TextMarker
from step_audio_r1.text.messages import Audio, Message, Role, Text
from step_audio_r1.text.prompts import (
    OPTION_SEPARATOR,
    OPTIONS_MARK,
    PROMPT_STYLES,
    PromptStyle,
    question_parts,
    with_choices,
)
from step_audio_r1.text.template import Rendered, Span, render
from step_audio_r1.text.tokenizer import SPECIAL_TOKENS, StreamDecoder, Tokenizer, word_level_tokenizer

__all__ = [
    "FORMATS",
    "OPTIONS_MARK",
    "OPTION_SEPARATOR",
    "PROMPT_STYLES",
    "SPECIAL_TOKENS",
    "Audio",
    "Message",
    "OutputFormat",
    "Parsed",
    "PromptStyle",
    "Rendered",
    "Role",
    "Span",
    "StreamDecoder",
    "Text",
    "TextMarker",
    "Tokenizer",
    "extract_choice",
    "extract_number",
    "format_named",
    "is_number",
    "normal_text",
    "parse",
    "plain_answer",
    "question_parts",
    "render",
    "with_choices",
    "word_level_tokenizer",
]

"""Messages of a conversation: text and audio parts in the caller's order."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "human", "assistant"]


@dataclass(frozen=True)
class Text:
    """A piece of text in a message."""

    text: str


@dataclass(frozen=True)
class Audio:
    """A recording in a message, by the id of its clip; it renders as one audio block for each 25 s chunk."""

    clip: str


@dataclass(frozen=True)
class Message:
    """One turn: a role and its parts, which are joined without any separator (section 5.2 of the template)."""

    role: Role
    parts: tuple[Text | Audio, ...]

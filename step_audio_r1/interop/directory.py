"""What a public checkpoint directory holds beside its weights: tokenizer, generation settings, the model's own code."""

from pathlib import Path

from step_audio_r1.errors import BadInput

CONFIG = "config.json"
# Copied along and never run: public loaders look for the model's code beside its weights.
_SUFFIXES = (".json", ".txt", ".jinja", ".model", ".py")
_LARGEST = 256 * 2**20


def companions(directory: Path) -> list[Path]:
    """The files that go with the weights of a checkpoint, without its config.json and index.

    Raises:
      BadInput: there is no tokenizer.json among them.
    """
    if not (directory / "tokenizer.json").is_file():
        raise BadInput(f"{directory}: has no tokenizer.json; download the checkpoint with its tokenizer files")
    return sorted(
        path
        for path in directory.iterdir()
        if path.suffix in _SUFFIXES
        and path.name != CONFIG
        and not path.name.endswith(".index.json")
        and path.is_file()
        and path.stat().st_size <= _LARGEST
    )


def copy_companions(source: Path, destination: Path) -> None:
    """Copies them. Raises BadInput as `companions` does, or if one cannot be read."""
    for path in companions(source):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror}; is the checkpoint complete?") from error
        (destination / path.name).write_bytes(data)

"""The two ways a command can end badly, and the one place that turns them into exit codes."""

import sys
from collections.abc import Callable


class BadInput(ValueError):
    """What the user gave cannot be used. One line: the file or field, what is wrong, what would fix it."""


class WorkFailed(RuntimeError):
    """The input was fine and the work itself failed; the message is one line."""


def exit_code(work: Callable[[], int | None]) -> int:
    """Runs `work` and returns the command's exit code: 0 ok, 1 failed in the work, 2 bad input.

    Both known failures print one line on stderr. Anything else is a defect of ours and keeps its traceback.
    """
    try:
        return work() or 0
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except WorkFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1

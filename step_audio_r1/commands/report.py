"""`report --workdir=DIR`: one self-contained HTML page of a run."""

import argparse
import sys
from pathlib import Path

from step_audio_r1.errors import exit_code


def main(argv: list[str]) -> int:
    """Writes DIR/report.html and prints its path."""
    parser = argparse.ArgumentParser(prog="step-audio-r1 report", description=__doc__)
    parser.add_argument("--workdir", required=True, help="a run's directory; an unfinished run gives what there is")
    args = parser.parse_args(argv)

    def work() -> None:
        from step_audio_r1.report import write_report

        print(write_report(Path(args.workdir)))

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

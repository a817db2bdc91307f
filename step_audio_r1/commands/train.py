"""`train --config=configs/X.py --workdir=DIR [--config.a.b=v]`: runs a config's stages; the same command resumes."""

import os
import re
import sys
import time
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from step_audio_r1.errors import BadInput, exit_code

_USAGE = """usage: step-audio-r1 train --config=configs/X.py --workdir=DIR [--config.FIELD=VALUE ...]

Runs the stages of the config in DIR. If DIR holds an unfinished run of the same config, it goes on from its last
checkpoint; if the run is finished, it says so. Fields are overridden by their path, e.g. --config.seed=3 or
--config.stages.pretrain.steps=100.

--branch_from=DIR2 begins a new DIR where the finished run DIR2 has ended, if its stages are the first of this config
and all that decides on them is the same: what several runs share is trained once. Files are linked where possible.

SIGTERM (the notice before a machine is preempted) lets the current step end, saves it and ends the command; between
training steps (data being made, chains sampled, an evaluation) it ends at once, and that part is done again. A second
SIGTERM ends at once in any case. The same command goes on.

On several hosts the same command is given on each, with JAX_COORDINATOR_ADDRESS (HOST:PORT of process 0),
JAX_NUM_PROCESSES and JAX_PROCESS_ID; TPU pods and SLURM are found without them. All share DIR. Each reads its part of
the data, which --config.stages.STAGE.batch.shards must allow: as many shards as rows always do.

--config.profile.start=N --config.profile.steps=M traces M steps from step N on into DIR/profile.

Exit codes: 0 done, 1 failed in the work, 2 bad input, 75 preempted or another host lost (give the same command again).
"""


def main(argv: list[str]) -> int:
    """Parses flags, joins the other processes of the run where there are some, and trains."""
    if not argv or "--help" in argv or "-h" in argv:
        print(_USAGE)
        return 0 if argv else 2
    return exit_code(lambda: _train(argv))


def _train(argv: list[str]) -> None:
    began = time.monotonic()
    config, workdir, branch_from = parse(argv)
    # Imported late: bad flags should be told in a moment, not after JAX has loaded.
    from step_audio_r1.parallel import processes
    from step_audio_r1.pipeline import EncoderStage, pretrain_encoder, run_config, train

    checked = run_config(config)
    makes_encoder = any(isinstance(stage, EncoderStage) for stage in checked.stages.values())
    with processes():
        if not makes_encoder:
            train(checked, workdir, began, branch_from)
        elif branch_from is None:
            pretrain_encoder(checked, workdir, began)
        else:
            raise BadInput(f"--branch_from={branch_from}: an encoder's training is the run's only stage; leave it out")


def parse(argv: list[str]) -> tuple[dict, Path, Path | None]:
    """Flags to (nested dict of the config, workdir, workdir of the run to branch from).

    Raises:
      BadInput: an unknown flag or field, a wrong type, a config file that cannot be read.
    """
    values = flags.FlagValues()
    # The overrides are looked up in these arguments, not in the process's.
    arguments = ["train", *argv]
    config_flags.DEFINE_config_file("config", None, "config file", flag_values=values, sys_argv=arguments)
    flags.DEFINE_string("workdir", None, "the run's directory", flag_values=values)
    flags.DEFINE_string("branch_from", None, "a finished run whose stages are the first", flag_values=values)
    _find_config(argv)
    try:
        rest = values(arguments)
    except BadInput:
        raise
    except (KeyError, AttributeError) as error:
        field = _unknown_field(error, argv)
        raise BadInput(f"--config: the config file sets no such field: {field}; add it there") from error
    except Exception as error:  # absl, ml_collections and the file itself each have their own kinds
        raise BadInput(f"--config: {_in_one_line(error)}") from error
    if len(rest) > 1:
        raise BadInput(f"{rest[1]!r}: not a flag; flags are --name=value")
    for name in ("config", "workdir"):
        if values[name].value is None:
            raise BadInput(f"--{name}: missing; see `step-audio-r1 train --help`")
    workdir, branch_from = (_folder(values[name]) for name in ("workdir", "branch_from"))
    return values["config"].value.to_dict(), workdir, branch_from


def _folder(flag: flags.Flag) -> Path | None:
    if flag.value is None:
        return None
    if not flag.value:  # as a variable of a script that was never set leaves it
        raise BadInput(f"--{flag.name}: is empty; give a folder")
    if "://" in flag.value:
        raise BadInput(f"--{flag.name}={flag.value}: is no local path; mount the bucket (gcsfuse) and give its folder")
    return Path(flag.value)


def _unknown_field(error: Exception, argv: list[str]) -> str:
    """The whole path of the field that the error names by its last part only."""
    # The text goes on with a guess at what was meant; its first word is the name.
    named = re.findall(r"\w+", str(error.args[0] if error.args else error))[:1]
    paths = [argument.lstrip("-").partition("=")[0] for argument in argv]
    return next((path for path in paths if set(named) & set(path.split(".")[1:])), " ".join(str(error).split())[:200])


def _in_one_line(error: Exception) -> str:
    """What an error says; of one that a config file raised (told by its traceback), where and the last line."""
    text = str(error).strip()
    places = re.findall(r'File "(.*?)", line (\d+)', text)
    if places and "Traceback" in text:
        return f"{Path(places[-1][0]).name}, line {places[-1][1]}: {text.splitlines()[-1][:300]}"
    return " ".join(text.split())[:300] or type(error).__name__


def _find_config(argv: list[str]) -> None:
    """Makes sibling imports of a config file work (`from configs.models import ...`), and tells a missing file."""
    for i, argument in enumerate(argv):
        name, _, value = argument.lstrip("-").partition("=")
        if name == "config":
            value = value or (argv[i + 1] if i + 1 < len(argv) else "")
            path = Path(value.partition(":")[0])
            if not path.is_file():
                raise BadInput(f"--config={value}: no such file; give one of configs/*.py")
            sys.path.insert(0, os.fspath(path.resolve().parent.parent))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

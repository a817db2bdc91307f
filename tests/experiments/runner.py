"""The command as a process, over a folder of experiments whose runs are fake: FOLDER, then the flags."""

import sys
from pathlib import Path

from experiments import run, workers

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder.parent))
    workers.COMMAND = (sys.executable, str(Path(__file__).with_name("fake_train.py")))
    sys.exit(run.main(sys.argv[2:], folder))

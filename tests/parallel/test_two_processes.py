"""Promise: two hosts sample and train as one host with as many devices does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _results(count: int) -> list[dict]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.parallel.two_process_worker"]
    processes = [
        subprocess.Popen(
            [*command, str(i), str(count), str(port)],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    found = []
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        found.append(json.loads(output.splitlines()[-1]))
    return found


@pytest.mark.slow
def test_two_processes_do_what_one_does():
    (one,), two = _results(1), _results(2)
    for result in two:
        assert result["tokens"] == one["tokens"]
        for expected, metrics in zip(one["metrics"], result["metrics"], strict=True):
            assert metrics == pytest.approx(expected, rel=1e-4, abs=1e-6)

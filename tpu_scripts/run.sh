#!/usr/bin/env bash
# run.sh [--dry_run] 'COMMAND'
# Runs a shell command on all workers, in the code folder and with the environment on the path.
# Example: run.sh 'python -c "import jax; jax.distributed.initialize(); print(jax.process_index(), jax.devices())"'
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

[ "${#ARGS[@]}" -eq 1 ] || die "give one quoted command"
on_workers "cd ~/$REMOTE_CODE && export PATH=~/$REMOTE_VENV/bin:\$PATH && ${ARGS[0]}"

#!/usr/bin/env bash
# stop.sh [--dry_run]
# Ends the run on all workers with SIGTERM, so that it can save; SIGKILL after two minutes. Keeps the TPU.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

[ "${#ARGS[@]}" -eq 0 ] || die "unknown argument ${ARGS[0]}"
on_workers "pid=\$(cat ~/$REMOTE_PID 2>/dev/null) || exit 0
kill -TERM -- -\$pid 2>/dev/null || exit 0
for _ in \$(seq 120); do kill -0 -- -\$pid 2>/dev/null || exit 0; sleep 1; done
kill -KILL -- -\$pid"

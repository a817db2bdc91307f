#!/usr/bin/env bash
# launch.sh [--dry_run] --config=configs/X.py [--workdir=/...] [--config.a.b=v ...]
# Starts `step-audio-r1 train` on all workers and returns; it goes on when this machine disconnects.
# --workdir defaults to SHARED/TPU_NAME. A workdir that holds a checkpoint is resumed: the same command
# starts and restarts a run. watch.sh follows it, stop.sh ends it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

config="" workdir=""
for argument in "${ARGS[@]}"; do
  case "$argument" in
    --config=?*) config="$argument" ;;
    --workdir=/?*) workdir="$argument" ;;
    --workdir=*) die "$argument: must be an absolute path that all workers share" ;;
  esac
done
[ -n "$config" ] || die "give --config=configs/X.py"
if [ -z "$workdir" ]; then
  need SHARED
  ARGS+=("--workdir=$SHARED/$TPU_NAME")
fi

# Quoted twice: once for the shell that ssh starts, once for the bash -c inside it.
train="\$HOME/$REMOTE_VENV/bin/step-audio-r1 train $(printf '%q ' "${ARGS[@]}")"
inner="$(printf '%q' "$train; echo \$? > ~/$REMOTE_EXIT")"

on_workers "if kill -0 \$(cat ~/$REMOTE_PID 2>/dev/null) 2>/dev/null; then echo \"\$(hostname): already training\"; exit 1; fi
cd ~/$REMOTE_CODE || exit 1
rm -f ~/$REMOTE_EXIT
nohup setsid bash -c $inner >> ~/$REMOTE_LOG 2>&1 < /dev/null &
echo \$! > ~/$REMOTE_PID
echo \"\$(hostname): started\""

#!/usr/bin/env bash
# delete.sh [--dry_run] [--yes]
# Gives the TPU back: deletes the queued resource and its nodes. Asks first unless --yes. The workdir stays.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

flags=(--force)
for argument in "${ARGS[@]}"; do
  case "$argument" in
    --yes) flags+=(--quiet) ;;
    *) die "unknown argument $argument" ;;
  esac
done
run gcloud compute tpus queued-resources delete "$TPU_NAME" --project="$PROJECT" --zone="$ZONE" "${flags[@]}"

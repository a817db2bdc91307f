#!/usr/bin/env bash
# list.sh [--dry_run]
# Lists the project's queued resources in ZONE with their states: what is held, and so what is paid for.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

[ "${#ARGS[@]}" -eq 0 ] || die "unknown argument ${ARGS[0]}"
run gcloud compute tpus queued-resources list --project="$PROJECT" --zone="$ZONE"

#!/usr/bin/env bash
# create.sh [--dry_run] [GCLOUD FLAG ...]
# Asks for the TPU: one queued resource named TPU_NAME with NUM_SLICES slices of ACCELERATOR_TYPE. Returns at once;
# watch.sh --until=active waits for it. More gcloud flags pass through, e.g. --valid-until-duration=6h.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

need RUNTIME_VERSION
flags=(--runtime-version="$RUNTIME_VERSION" --accelerator-type="$ACCELERATOR_TYPE" --network="$NETWORK")
if [ "$NUM_SLICES" -eq 1 ]; then
  flags+=(--node-id="$TPU_NAME")
else
  flags+=(--node-count="$NUM_SLICES" --node-prefix="$TPU_NAME")
fi
case "$CAPACITY" in
  spot) flags+=(--spot) ;;
  reserved) flags+=(--reserved) ;;
esac

run gcloud compute tpus queued-resources create "$TPU_NAME" --project="$PROJECT" --zone="$ZONE" \
  "${flags[@]}" --async "${ARGS[@]}"

#!/usr/bin/env bash
# watch.sh [--dry_run] [--until=active]
# Waits until the TPU is there, then follows the first worker's log until the run ends. With --until=active it only
# waits. Exit code: 0 the TPU is active, or the run ended well; 1 the run failed, or the connection broke;
# 3 the TPU is gone (preempted, expired or refused) or does not answer.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

only_active=""
for argument in "${ARGS[@]}"; do
  case "$argument" in
    --until=active) only_active=yes ;;
    *) die "unknown argument $argument" ;;
  esac
done

# state: one word, such as WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDED, FAILED.
state() {
  gcloud compute tpus queued-resources describe "$TPU_NAME" --project="$PROJECT" --zone="$ZONE" \
    --format="value(state.state)"
}

# wait_until_active: 0 when it is; 3 when it cannot become so any more.
wait_until_active() {
  local before="" now unanswered=0
  while true; do
    if ! now="$(state)"; then
      unanswered=$((unanswered + 1))
      [ "$unanswered" -lt 3 ] || return 3
      sleep 10
      continue
    fi
    unanswered=0
    [ "$now" = "$before" ] || echo "$(date +%H:%M:%S) $TPU_NAME: $now"
    before="$now"
    case "$now" in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDING | SUSPENDED | DELETING) return 3 ;;
    esac
    sleep 30
  done
}

if [ -n "$DRY_RUN" ]; then
  run gcloud compute tpus queued-resources describe "$TPU_NAME" --project="$PROJECT" --zone="$ZONE" \
    --format="value(state.state)"
else
  wait_until_active
fi
[ -z "$only_active" ] || exit 0

# The first slice's first worker is process 0, the one that prints. Its exit code comes back over ssh.
status=0
on_workers "tail -n 50 -F --pid=\$(cat ~/$REMOTE_PID) ~/$REMOTE_LOG
exit \$(cat ~/$REMOTE_EXIT 2>/dev/null || echo 1)" 0 0 || status=$?
[ "$status" -ne 0 ] || exit 0
[ "$(state || true)" = ACTIVE ] || { echo "$TPU_NAME is gone" >&2; exit 3; }
exit 1

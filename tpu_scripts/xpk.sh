#!/usr/bin/env bash
# xpk.sh VERB [--dry_run] [TRAIN FLAG ...]
# The same run as a workload on Google Kubernetes Engine, through xpk (pip install xpk). VERB is one of
#   cluster   make the cluster CLUSTER with NUM_SLICES slices of ACCELERATOR_TYPE (minutes; once)
#   image     build this checkout into IMAGE and push it
#   launch    --config=configs/X.py [--workdir=/...] [--config.a.b=v ...]: start the workload TPU_NAME;
#             it restarts from its last checkpoint up to RESTARTS times
#   watch     wait for it to end
#   delete    end and remove the workload; the cluster stays
#   cluster_delete
# Besides the settings of settings.sh it reads CLUSTER, IMAGE, RESERVATION (with CAPACITY=reserved) and RESTARTS.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

CLUSTER="${CLUSTER:-}"
IMAGE="${IMAGE:-}"
RESTARTS="${RESTARTS:-50}"
[ "${#ARGS[@]}" -ge 1 ] || die "give a verb: cluster, image, launch, watch, delete or cluster_delete"
verb="${ARGS[0]}"
ARGS=("${ARGS[@]:1}")
[ -n "$DRY_RUN" ] || [ "$verb" = image ] || command -v xpk >/dev/null || die "xpk is missing; pip install xpk"
[ "$verb" = launch ] || [ "${#ARGS[@]}" -eq 0 ] || die "unknown argument ${ARGS[0]}"
[ "$verb" = image ] || need CLUSTER
where=(--cluster="$CLUSTER" --project="$PROJECT" --zone="$ZONE")

case "$verb" in
  cluster)
    case "$CAPACITY" in
      spot) capacity=--spot ;;
      reserved) need RESERVATION && capacity="--reservation=$RESERVATION" ;;
      *) capacity=--on-demand ;;
    esac
    run xpk cluster create "${where[@]}" --tpu-type="$ACCELERATOR_TYPE" --num-slices="$NUM_SLICES" "$capacity"
    ;;
  image)
    need IMAGE
    command -v docker >/dev/null || [ -n "$DRY_RUN" ] || die "docker is missing"
    here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
    run docker build --file "$here/Dockerfile" --tag "$IMAGE" "$(dirname "$here")"
    run docker push "$IMAGE"
    ;;
  launch)
    need IMAGE
    [[ " ${ARGS[*]} " == *" --config="* ]] || die "give --config=configs/X.py"
    if [[ " ${ARGS[*]} " != *" --workdir="* ]]; then
      need SHARED
      ARGS+=("--workdir=$SHARED/$TPU_NAME")
    fi
    [[ " ${ARGS[*]} " == *" --workdir=/"* ]] || die "--workdir must be an absolute path that all pods share"
    command="$(printf '%q ' step-audio-r1 train "${ARGS[@]}")"
    run xpk workload create "${where[@]}" --workload="$TPU_NAME" --tpu-type="$ACCELERATOR_TYPE" \
      --num-slices="$NUM_SLICES" --docker-image="$IMAGE" --max-restarts="$RESTARTS" --command="${command% }"
    ;;
  watch) run xpk workload list "${where[@]}" --wait-for-job-completion="$TPU_NAME" ;;
  delete) run xpk workload delete "${where[@]}" --workload="$TPU_NAME" ;;
  cluster_delete) run xpk cluster delete "${where[@]}" ;;
  *) die "unknown verb $verb" ;;
esac

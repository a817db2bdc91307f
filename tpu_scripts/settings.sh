# shellcheck shell=bash
# Sourced by every script here: the settings (all from the environment), the flags they share, and three helpers.

PROJECT="${PROJECT:-}"                           # Google Cloud project; empty: the one gcloud is set to
ZONE="${ZONE:-us-east5-a}"                       # a zone that has the accelerator
ACCELERATOR_TYPE="${ACCELERATOR_TYPE:-v5p-128}"  # v5p-128 is 64 chips, 4x4x4: what configs are compiled for by default
NUM_SLICES="${NUM_SLICES:-1}"                    # above 1: multislice, data parallel between slices
CAPACITY="${CAPACITY:-on_demand}"                # on_demand, spot, or reserved
NETWORK="${NETWORK:-default}"
TPU_NAME="${TPU_NAME:-step-audio-r1}"            # names the queued resource, its nodes and the run
BUCKET="${BUCKET:-}"                             # gs://bucket or gs://bucket/folder, in the zone's region
SHARED="${SHARED:-}"                             # folder that is the same on all workers: Filestore, or a mounted bucket
RUNTIME_VERSION="${RUNTIME_VERSION:-}"           # empty: the one that fits ACCELERATOR_TYPE

# Where things lie on every worker, under the home folder.
# shellcheck disable=SC2034
{
  REMOTE_CODE=step_audio_r1
  REMOTE_VENV=step_audio_r1_venv
  REMOTE_LOG=step_audio_r1_train.log
  REMOTE_PID=step_audio_r1_train.pid
  REMOTE_EXIT=step_audio_r1_train.exit
}

die() {
  echo "$(basename "$0"): $*" >&2
  exit 2
}

# need VAR...: every variable is set, or one clear line.
need() {
  local name
  for name in "$@"; do
    [ -n "${!name:-}" ] || die "$name is not set; for example: export $name=$(example_of "$name")"
  done
}

example_of() {
  case "$1" in
    BUCKET) echo gs://my-bucket ;;
    SHARED) echo /mnt/runs ;;
    PROJECT) echo my-project ;;
    CLUSTER) echo my-cluster ;;
    RESERVATION) echo my-reservation ;;
    RUNTIME_VERSION) echo v2-alpha-tpuv5 ;;
    IMAGE) echo us-docker.pkg.dev/my-project/my-repository/step-audio-r1:latest ;;
    *) echo value ;;
  esac
}

# run COMMAND...: prints the command so that it can be pasted into a shell; runs it unless --dry_run was given.
run() {
  local word line=""
  for word in "$@"; do
    [[ "$word" =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+="${line:+ }$word"
  done
  echo "+ $line" >&2
  [ -n "$DRY_RUN" ] || "$@"
}

# on_workers COMMAND [NODE] [WORKER]: runs a shell command over ssh, on all workers of all slices unless told otherwise.
on_workers() {
  run gcloud compute tpus queued-resources ssh "$TPU_NAME" --project="$PROJECT" --zone="$ZONE" \
    --node="${2:-all}" --worker="${3:-all}" --command="$1"
}

# Flags every script knows; what is left stands in ARGS.
DRY_RUN=""
ARGS=()
for argument in "$@"; do
  case "$argument" in
    --dry_run | --dry-run) DRY_RUN=yes ;;
    -h | --help)
      sed -n '2,/^[^#]/ s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *) ARGS+=("$argument") ;;
  esac
done

if ! command -v gcloud >/dev/null; then
  [ -n "$DRY_RUN" ] || die "gcloud is missing; install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install"
elif [ -z "$PROJECT" ]; then
  PROJECT="$(gcloud config get-value project 2>/dev/null || true)"
fi
need PROJECT

if [ -z "$RUNTIME_VERSION" ]; then
  case "$ACCELERATOR_TYPE" in
    v6e-*) RUNTIME_VERSION=v2-alpha-tpuv6e ;;
    v5p-*) RUNTIME_VERSION=v2-alpha-tpuv5 ;;
    v5litepod-*) RUNTIME_VERSION=v2-alpha-tpuv5-lite ;;
    v4-*) RUNTIME_VERSION=tpu-ubuntu2204-base ;;
    tpu7x-*) ;; # GKE only: xpk.sh
    *) die "ACCELERATOR_TYPE=$ACCELERATOR_TYPE: unknown family; set RUNTIME_VERSION too" ;;
  esac
fi
case "$CAPACITY" in on_demand | spot | reserved) ;; *) die "CAPACITY=$CAPACITY: on_demand, spot or reserved" ;; esac
[[ "$NUM_SLICES" =~ ^[1-9][0-9]*$ ]] || die "NUM_SLICES=$NUM_SLICES: a whole number from 1"
[[ -z "$BUCKET" || "$BUCKET" == gs://?* ]] || die "BUCKET=$BUCKET: must start with gs://"
BUCKET="${BUCKET%/}"
[[ -z "$SHARED" || "$SHARED" == /* ]] || die "SHARED=$SHARED: must be an absolute path"
SHARED="${SHARED%/}"

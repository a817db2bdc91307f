#!/usr/bin/env bash
# setup.sh [--dry_run]
# Installs this checkout's HEAD with its dependencies on all workers, through BUCKET. Run it again after each commit
# that the workers should have. Uncommitted changes do not travel.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

[ "${#ARGS[@]}" -eq 0 ] || die "unknown argument ${ARGS[0]}"
need BUCKET
repository="$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)" || die "not inside a git checkout"
[ -z "$(git -C "$repository" status --porcelain)" ] || echo "note: uncommitted changes are left out" >&2
revision="$(git -C "$repository" rev-parse HEAD)"
object="$BUCKET/code/$TPU_NAME/$revision.tar.gz"

archive="$(mktemp)"
trap 'rm -f "$archive"' EXIT
run git -C "$repository" archive --format=tar.gz --output="$archive" HEAD
run gcloud storage cp "$archive" "$object" --project="$PROJECT"

# The VM images carry Python 3.10; uv brings 3.11. The same commands run on every worker at once.
on_workers "set -e
rm -rf ~/$REMOTE_CODE && mkdir ~/$REMOTE_CODE
gcloud storage cat '$object' | tar -xz -C ~/$REMOTE_CODE
echo $revision > ~/$REMOTE_CODE/REVISION
python3 -m pip install -q --user uv 2>/dev/null || python3 -m pip install -q --user --break-system-packages uv
[ -d ~/$REMOTE_VENV ] || ~/.local/bin/uv venv -q --python 3.11 ~/$REMOTE_VENV
cd ~/$REMOTE_CODE && ~/.local/bin/uv pip install -q --python ~/$REMOTE_VENV/bin/python -e '.[tpu]'
echo \"\$(hostname): ready\""

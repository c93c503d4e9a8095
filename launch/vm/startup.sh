#!/bin/bash
# Startup script of TPU VMs: Compute Engine runs it as root at each boot.
# Copies the other files of this folder from the instance's metadata, installs distill once, and
# starts the guard on nodes of queued resources. `train.sh state` says how far it is, and why it
# failed; before that script is there, the file `failed` in /opt/distill says so.
set -euo pipefail
ROOT="${DISTILL_ROOT:-/opt/distill}"
METADATA="http://metadata.google.internal/computeMetadata/v1/instance/attributes"

mkdir -p "$ROOT"
rm -f "$ROOT/failed"
line=""
trap 'line=" in line $LINENO"' ERR
report() { [[ $1 == 0 ]] || echo "startup failed$line with exit code $1" >"$ROOT/failed"; }
trap 'report $?' EXIT
exec >>"$ROOT/startup.log" 2>&1
echo "startup: $(date --utc)"

for name in launch.env install.sh train.sh guard.sh; do
  curl --fail --silent --show-error --retry 10 --retry-connrefused -H "Metadata-Flavor: Google" \
    "$METADATA/distill-${name//./-}" >"$ROOT/$name"
done
chmod 755 "$ROOT"/*.sh
# shellcheck source=launch/vm/launch.env
source "$ROOT/launch.env"

# The guard comes first: it must hold even if the installation hangs. Its time does not start again
# after a reboot.
if [[ -n "$DISTILL_QUEUED_RESOURCE" ]]; then
  [[ -f "$ROOT/deadline" ]] || echo "$(($(date +%s) + DISTILL_MAX_RUN_SECONDS))" >"$ROOT/deadline"
  left=$(($(cat "$ROOT/deadline") - $(date +%s)))
  systemd-run --unit=distill-guard --on-active="$((left > 1 ? left : 1))s" "$ROOT/guard.sh"
fi

if [[ ! -f "$ROOT/installed" ]]; then
  "$ROOT/install.sh"
  touch "$ROOT/installed"
fi

#!/usr/bin/env bash
# Starts a managed job of SkyPilot, unless one of this name has not ended.
#   launch/skypilot/start.sh NAME task.yaml
set -euo pipefail
if [[ $# -ne 2 ]]; then
  sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
jobs=$(sky jobs queue --skip-finished --all --output=json)
if grep --quiet --fixed-strings "\"job_name\": \"$1\"" <<<"$jobs"; then
  echo "the managed job $1 waits or runs already"
  exit
fi
sky jobs launch --name="$1" --yes --detach-run "$2"

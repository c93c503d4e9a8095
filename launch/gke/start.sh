#!/usr/bin/env bash
# Creates a JobSet with a command. One that waits or runs is left alone; one that has ended is
# deleted first.
#   launch/gke/start.sh CONTEXT NAMESPACE NAME COMMAND...
set -euo pipefail
if [[ $# -lt 4 ]]; then
  sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
kubectl=(kubectl "--context=$1" "--namespace=$2")
name=$3
shift 3

found=$("${kubectl[@]}" get jobset "$name" --ignore-not-found --output=name)
if [[ -n $found ]]; then
  ended=$("${kubectl[@]}" get jobset "$name" --output='jsonpath={.status.terminalState}')
  if [[ -z $ended ]]; then
    echo "JobSet $name waits or runs already"
    exit
  fi
  echo "deleting JobSet $name, which has ended: $ended"
  "${kubectl[@]}" delete jobset "$name" --ignore-not-found --wait
fi
"$@"

#!/bin/bash
# A training or a prediction on one host, as the systemd unit distill-train. It outlives the SSH
# connection, and gets SIGTERM when the host shuts down, so that it saves before a preemption.
#   train.sh start COMMAND...   starts it, unless it runs already
#   train.sh state              prints: distill-state HOST installing|idle|running|ended CODE|failed TEXT
#   train.sh logs N             prints the last N lines of its log, before a start those of startup.log
#   train.sh stop               sends SIGTERM, waits
set -euo pipefail
ROOT="${DISTILL_ROOT:-/opt/distill}"
UNIT=distill-train
LOG="$ROOT/train.log"

property() { systemctl show "$UNIT" --property="$1" --value; }

state() {
  if [[ -f "$ROOT/failed" ]]; then
    echo "failed $(cat "$ROOT/failed"); see $ROOT/startup.log"
  elif [[ ! -f "$ROOT/installed" ]]; then
    echo installing
  else
    case "$(property ActiveState)/$(property SubState)" in
    active/exited | failed/*)
      status="$(property ExecMainStatus)"
      # A main process that a signal ended has the signal's number here.
      [[ "$(property ExecMainCode)" == 1 ]] || status=$((128 + status))
      echo "ended $status"
      ;;
    inactive/*) echo idle ;;
    *) echo running ;;
    esac
  fi
}

case "${1:-}" in
start)
  shift
  now="$(state)"
  case "$now" in
  running) echo "runs already" ;;
  idle | ended*)
    # shellcheck source=launch/vm/launch.env
    source "$ROOT/launch.env"
    systemctl stop "$UNIT" 2>/dev/null || true
    systemctl reset-failed "$UNIT" 2>/dev/null || true
    if [[ -n "$DISTILL_IMAGE" ]]; then
      set -- docker run --rm --name="$UNIT" --privileged --network=host "$DISTILL_IMAGE" "$@"
    else
      set -- "$ROOT/venv/bin/$1" "${@:2}"
    fi
    systemd-run --unit="$UNIT" --remain-after-exit --working-directory="$ROOT" \
      --setenv=HOME=/root --property=KillMode=mixed --property=TimeoutStopSec=30 \
      --property=StandardOutput="append:$LOG" --property=StandardError="append:$LOG" "$@"
    ;;
  *) echo "not ready: $now" >&2 && exit 1 ;;
  esac
  ;;
state) echo "distill-state $(hostname) $(state)" ;;
logs)
  if [[ ! -f "$LOG" ]]; then
    LOG="$ROOT/startup.log"
    echo "nothing was started yet; the end of $LOG:"
  fi
  tail --lines="${2:-50}" "$LOG"
  ;;
stop) systemctl stop "$UNIT" ;;
*) echo "expected start, state, logs or stop; got '${1:-}'" >&2 && exit 2 ;;
esac

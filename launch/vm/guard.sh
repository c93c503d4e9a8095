#!/bin/bash
# Deletes the queued resource of this node, which ends its cost. The node's service account needs
# the role roles/tpu.admin for that; without it the host is only shut down, and the node still costs.
set -uo pipefail
# shellcheck source=launch/vm/launch.env
source "${DISTILL_ROOT:-/opt/distill}/launch.env"

gcloud compute tpus queued-resources delete "$DISTILL_QUEUED_RESOURCE" \
  --project="$DISTILL_PROJECT" --zone="$DISTILL_ZONE" --force --async --quiet ||
  shutdown -P now

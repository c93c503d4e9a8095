#!/bin/bash
# Installs distill on a TPU VM: the container image, or the source archive and the packages of its
# lock file (launch/install.sh).
set -euo pipefail
ROOT="${DISTILL_ROOT:-/opt/distill}"
# shellcheck source=launch/vm/launch.env
source "$ROOT/launch.env"

if [[ -n "$DISTILL_IMAGE" ]]; then
  # Compute Engine's images for TPUs come without Docker.
  command -v docker || { apt-get update && apt-get install --yes docker.io; }
  gcloud auth configure-docker "${DISTILL_IMAGE%%/*}" --quiet
  docker pull "$DISTILL_IMAGE"
  exit
fi
python3 -m pip --version || { apt-get update && apt-get install --yes python3-pip; }
gcloud storage cp "$DISTILL_SOURCE" "$ROOT/distill.tar.gz"
mkdir -p "$ROOT/distill"
tar --extract --gzip --file="$ROOT/distill.tar.gz" --directory="$ROOT/distill"
"$ROOT/distill/launch/install.sh" all "$ROOT/venv"

#!/usr/bin/env bash
# Installs distill for Cloud TPU into a virtual environment with Python 3.11, from lock files.
#
#   launch/install.sh all VENV          packages, then distill
#   launch/install.sh packages VENV     uv, Python, and the packages of requirements/tpu.txt
#   launch/install.sh t5x VENV          T5X at its tested commits, for --engine=t5x (needs git)
#   launch/install.sh distill VENV      this checkout, editable
#
# The Dockerfile runs the same steps. A step that was done before is quick and changes nothing.
# Needs bash, Python 3 with pip, and the network. UV=/path/to/uv uses that uv.
set -euo pipefail

usage() {
  sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

[[ $# -eq 2 && $1 =~ ^(all|packages|t5x|distill)$ && -n $2 ]] || usage
step=$1
venv=$2
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# --target, because the Python of an operating system refuses to be changed.
find_uv() {
  uv=${UV:-}
  if [[ -z $uv ]]; then
    uv=$venv-uv/bin/uv
    if [[ ! -x $uv ]]; then
      echo "install: uv into $venv-uv"
      python3 -m pip install --quiet --require-hashes --target "$venv-uv" -r requirements/uv.txt
    fi
  fi
}

pip_install() {
  "$uv" pip install --python "$venv/bin/python" --no-deps \
    --build-constraints requirements/build.txt "$@"
}

install_packages() {
  echo "install: the packages of requirements/tpu.txt into $venv"
  if [[ ! -x $venv/bin/python ]]; then
    "$uv" venv --python 3.11 "$venv"
  fi
  pip_install --require-hashes -r requirements/tpu.txt
}

install_t5x() {
  echo "install: T5X at the commits of requirements/t5x.txt into $venv"
  pip_install -r requirements/t5x.txt
}

install_distill() {
  echo "install: distill from $PWD into $venv"
  pip_install --editable .
  "$venv/bin/distill" --version
}

find_uv
case $step in
  all)
    install_packages
    install_distill
    ;;
  packages) install_packages ;;
  t5x) install_t5x ;;
  distill) install_distill ;;
esac

#!/usr/bin/env bash
# Creates a training as a workload of xpk (1.16), on a cluster that `xpk cluster create` made.
# `distill launch` fills in the two commands. The cluster, which this file does not touch, is made by:
#
# $CLUSTER_CREATE
#
# `timeout` ends each attempt after the maximum run time; its exit code, 124, is not restarted.
set -euo pipefail

$WORKLOAD_CREATE

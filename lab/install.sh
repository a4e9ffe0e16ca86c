#!/usr/bin/env bash
# Installs the operator by its chart, or brings the release that is there to this build. Usage: install.sh CHART
# [ARGUMENT OF HELM …], with KUBECONFIG set and helm and kubectl on the PATH.
#
# Run again it completes, whenever it was killed: helm takes a release whose installation was cut off for one that is
# still going on, and refuses every other. The lock is held by helm itself, so it tells whether one still runs; without
# it, a release of ours that is under way belongs to nobody.
set -euo pipefail

chart=$1
shift
namespace=airdock-system
label=airdock.dev/installed-by
lock=${AIRDOCK_LAB_DIR:-.lab}/helm.lock

# Only what this script began: whoever installs by hand has a lock of their own.
forget_interrupted() {
  kubectl -n "$namespace" delete secrets --ignore-not-found --selector \
    "owner=helm,name=airdock,$label=lab,status in (pending-install,pending-upgrade,pending-rollback)"
}

exec 9>"$lock"
if ! flock --wait 240 9; then
  echo "failed: another helm holds $lock" >&2
  exit 1
fi
forget_interrupted
# Not exec'd with the lock closed: a helm that outlives this script keeps holding it.
helm upgrade --install airdock "$chart" --namespace "$namespace" --create-namespace --labels "$label=lab" "$@"

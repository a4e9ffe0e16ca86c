#!/usr/bin/env bash
# A lab with two member clusters and the operator installed by its chart, from local builds. Run again, it completes
# or updates what is there; a host that was named with `up --kubeconfig FILE` stands. Used by `make demo`,
# `make test-e2e` and `make bench-lab`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=$(realpath -m "${AIRDOCK_LAB_DIR:-.lab}")
lab=(target/release/airdock-lab --dir "$dir")
airdock=target/release/airdock

"${lab[@]}" up
"${lab[@]}" image airdock --bin "$airdock"
"${lab[@]}" member add eu --region eu-west --provider aurora &
eu=$!
"${lab[@]}" member add us --region us-east --provider borealis &
us=$!

export KUBECONFIG=$dir/host.kubeconfig
export HELM_CACHE_HOME=$dir/helm HELM_CONFIG_HOME=$dir/helm HELM_DATA_HOME=$dir/helm
echo "installing the operator …"
# The annotation makes new pods of a new build, whose image has the same name.
installed=0
PATH=$dir/bin:$PATH AIRDOCK_LAB_DIR=$dir lab/install.sh manifests/chart \
  --set-string "podAnnotations.airdock\.dev/build=$(sha256sum "$airdock" | cut -c1-16)" \
  --wait --timeout 3m >"$dir/logs/helm.log" 2>&1 || installed=$?
# Each tells its own failure; none hides another's.
added=0
wait "$eu" || added=$?
wait "$us" || added=$?
if ((installed != 0)); then
  cat "$dir/logs/helm.log" >&2
  "$dir/bin/kubectl" -n airdock-system get pods >&2 || true
  "$dir/bin/kubectl" -n airdock-system logs deployment/airdock --tail=20 >&2 || true
  echo "failed: the operator was not installed; the log is in $dir/logs/helm.log" >&2
  exit 1
fi
echo "installing the operator: done"
exit "$added"

#!/usr/bin/env bash
# The demo: examples/quickstart on the lab, watched until all of it is ready, and what came of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=$(realpath -m "${AIRDOCK_LAB_DIR:-.lab}")
started=$SECONDS
namespace=quickstart
lab/bring-up.sh
export KUBECONFIG=$dir/host.kubeconfig
PATH=$dir/bin:$PWD/target/release:$PATH

# The members' kubeconfigs are the one thing that cannot lie in a repository. Server-side, so that no annotation keeps a copy.
kubectl apply -f examples/quickstart/00-namespace.yaml >/dev/null
for member in eu us host; do
  file=$dir/members/$member.kubeconfig
  if [[ $member == host ]]; then file=$dir/host.kubeconfig; fi
  kubectl -n $namespace create secret generic "member-$member" --from-file=kubeconfig="$file" --dry-run=client -o yaml |
    kubectl apply --server-side --force-conflicts --field-manager=demo -f - >/dev/null
done

applied=$SECONDS
echo "kubectl apply -f examples/quickstart"
kubectl apply -f examples/quickstart | sed 's/^/  /'

# Tells each change of an object's Ready condition until it is True for the present spec.
until_ready() {
  local object=$1 patience=$2 state='' last=''
  local from=$SECONDS
  while true; do
    state=$(kubectl -n $namespace get "$object" -o jsonpath='{.metadata.generation}/{.status.observedGeneration} {.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}' 2>&1) || true
    local generations status message
    read -r generations status message <<<"$state"
    if [[ ${generations%/*} == "${generations#*/}" && $status == True ]]; then
      printf '  %3d s  %-28s ready: %s\n' $((SECONDS - applied)) "$object" "$message"
      return
    fi
    message=${message:-waiting for the operator}
    if [[ $message != "$last" ]]; then
      printf '  %3d s  %-28s %s\n' $((SECONDS - applied)) "$object" "$message"
      last=$message
    fi
    if ((SECONDS - from > patience)); then
      echo "failed: $object is not Ready after $patience s: $last" >&2
      echo "  see: kubectl -n $namespace describe $object; kubectl -n airdock-system logs deployment/airdock" >&2
      exit 1
    fi
    sleep 0.4
  done
}
until_ready karmadainstance/fleet 180
for member in eu us host; do until_ready memberclusterjoin/$member 90; done
until_ready multicloudapp/hello 120
until_ready permissionbinding/team-hello 60
# Nodes and capacity are counted a moment after a member is ready.
for _ in {1..75}; do
  nodes=$(kubectl -n $namespace get memberclusterjoins -o jsonpath='{.items[*].status.nodesReady}')
  clusters=$(kubectl -n $namespace get karmadainstance/fleet -o jsonpath='{.status.overview.clustersReady}')
  [[ $(wc -w <<<"$nodes") == 3 && $clusters == 3/3 ]] && break
  sleep 0.2
done
# The lab writes the plane's kubeconfig a moment after the instance is Ready.
for _ in {1..50}; do
  [[ -e $dir/instances/$namespace.fleet.kubeconfig ]] && break
  sleep 0.2
done

printf '\nReady %d s after apply, %d s in all.\n\n' $((SECONDS - applied)) $((SECONDS - started))
airdock status -n $namespace
cat <<END

Try next:
  export KUBECONFIG=$dir/host.kubeconfig PATH=$dir/bin:$PWD/target/release:\$PATH
  kubectl get ki,mcj,mca,pb -A
  kubectl -n hello get pods                                       # real pods, in the host cluster
  kubectl get --raw /api/v1/namespaces/hello/services/hello:80/proxy/
  kubectl --kubeconfig $dir/members/eu.kubeconfig -n hello get deployments -o wide
  kubectl --kubeconfig $dir/instances/$namespace.fleet.kubeconfig get clusters
  make demo-down                                                  # removes all of it
The five-minute tour in README.md goes on from here.
END

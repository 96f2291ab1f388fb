# Sourced by cluster: where things are, and helpers.
# shellcheck shell=bash disable=SC2034 # the other parts use these variables
: "${POPULATORS_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/volume-populators}"
CLUSTER_CACHE=$POPULATORS_CACHE/cluster
# The minor version; each has a folder programs/kubernetes-VERSION. docs/controller.md says by which rule they move.
: "${KUBERNETES:=1.37}"
BIN=${CLUSTER_BIN:-$CLUSTER_CACHE/bin/$KUBERNETES}
STATE=$(realpath -m "${CLUSTER_STATE:-$CLUSTER_CACHE/state}")
NODE=cluster-node NODE_IP=10.88.8.1 POD_NET=10.88.7.0/24 SVC_NET=10.96.0.0/16
# The usual one, which the NetworkPolicies of the manifests name.
API_PORT=6443
# Cgroups are shared with the machine: a kubelet kills unknown processes below its own, so each cluster has one of its own.
CGROUP=populators-$(printf %s "$STATE" | sha256sum | cut -c1-8)
REGISTRY=$NODE_IP:5000 IMAGES=$STATE/images
PKI=$STATE/pki LOGS=$STATE/logs RUN=$STATE/run CONTAINERD_SOCKET=$STATE/run/containerd.sock

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# Runs a program inside the cluster's namespaces, where no proxy can be reached.
inside() {
  [ -s "$RUN/init.pid" ] || fail "no cluster is up (state folder: $STATE); run: make cluster"
  nsenter -t "$(cat "$RUN/init.pid")" -n -m -p -u --wdns="$PWD" -- env -u http_proxy -u https_proxy -u all_proxy \
    -u HTTP_PROXY -u HTTPS_PROXY -u ALL_PROXY "$@"
}
# Runs a command inside, in the current folder, with the environment that tests need: addresses of cluster and services, and
# a folder on disk for temporary files.
run() {
  [ -s "$RUN/environment" ] || fail "no services are up in the cluster; run: tests/cluster/cluster services"
  mkdir -p "$RUN/tmp"
  # shellcheck disable=SC2046 # a list of assignments, none of them with a space
  inside env $(sed 's/#.*//' "$RUN/environment") TMPDIR="$RUN/tmp" KUBECONFIG="$STATE/kubeconf/admin.conf" \
    KUBECTL="$BIN/kubectl" CLUSTER_LOGS="$LOGS" CLUSTER_AUDIT_LOG="$LOGS/audit.log" "$@"
}
kubectl() { inside "$BIN/kubectl" --kubeconfig "$STATE/kubeconf/admin.conf" "$@"; }

start() { # name program...: a daemon inside the namespaces; its log is logs/name.log
  local name=$1; shift
  inside "$@" > "$LOGS/$name.log" 2>&1 < /dev/null &
}
until_ok() { # tries what program...: a tenth of a second between two tries
  local tries=$1 what=$2 i; shift 2
  for ((i = 0; i < tries; i++)); do
    (inside timeout 20 "$@") > /dev/null 2>&1 && return
    sleep 0.1
  done
  fail "$what did not come up in $tries tries; see $LOGS"
}
render() { # fills in a template of etc/
  sed -e "s#@STATE@#$STATE#g; s#@NODE@#$NODE#g; s#@NODE_IP@#$NODE_IP#g; s#@POD_NET@#$POD_NET#g" \
    -e "s#@CG@#$CGROUP#g; s#@SOCK@#$CONTAINERD_SOCKET#g; s#@BIN@#$BIN#g; s#@REGISTRY@#$REGISTRY#g" "$1"
}

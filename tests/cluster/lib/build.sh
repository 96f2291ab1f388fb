# Sourced by cluster: Debian packages, and the cluster's programs from Go modules.
# shellcheck shell=bash
PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl etcd containerd containerd-shim-runc-v2 ctr
  csi-provisioner hostdisk csi-sanity network-policies helm definitions.yaml)

packages() {
  local need=() name
  for name in runc containernetworking-plugins iproute2 iptables ipset conntrack socat ethtool gcc libc6-dev \
    busybox-static e2fsprogs util-linux openssl jq curl python3 buildah skopeo docker-registry binutils groff-base python3-yaml; do
    dpkg-query -W -f='${Status}' "$name" 2> /dev/null | grep -q 'ok installed' || need+=("$name")
  done
  [ ${#need[@]} -gt 0 ] || return 0
  # Debian starts the daemons it installs; the cluster starts its own, in namespaces.
  (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
      trap 'rm -f $policy' EXIT
      printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=300 update
    apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${need[@]}" > /dev/null
  )
}

pinned() { # folder module: the version in go.mod
  awk -v module="$2" '$1 == "require" { $1 = ""; $0 = $0 } $1 == module { print $2; exit }' "$HERE/programs/$1/go.mod"
}

# The program on PATH, if it has the version that is built here. Not our own programs, those that do not print a version, and
# those that were built here, if their folder is on PATH.
offered() {
  local found wanted release
  release=$(pinned "kubernetes-$KUBERNETES" k8s.io/kubernetes)
  found=$(type -P "$1") && found=$(readlink -f "$found") && [[ "$found" != "$(readlink -f "$CLUSTER_CACHE")"/* ]] || return 1
  case $1 in
    kubectl) wanted="Client Version: $release" ;;
    kube*) wanted="Kubernetes $release" ;;
    etcd) wanted=$(pinned etcd go.etcd.io/etcd/server/v3); wanted="etcd Version: ${wanted#v}" ;;
    csi-provisioner) wanted="$found $(pinned csi github.com/kubernetes-csi/external-provisioner/v6)" ;;
    *) return 1 ;;
  esac
  local how=(--version); [ "$1" != kubectl ] || how=(version --client)
  [ "$("$found" "${how[@]}" 2> /dev/null | head -n 1)" = "$wanted" ] && echo "$found"
}

# The versions of Kubernetes that tests run on, the newest first.
versions() { (cd "$HERE/programs" && printf '%s\n' kubernetes-*) | sed 's/^kubernetes-//' | sort -rV; }

build() { # [name]...: all, without names
  local name missing=() names=("$@")
  [ ${#names[@]} -gt 0 ] || names=("${PROGRAMS[@]}")
  [ -d "$HERE/programs/kubernetes-$KUBERNETES" ] ||
    fail "KUBERNETES=$KUBERNETES: no tests run on this version; name one of $(versions | paste -sd ' ')"
  if [ -n "${CLUSTER_BIN:-}" ]; then
    for name in "${names[@]}"; do [ -s "$CLUSTER_BIN/$name" ] || missing+=("$name"); done
    [ ${#missing[@]} = 0 ] || fail "CLUSTER_BIN=$CLUSTER_BIN lacks ${missing[*]}; put them there, or unset it to have them built"
    return 0
  fi
  command -v go > /dev/null || fail "the cluster's programs are built with Go 1.26 or newer; go is not on PATH"
  mkdir -p "$BIN" "$CLUSTER_CACHE/programs"
  local version="-s -w" package release containerd
  release=$(pinned "kubernetes-$KUBERNETES" k8s.io/kubernetes)
  containerd=$(pinned containerd github.com/containerd/containerd/v2)
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    version+=" -X $package.gitVersion=$release -X $package.gitMajor=1 -X $package.gitMinor=${KUBERNETES#*.}"
  done
  version+=" -X github.com/containerd/containerd/v2/version.Version=${containerd#v}"
  exec 9> "$CLUSTER_CACHE/programs/.lock"
  flock --timeout 5400 9 || fail "another build has held $CLUSTER_CACHE/programs/.lock for 90 minutes"
  # The name of a kept program has a hash of its sources, so that branches with different versions do not overwrite each other's.
  program() { # name folder package [source]...
    local key kept
    [[ " ${names[*]} " == *" $1 "* ]] || return 0
    if kept=$(offered "$1"); then ln -sfn "$kept" "$BIN/$1"; return; fi
    key=$(cd "$HERE/programs/$2" && { cat go.sum "${@:4}"; echo "$version"; go env GOVERSION; } | sha256sum | cut -c1-16)
    kept=$CLUSTER_CACHE/programs/$1-$key
    if [ ! -x "$kept" ]; then
      say "building $1"
      (cd "$HERE/programs/$2" && CGO_ENABLED=0 go build -trimpath -ldflags "$version" -o "$kept.part" "$3")
      # Our own code is vetted too: its dependencies are compiled by now.
      [[ "$3" != ./* ]] || (cd "$HERE/programs/$2" && CGO_ENABLED=0 go vet -trimpath "$3")
      mv "$kept.part" "$kept"
    fi
    ln -sfn "$kept" "$BIN/$1"
  }
  for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    program "$name" "kubernetes-$KUBERNETES" "k8s.io/kubernetes/cmd/$name"
  done
  program etcd etcd go.etcd.io/etcd/server/v3
  for name in containerd containerd-shim-runc-v2 ctr; do
    program "$name" containerd "github.com/containerd/containerd/v2/cmd/$name"
  done
  program csi-provisioner csi github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner
  program hostdisk csi ./hostdisk "$HERE"/programs/csi/hostdisk/*.go
  program csi-sanity csi github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity
  program network-policies kube-router ./network-policies "$HERE"/programs/kube-router/network-policies/*.go
  program helm helm helm.sh/helm/v4/cmd/helm
  [[ " ${names[*]} " != *" definitions.yaml "* ]] || definitions
  flock -u 9
}

# The definitions of the Prometheus operator, made from its types as its own release is, and the Gateway API's of ReferenceGrant.
definitions() {
  local folder=$HERE/programs/definitions key kept
  key=$({ cat "$folder/go.sum"; declare -f definitions; } | sha256sum | cut -c1-16)
  kept=$CLUSTER_CACHE/programs/definitions-$key.yaml
  if [ ! -s "$kept" ]; then
    say "building definitions.yaml"
    (
      cd "$folder" || exit
      work=$(mktemp -d)
      trap 'rm -rf "$work"' EXIT
      go run sigs.k8s.io/controller-tools/cmd/controller-gen crd:crdVersions=v1 output:crd:dir="$work" \
        paths=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1
      for kind in servicemonitors prometheusrules; do cat "$work/monitoring.coreos.com_$kind.yaml"; done
      echo ---
      # No package of it is compiled, so nothing before has downloaded it, and its folder would have no name.
      go mod download sigs.k8s.io/gateway-api
      cat "$(go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)/config/crd/standard/gateway.networking.k8s.io_referencegrants.yaml"
    ) > "$kept.part"
    mv "$kept.part" "$kept"
  fi
  ln -sfn "$kept" "$BIN/definitions.yaml"
}

# The driver's conformance test, without a cluster. Its processes and mounts end with its namespaces; when it is killed, the next
# `down` detaches its loop devices, which it knows by their folder.
sanity() {
  local dir=$STATE/sanity status=0 device
  rm -rf "$dir"; mkdir -p "$dir"
  DIR=$dir BIN=$BIN setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc --propagation private bash -c '
    "$BIN/hostdisk" --dir "$DIR/volumes" --node n --endpoint "$DIR/csi.sock" 2> "$DIR/driver.log" &
    status=0
    "$BIN/csi-sanity" --csi.endpoint "$DIR/csi.sock" --csi.mountdir "$DIR/mount" --csi.stagingdir "$DIR/staging" \
      --ginkgo.no-color || status=$?
    kill $!; wait $! || true; exit $status' || status=$?
  [ "$status" = 0 ] || cat "$dir/driver.log" >&2
  losetup -l -n -O NAME,BACK-FILE | while read -r device file; do [[ "$file" != "$dir"/* ]] || losetup -d "$device"; done
  rm -rf "$dir"
  return "$status"
}

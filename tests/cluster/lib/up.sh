# Sourced by cluster: bringing the cluster up and down.
# shellcheck shell=bash
up() {
  ! is_up || fail "a cluster is up already (state folder: $STATE)"
  mkdir -p "$LOGS" "$RUN" "$STATE"/{etc/cni,etcd,var,ctd/root,ctd/state,volumes}
  rm -rf "$STATE/etcd/data" "$RUN/ready"
  render "$HERE/etc/containerd.toml" > "$STATE/etc/containerd.toml"
  render "$HERE/etc/kubelet.yaml" > "$STATE/etc/kubelet.yaml"
  render "$HERE/etc/cni.conflist" > "$STATE/etc/cni/10-test.conflist"
  mkdir -p "$STATE/etc/registries/$REGISTRY"
  render "$HERE/etc/hosts.toml" > "$STATE/etc/registries/$REGISTRY/hosts.toml"
  pki
  namespaces; runtime; control_plane; node; storage
  until_ok 300 "the default service account" "$BIN/kubectl" --kubeconfig "$STATE/kubeconf/admin.conf" get serviceaccount default
}

namespaces() {
  STATE=$STATE NODE=$NODE NODE_IP=$NODE_IP setsid unshare -n -m -p -u --propagation private --fork --mount-proc \
    "$HERE/lib/namespace-init" > "$LOGS/namespaces.log" 2>&1 < /dev/null &
  local outer=$! i
  for ((i = 0; i < 200; i++)); do [ -e "$RUN/ready" ] && break; sleep 0.05; done
  [ -e "$RUN/ready" ] || fail "the namespaces were not made; see $LOGS/namespaces.log"
  tr -d ' ' < "/proc/$outer/task/$outer/children" > "$RUN/init.pid"
}

runtime() {
  start containerd "$BIN/containerd" --config "$STATE/etc/containerd.toml"
  until_ok 200 containerd "$BIN/ctr" -a "$CONTAINERD_SOCKET" version
}

control_plane() {
  start etcd "$BIN/etcd" --name test --data-dir "$STATE/etcd/data" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 \
    --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380 \
    --initial-cluster test=http://127.0.0.1:12380
  rm -f "$LOGS/audit.log"
  # The alpha gate lets a dataSourceRef name another namespace; it changes nothing for other claims.
  # shellcheck disable=SC2086 # extra flags are a list of words
  start apiserver "$HERE/lib/restarted" "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:12379 --bind-address=0.0.0.0 --secure-port=$API_PORT \
    --advertise-address=$NODE_IP --service-cluster-ip-range=$SVC_NET --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --allow-privileged=true --client-ca-file="$PKI/ca.crt" \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --cert-dir="$PKI" \
    --kubelet-client-certificate="$PKI/apiserver-kubelet.crt" --kubelet-client-key="$PKI/apiserver-kubelet.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc --service-account-signing-key-file="$PKI/sa.key" \
    --service-account-key-file="$PKI/sa.pub" --requestheader-client-ca-file="$PKI/front-ca.crt" \
    --requestheader-allowed-names=front-proxy --requestheader-username-headers=X-Remote-User \
    --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$PKI/front-proxy.crt" --proxy-client-key-file="$PKI/front-proxy.key" \
    --audit-policy-file="$HERE/etc/audit.yaml" --audit-log-path="$LOGS/audit.log" \
    --feature-gates=CrossNamespaceVolumeDataSource=true ${APISERVER_EXTRA:-}
  images
  local admin=("$BIN/kubectl" --kubeconfig "$STATE/kubeconf/admin.conf")
  until_ok 900 kube-apiserver "${admin[@]}" get --raw /readyz
  # shellcheck disable=SC2086
  start controller-manager "$BIN/kube-controller-manager" --kubeconfig="$STATE/kubeconf/kcm.conf" \
    --authentication-kubeconfig="$STATE/kubeconf/kcm.conf" --authorization-kubeconfig="$STATE/kubeconf/kcm.conf" \
    --bind-address=127.0.0.1 --leader-elect=false --root-ca-file="$PKI/ca.crt" \
    --service-account-private-key-file="$PKI/sa.key" --use-service-account-credentials=true --cert-dir="$RUN/kcm" \
    --feature-gates=CrossNamespaceVolumeDataSource=true ${KCM_EXTRA:-}
  start scheduler "$BIN/kube-scheduler" --kubeconfig="$STATE/kubeconf/scheduler.conf" \
    --authentication-kubeconfig="$STATE/kubeconf/scheduler.conf" --authorization-kubeconfig="$STATE/kubeconf/scheduler.conf" \
    --bind-address=127.0.0.1 --leader-elect=false --cert-dir="$RUN/scheduler"
}

node() {
  # The kubelet's parent cgroup must exist with every controller; in version 1 in every hierarchy, cpusets filled in.
  local c
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$CGROUP"
    # shellcheck disable=SC2013 # words of one line
    for c in $(cat /sys/fs/cgroup/cgroup.controllers); do
      grep -qw "$c" "/sys/fs/cgroup/$CGROUP/cgroup.controllers" || echo "+$c" > /sys/fs/cgroup/cgroup.subtree_control
    done
  fi
  for c in cpu cpuacct cpuset memory devices freezer blkio pids systemd unified; do
    [ ! -d /sys/fs/cgroup/$c ] || mkdir -p "/sys/fs/cgroup/$c/$CGROUP"
  done
  if [ -d /sys/fs/cgroup/cpuset ]; then
    for c in cpus mems; do cat /sys/fs/cgroup/cpuset/cpuset.$c > "/sys/fs/cgroup/cpuset/$CGROUP/cpuset.$c"; done
  fi
  start kubelet "$BIN/kubelet" --config="$STATE/etc/kubelet.yaml" --kubeconfig="$STATE/kubeconf/kubelet.conf" \
    --hostname-override="$NODE" --node-ip="$NODE_IP" --root-dir=/var/lib/kubelet --cert-dir="$RUN/kubelet-pki" --v=2
  start kube-proxy "$BIN/kube-proxy" --kubeconfig="$STATE/kubeconf/admin.conf" --hostname-override="$NODE" --proxy-mode=iptables \
    --cluster-cidr="$POD_NET" --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 \
    --bind-address="$NODE_IP" --healthz-bind-address=127.0.0.1:10256 --metrics-bind-address=127.0.0.1:10249 --oom-score-adj=0
  until_ok 900 "the node" "$BIN/kubectl" --kubeconfig "$STATE/kubeconf/admin.conf" wait --for=condition=Ready --timeout=1s "node/$NODE"
}

storage() {
  until_ok 300 "kubelet's plugin folder" test -d /var/lib/kubelet/plugins_registry
  start hostdisk "$BIN/hostdisk" --dir "$STATE/volumes" --node "$NODE" --endpoint /var/lib/kubelet/plugins/hostdisk.sock \
    --registration /var/lib/kubelet/plugins_registry/hostdisk-reg.sock
  until_ok 100 hostdisk test -S /var/lib/kubelet/plugins/hostdisk.sock
  start csi-provisioner "$BIN/csi-provisioner" --csi-address=/var/lib/kubelet/plugins/hostdisk.sock \
    --kubeconfig="$STATE/kubeconf/admin.conf" --feature-gates=Topology=true --immediate-topology=true --strict-topology=true --timeout=60s --v=2
  kubectl apply -f - < "$HERE/etc/storage.yaml" > /dev/null
  kubectl apply -f - < "$HERE/etc/definitions.yaml" > /dev/null
  # On the server: too large for the annotation that a client would write.
  kubectl apply --server-side -f - < "$BIN/definitions.yaml" > /dev/null
  until_ok 300 "the CSI driver" sh -c "'$BIN/kubectl' --kubeconfig '$STATE/kubeconf/admin.conf' get csinode '$NODE' \
    -o 'jsonpath={.spec.drivers[0].name}' | grep -q hostdisk"
}

# Enforces NetworkPolicies until it is ended, and refuses nothing afterwards. Not always: each change of a pod rewrites the node's
# rules, and the other tests need none.
enforce() {
  inside "$BIN/network-policies" --kubeconfig "$STATE/kubeconf/admin.conf" --node "$NODE" --service-cidr "$SVC_NET" > "$LOGS/network-policies.log" 2>&1
}

images() { # pause, busybox, and two that are no movers: one does nothing, one takes all memory; from programs on this machine
  mkdir -p "$STATE/img"
  # The last image of the list shows whether all were built from the present sources.
  local from stale=
  for from in "$HERE/images/pause.c" "$HERE/images/mkimage.py" "$HERE/lib/up.sh"; do
    [ "$STATE/img/glutton.tar" -nt "$from" ] || stale=1
  done
  if [ -n "$stale" ]; then
    (
      cd "$STATE/img" || exit
      rm -f ./*.tar
      gcc -static -Os -s -o pause "$HERE/images/pause.c"
      python3 "$HERE/images/mkimage.py" pause.tar localhost/test/pause:1 --bin pause:/pause --entry /pause > /dev/null
      links=()
      for applet in $(busybox --list | grep -vx busybox); do links+=(--link "/bin/$applet:/bin/busybox"); done
      python3 "$HERE/images/mkimage.py" box.tar localhost/test/box:1 --bin /bin/busybox:/bin/busybox "${links[@]}" \
        --dir /tmp:1777 --dir /etc --dir /proc --dir /sys --dir /dev \
        --file $'/etc/passwd=root:x:0:0:root:/:/bin/sh\nqemu:x:107:107:qemu:/:/bin/sh\n' \
        --file $'/etc/group=root:x:0:\nqemu:x:107:\n' --cmd /bin/sh > /dev/null
      # Exits with 0 and does nothing.
      python3 "$HERE/images/mkimage.py" idle.tar localhost/test/idle:1 --bin /bin/busybox:/bin/busybox \
        --link /bin/true:/bin/busybox --dir /dev --entry /bin/true > /dev/null
      # Reads a file without an end: whatever its arguments, it takes more and more memory.
      python3 "$HERE/images/mkimage.py" glutton.part localhost/test/glutton:1 --bin /bin/busybox:/bin/busybox \
        --link /bin/sh:/bin/busybox --link /bin/tail:/bin/busybox --dir /dev --entry "/bin/sh,-c,exec tail /dev/zero" > /dev/null
      mv glutton.part glutton.tar
    )
  fi
  local tar
  for tar in "$STATE"/img/*.tar; do image "$tar"; done
}

# Builds and imports this checkout's images, except those that have not changed since the last import.
images_of_this_checkout() {
  local tar
  POPULATORS_CACHE=$POPULATORS_CACHE "$HERE/../../images/build" "$IMAGES" "$(dpkg --print-architecture)=$1"
  for tar in "$IMAGES"/*.tar; do
    local mark; mark=$RUN/imported-$(basename "$tar")
    [ "$mark" -nt "$tar" ] || { image "$tar"; touch "$mark"; }
  done
}

# Starts a registry at the node's address, unless it runs, and prints its name. The kubelet pulls from it over TLS, as from others.
registry() {
  if [ ! -e "$RUN/registry/config.yml" ]; then
    mkdir -p "$RUN/registry"
    render "$HERE/etc/registry.yaml" > "$RUN/registry/config.yml"
    start registry docker-registry serve "$RUN/registry/config.yml"
    until_ok 100 "the registry" curl -sS --fail --cacert "$PKI/ca.crt" "https://$REGISTRY/v2/"
  fi
  echo "$REGISTRY"
}
# Pushes the images that images/build made in a folder, and fails when the registry has another digest.
push() { # folder prefix
  local name wanted got
  skopeo() { inside env SSL_CERT_FILE="$PKI/ca.crt" skopeo --insecure-policy "$@"; }
  while read -r name wanted; do
    skopeo copy --quiet --all "oci-archive:$1/$name.tar" "docker://$2/$name:pushed" < /dev/null
    got=$(skopeo inspect --raw "docker://$2/$name:pushed" < /dev/null | sha256sum)
    [ "sha256:${got%% *}" = "$wanted" ] || fail "$name has the digest ${got%% *} in the registry, and $wanted in $1"
  done < "$1/digests"
}

image() { # imports an OCI image tar
  inside "$BIN/ctr" -a "$CONTAINERD_SOCKET" -n k8s.io images import "$(realpath "$1")" > /dev/null
}

# The kernel may have given the number of an ended process to another one.
is_up() {
  local pid; pid=$(cat "$RUN/init.pid" 2> /dev/null) && [ -n "$pid" ] &&
    grep -qzxF "STATE=$STATE" "/proc/$pid/environ" 2> /dev/null && grep -qzF namespace-init "/proc/$pid/cmdline" 2> /dev/null
}

nothing_left() {
  local left
  left=$(loops)
  left+=$(grep -F " $STATE/" /proc/self/mounts || true)
  left+=$(find /sys/fs/cgroup -maxdepth 2 \( -name "$CGROUP" -o -name "${CGROUP}cri" \) 2> /dev/null || true)
  # The path is read from a file, or this very grep would be found by its arguments.
  left+=$(grep -lFs -f <(echo "$STATE/") /proc/[0-9]*/cmdline 2> /dev/null || true)
  # Every process in the namespaces, pods too, has folders of this one among its mounts, by their path in the file system.
  mkdir -p "$STATE"
  local root target; read -r root target < <(findmnt -n -o FSROOT,TARGET -T "$STATE")
  left+=$(grep -lF " ${root%/}${STATE#"${target%/}"}/var/" /proc/[0-9]*/mountinfo 2> /dev/null || true)
  [ -z "$left" ] || fail "the cluster is down, and this is left of it: $left"
}

down() { # one kill of the namespaces' init ends every process; mounts and network go with them
  if is_up; then
    local pid; pid=$(cat "$RUN/init.pid")
    kill -KILL "$pid"
    local i
    for ((i = 0; i < 1200; i++)); do
      [ -d "/proc/$pid" ] && ! grep -q '^State:.*[ZX]' "/proc/$pid/status" 2> /dev/null || break
      sleep 0.05
    done
  fi
  detach_loops; remove_cgroups
  rm -rf "$RUN" "${STATE:?}"/var "$STATE"/ctd/state "$STATE"/volumes "$STATE"/etcd "$STATE"/sanity
}

# Volumes' loop devices, and the kubelet's own lock on a block volume, which is another loop device over the first.
detach_loops() {
  local device i left
  for ((i = 0; i < 50; i++)); do
    left=$(loops)
    [ -n "$left" ] || return 0
    for device in $left; do losetup -d "$device" 2> /dev/null || true; done
    sleep 0.1
  done
  fail "loop devices are still attached: $(losetup -l -n -O NAME,BACK-FILE)"
}

# Names of the loop devices of this cluster, each lock before its device. The path of a lock depends on the mount namespaces
# that are left, so the lock is found by the inode of its device.
loops() {
  local volumes name
  volumes=$(losetup -l -n -O NAME,BACK-FILE 2> /dev/null | awk -v state="$STATE/" 'index($2, state) == 1 { print $1 }')
  for name in $volumes; do
    losetup -l -n -O NAME,BACK-MAJ:MIN,BACK-INO 2> /dev/null |
      awk -v inode="$(stat -c '%Hd:%Ld %i' "$name")" '$2 " " $3 == inode { print $1 }'
  done
  echo "$volumes"
}

remove_cgroups() {
  local top c
  for top in "$CGROUP" "${CGROUP}cri"; do
    for c in /sys/fs/cgroup/"$top" /sys/fs/cgroup/*/"$top"; do
      [ ! -d "$c" ] || find "$c" -depth -type d -exec rmdir {} \; 2> /dev/null || true
    done
  done
}

# Sourced by cluster: certificates, once per state folder, and kubeconfigs.
# shellcheck shell=bash
pki() {
  mkdir -p "$PKI" "$STATE/kubeconf"
  local user
  for user in admin kcm scheduler kubelet; do
    cat > "$STATE/kubeconf/$user.conf" << K
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$NODE_IP:$API_PORT", certificate-authority: $PKI/ca.crt}}]
users: [{name: $user, user: {client-certificate: $PKI/$user.crt, client-key: $PKI/$user.key}}]
contexts: [{name: test, context: {cluster: test, user: $user}}]
current-context: test
K
  done
  [ ! -f "$PKI/done" ] || return 0
  (
    cd "$PKI" || exit
    local usage=$'keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n'
    authority() {
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$1" -keyout "$1.key" \
        -out "$1.crt" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature 2> /dev/null
    }
    certificate() { # file subject authority [names]
      openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2> /dev/null
      openssl x509 -req -in "$1.csr" -CA "$3.crt" -CAkey "$3.key" -CAcreateserial -days 3650 -out "$1.crt" \
        -extfile <(printf '%s' "$usage"; [ -z "${4:-}" ] || echo "subjectAltName=$4") 2> /dev/null
    }
    authority ca; authority front-ca
    openssl genrsa -out sa.key 2048 2> /dev/null
    openssl rsa -in sa.key -pubout -out sa.pub 2> /dev/null
    certificate apiserver /CN=kube-apiserver ca \
      "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:$NODE_IP"
    certificate kubelet-server "/O=system:nodes/CN=system:node:$NODE" ca "DNS:$NODE,IP:$NODE_IP,IP:127.0.0.1"
    certificate admin /O=system:masters/CN=admin ca
    certificate apiserver-kubelet /O=system:masters/CN=apiserver-kubelet ca
    certificate kcm /CN=system:kube-controller-manager ca
    certificate scheduler /CN=system:kube-scheduler ca
    certificate kubelet "/O=system:nodes/CN=system:node:$NODE" ca
    certificate front-proxy /CN=front-proxy front-ca
    touch "done"
  )
}

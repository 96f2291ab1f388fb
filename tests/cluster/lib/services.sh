# Sourced by cluster: the sources that populators read from, inside the namespaces at the node's address.
# shellcheck shell=bash
services() {
  local scripts=$HERE/../services service
  export SERVICES_HOST=$NODE_IP POPULATORS_CACHE
  "$scripts/packages"
  for service in imageio openstack; do "$scripts/$service/install"; done
  "$scripts/openstack/init"
  # The services keep their state in one fixed place; in here it is a folder of the cluster.
  mkdir -p "$RUN/services" /run/populators
  inside mount --bind "$RUN/services" /run/populators
  local starting=() pid
  for service in imageio openstack; do inside "$scripts/$service/start" & starting+=($!); done
  for pid in "${starting[@]}"; do
    wait "$pid" || fail "$(tail -n 20 "$RUN"/services/*/log/*)"
  done
  # Paths in there are those inside.
  {
    cat "$RUN"/services/*/env
    # For what a test starts beside them.
    printf '%s\n' "SERVICES_HOST=$NODE_IP" "POPULATORS_CACHE=$POPULATORS_CACHE"
  } > "$RUN/environment"
}

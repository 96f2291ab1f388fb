# Sourced by the scripts beside it.
# shellcheck shell=bash disable=SC2034 # the scripts use these variables
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../lib.sh"

OPENSTACK=$SERVICES/openstack
DIR=$STATE/openstack
CONSTRAINTS=$OPENSTACK/constraints.txt
VENV=$(venv openstack "$CONSTRAINTS")
CINDER_CONSTRAINTS=$OPENSTACK/cinder-constraints.txt # beside those of the others, which they include
CINDER_VENV=$(venv cinder "$CONSTRAINTS" "$CINDER_CONSTRAINTS")
# Pods of tests/cluster need the node's address. Ports are below the range of ephemeral ones.
ADDRESS=${SERVICES_HOST:-127.0.0.1}
KEYSTONE_HTTP=$ADDRESS:15000 KEYSTONE_TLS=$ADDRESS:15443
KEYSTONE_SHORT=$ADDRESS:15001 # same database and keys, but its tokens live for ten seconds
GLANCE_HTTP=$ADDRESS:19292 GLANCE_TLS=$ADDRESS:19443
GLANCE_SLOW=$ADDRESS:19293 # forwards to GLANCE_HTTP, at a bounded pace for all connections together
GLANCE_UNCACHED=$ADDRESS:19294 # same images, but every request makes it ask Keystone about the token
MEMCACHED=$ADDRESS:15211
CINDER_HTTP=$ADDRESS:18776
CINDER=$DIR/cinder
CINDER_CONFIG=$DIR/etc/cinder/cinder.conf

initialised() { # prints the folder of the initialised state that belongs to these scripts
    echo "$CACHE/openstack-$(cat "$OPENSTACK"/{init,lib.sh,seed.py,*.in} "$SERVICES/pki" <(echo "$VENV $ADDRESS") | fingerprint -)"
}

serve() { # NAME CONFIG_VARIABLE=DIR MODULE HTTP_KIND=ADDRESS TLS PROCESSES THREADS [OPTION...]
    # --no-orphans and a short mercy, so that no worker holds a port after its master has ended.
    # Glance takes uploads of unknown length only with a limit and a timeout for chunks.
    env "$2" "$VENV/bin/uwsgi" --venv "$VENV" --module "$3" --callable application \
        "--$4" ${5:+--https-socket "$5,$STATE/pki/cert.pem,$STATE/pki/key.pem"} \
        --master --die-on-term --processes "$6" --threads "$7" --enable-threads --lazy-apps \
        --buffer-size 65535 --so-keepalive --worker-reload-mercy 1 --no-orphans \
        --http-chunked-input --chunked-input-limit 16777216 --chunked-input-timeout 60 \
        "${@:8}" \
        > "$DIR/log/$1.out" 2>&1 < /dev/null &
    echo $! > "$DIR/$1.pid"
}

# One request at a time, and no connection kept: two that write at once would find SQLite locked.
serve_keystone() { # NAME HTTP TLS
    serve "$1" "OS_KEYSTONE_CONFIG_DIR=$DIR/etc/$1" keystone.wsgi.api "http-socket=$2" "$3" 1 1 \
        --add-header "Connection: close" --req-logger "file:$DIR/log/$1.requests" --log-format '%(method) %(uri) %(status)'
}

serve_glance() { # NAME HTTP TLS
    serve "$1" "OS_GLANCE_CONFIG_DIR=$DIR/etc/$1" glance.wsgi.api "http11-socket=$2" "$3" 2 8 --disable-logging
}

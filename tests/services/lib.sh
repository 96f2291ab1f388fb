# Sourced by the scripts of this folder: where things are, and the few steps they share.
# shellcheck shell=bash
set -euo pipefail

SERVICES=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
CACHE=${POPULATORS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/volume-populators}/services
# Configuration files hold absolute paths, so the state of the running services has one fixed place.
# `run` mounts a folder of its own over it, in a mount namespace of its own.
STATE=/run/populators
PYTHON=${PYTHON:-/usr/bin/python3}

fingerprint() { # FILE...: one short hash over their contents
    cat "$@" | sha256sum | cut -c1-16
}

once() { # DIR COMMAND...: runs COMMAND to fill DIR, unless an earlier call did; one process at a time
    [ ! -e "$1/.complete" ] || return 0
    mkdir -p "$CACHE"
    (
        flock --timeout 1800 9 || { echo "another process has held $1.lock for 30 minutes" >&2; exit 1; }
        [ ! -e "$1/.complete" ] || exit 0
        rm -rf "$1"
        mkdir -p "$1"
        "${@:2}" "$1" > "$1.log" 2>&1 9>&- || { tail -n 40 "$1.log" >&2; echo "failed: ${*:2}; see $1.log" >&2; exit 1; }
        touch "$1/.complete"
    ) 9> "$1.lock"
}

venv() { # NAME CONSTRAINTS...: prints the folder of the virtual environment with these packages
    echo "$CACHE/venv-$1-$( (cat "${@:2}"; "$PYTHON" --version) | fingerprint -)"
}

fill_venv() { # CONSTRAINTS PACKAGE... DIR
    local constraints=$1 dir=${*: -1}
    "$PYTHON" -m venv "$dir"
    # As variables they bind the isolated builds too (pip >= 25.3 has a name of its own for that). The
    # cache is ours: a user's may hold uwsgi compiled for another Python of the same version.
    PIP_CACHE_DIR=$CACHE/pip PIP_CONSTRAINT=$constraints PIP_BUILD_CONSTRAINT=$constraints PIP_USE_PEP517=1 \
        "$dir/bin/pip" install -q --disable-pip-version-check "${@:2:$#-2}"
}

pki() { # prints the folder with ca.pem, cert.pem, key.pem; made on first use
    local dir
    dir=$CACHE/pki-$(fingerprint "$SERVICES/pki")
    once "$dir" "$SERVICES/pki"
    echo "$dir"
}

publish_pki() { # DIR: copies it to where the services look for it; they start side by side
    mkdir -p "$STATE/pki"
    flock --timeout 60 "$STATE/pki" cp -u "$1"/*.pem "$STATE/pki/"
}

alive() { # PIDFILE; a zombie counts as gone, since its parent may collect it late
    [ -s "$1" ] && grep -qs '^State:.[^ZX]' "/proc/$(cat "$1")/status"
}

wait_until() { # PIDFILE COMMAND...: until COMMAND succeeds; gives up after two minutes or when the process ends
    local end=$((SECONDS + 120))
    while alive "$1" && [ $SECONDS -lt $end ]; do
        "${@:2}" > /dev/null 2>&1 && return
        sleep 0.05
    done
    echo "not ready: ${*:2}; see the logs beside $1" >&2
    return 1
}

stop_pid() { # PIDFILE
    local pid
    if alive "$1"; then
        pid=$(cat "$1")
        kill "$pid" || true
        for _ in $(seq 100); do alive "$1" || break; sleep 0.05; done
        ! alive "$1" || kill -9 "$pid"
    fi
    rm -f "$1"
}

fetch() { # URL: succeeds when anything answers
    curl -s --noproxy '*' -o /dev/null --max-time 2 --cacert "$STATE/pki/ca.pem" "$1"
}

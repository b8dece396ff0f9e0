#!/usr/bin/env bash
# Single-node Ceph RGW (S3) for tests: one monitor, one OSD, one radosgw, no cephx, pool size 1.
#   s3-rgw.sh start|stop|status|env DATA_DIR
# Needs Debian's radosgw, ceph-mon and ceph-osd (ceph-common comes along).  No ceph-mgr is started.
# Settings by environment: RGW_PORT (17480; the cluster uses RGW_PORT+1 .. RGW_PORT+40),
#   RGW_STORE=memstore|bluestore, RGW_STORE_MB (4096),
#   RGW_TLS_PEM (certificate and key in one file) with RGW_TLS_PORT: HTTPS there, beside HTTP,
#   RGW_LC_SECONDS (one lifecycle "day" lasts that many seconds), S3_ACCESS_KEY, S3_SECRET_KEY.
# Environment lines are printed on stdout, progress on stderr:  eval "$(./s3-rgw.sh start DIR)"
set -euo pipefail

cmd=${1:-}; dir=${2:-}
if [ -z "$cmd" ] || [ -z "$dir" ]; then
    echo "usage: $0 start|stop|status|env DATA_DIR" >&2; exit 2
fi
PORT=${RGW_PORT:-17480}
STORE=${RGW_STORE:-memstore}
STORE_MB=${RGW_STORE_MB:-4096}
ACCESS=${S3_ACCESS_KEY:-dev-access-key}
SECRET=${S3_SECRET_KEY:-dev-secret-key-for-tests-only}
LC=${RGW_LC_SECONDS:-}
ENDPOINT="endpoint=127.0.0.1:$PORT"
if [ -n "${RGW_TLS_PEM:-}" ]; then
    ENDPOINT="$ENDPOINT ssl_endpoint=127.0.0.1:$RGW_TLS_PORT ssl_certificate=$(realpath "$RGW_TLS_PEM")"
fi
mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
conf=$dir/ceph.conf
say() { echo "s3-rgw: $*" >&2; }

alive() { # pid file, program name
    local p; p=$(cat "$1" 2>/dev/null) || return 1
    [ -n "$p" ] && [ -r "/proc/$p/comm" ] && grep -q "$2" "/proc/$p/comm"
}

gone() { # pid: ended, be it that nobody has asked for its exit code yet
    ! kill -0 "$1" 2>/dev/null || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

stop_one() { # pid file, program name
    local p i
    if alive "$1" "$2"; then
        # what memstore holds is dropped anyway: nothing to wait for
        local how=TERM; if [ "$STORE" = memstore ]; then how=KILL; fi
        p=$(cat "$1"); kill -"$how" "$p" 2>/dev/null || true
        for i in $(seq 200); do gone "$p" && break; sleep 0.05; done
        gone "$p" || kill -KILL "$p" 2>/dev/null || true
    fi
    rm -f "$1"
}

launch() { # name, then the command; kept in the foreground mode so that $! is its pid
    local name=$1 prog=$2 i; shift
    setsid nohup "$@" >"$dir/$name.out" 2>&1 </dev/null &
    echo $! >"$dir/$name.pid"
    # until exec the process bears another name and would pass for dead
    for i in $(seq 1500); do
        alive "$dir/$name.pid" "$prog" && return
        gone "$(cat "$dir/$name.pid")" && return
        sleep 0.02
    done
}

# every step of start is chained by hand: "start || stop" switches errexit off inside it
wait_for() { # seconds, pid file, program, then the test command
    local end=$((SECONDS + $1)) pidf=$2 prog=$3; shift 3
    while ! "$@" >/dev/null 2>&1; do
        if ! alive "$pidf" "$prog"; then say "$prog died, see $dir"; tail -5 "${pidf%.pid}.out" >&2; return 1; fi
        if [ $SECONDS -ge $end ]; then say "$prog not ready in time"; return 1; fi
        sleep 0.1
    done
}

http_ok() { # any HTTP answer below 500
    local c; c=$(curl -s -o /dev/null -m 10 -w '%{http_code}' "http://127.0.0.1:$PORT/") || return 1
    [ "$c" -ge 200 ] && [ "$c" -lt 500 ]
}

print_env() {
    cat <<ENV
export S3_ENDPOINT_URL=http://127.0.0.1:$PORT
export AWS_ENDPOINT_URL_S3=http://127.0.0.1:$PORT
export AWS_ACCESS_KEY_ID=$ACCESS
export AWS_SECRET_ACCESS_KEY=$SECRET
export AWS_DEFAULT_REGION=us-east-1
export AWS_REQUEST_CHECKSUM_CALCULATION=when_required
export AWS_RESPONSE_CHECKSUM_VALIDATION=when_required
ENV
}

write_conf() {
    cat >"$conf" <<CONF
[global]
fsid = $(cat "$dir/fsid")
mon host = v2:127.0.0.1:$((PORT + 1))
auth cluster required = none
auth service required = none
auth client required = none
# radosgw's built-in default asks for an encrypted monitor link, which needs cephx
ms mon client mode = crc
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms bind port min = $((PORT + 2))
ms bind port max = $((PORT + 40))
run dir = $dir
admin socket = $dir/\$name.asok
log file = $dir/\$name.log
log flush on exit = false
crash dir = $dir/crash
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 2000
mon initial members = a
[mon]
mon data = $dir/mon
mon data avail crit = 1
paxos propose interval = 0.05
mon cluster log file = $dir/cluster.log
[osd]
osd data = $dir/osd
osd objectstore = $STORE
memstore device bytes = ${STORE_MB}M
bluestore block create = true
bluestore block size = ${STORE_MB}M
bluestore fsck on mount = false
bluestore cache autotune = false
bluestore cache size = 134217728
osd op num shards = 2
osd op num threads per shard = 2
osd scrub auto repair = false
osd class load list = *
osd class default list = *
[client.rgw]
rgw frontends = beast $ENDPOINT
rgw data = $dir/rgw
rgw thread pool size = 32
rgw enable usage log = false
rgw crypt require ssl = false
rgw rados pool pg num min = 4
${LC:+rgw lc debug interval = $LC}
CONF
}

ceph_q() { ceph -c "$conf" --connect-timeout 5 "$@"; }

start() {
    local t0=$SECONDS fresh=
    if alive "$dir/rgw.pid" radosgw && http_ok; then say "already running"; print_env; return; fi
    [ -s "$dir/fsid" ] || cat /proc/sys/kernel/random/uuid >"$dir/fsid"
    mkdir -p "$dir/mon" "$dir/osd" "$dir/rgw" "$dir/crash"
    write_conf
    if ! alive "$dir/mon.pid" ceph-mon; then
        if [ ! -e "$dir/mon/store.db" ]; then
            monmaptool --create --clobber --fsid "$(cat "$dir/fsid")" \
                --addv a "[v2:127.0.0.1:$((PORT + 1))]" "$dir/monmap" >/dev/null
            ceph-mon -c "$conf" --mkfs -i a --monmap "$dir/monmap" >/dev/null
        fi
        launch mon ceph-mon -f -c "$conf" -i a
    fi
    wait_for 75 "$dir/mon.pid" ceph-mon ceph_q mon stat || return 1
    # memstore keeps its objects in memory: after a stop the old cluster state is useless
    if ! alive "$dir/osd.pid" ceph-osd; then
        if [ ! -e "$dir/osd/ready" ]; then
            fresh=1
            ceph_q osd new "$(cat "$dir/fsid")" 0 >/dev/null
            ceph-osd -c "$conf" --mkfs -i 0 --osd-uuid "$(cat "$dir/fsid")" >/dev/null 2>"$dir/osd-mkfs.out"
            touch "$dir/osd/ready"
        fi
        launch osd ceph-osd -f -c "$conf" -i 0
    fi
    wait_for 75 "$dir/osd.pid" ceph-osd bash -c "ceph -c '$conf' --connect-timeout 5 osd stat | grep -q '1 up.* 1 in'" || return 1
    if ! alive "$dir/rgw.pid" radosgw; then
        launch rgw radosgw -f -c "$conf" -n client.rgw
    fi
    wait_for 90 "$dir/rgw.pid" radosgw http_ok || return 1
    if [ ! -e "$dir/user.json" ]; then
        radosgw-admin -c "$conf" -n client.rgw user create --uid=dev --display-name=dev \
            --access-key="$ACCESS" --secret-key="$SECRET" >"$dir/user.json.tmp" 2>"$dir/admin.out" || return 1
        mv "$dir/user.json.tmp" "$dir/user.json"
    fi
    say "ready after $((SECONDS - t0)) s ($STORE${fresh:+, new})"
    print_env
}

stop() {
    stop_one "$dir/rgw.pid" radosgw
    stop_one "$dir/osd.pid" ceph-osd
    stop_one "$dir/mon.pid" ceph-mon
    if [ "$STORE" = memstore ]; then rm -rf "$dir/mon" "$dir/osd" "$dir/rgw" "$dir/user.json" "$dir/fsid"; fi
    say stopped
}

case $cmd in
    start) start || { stop; exit 1; } ;;
    stop) stop ;;
    status) for d in mon:ceph-mon osd:ceph-osd rgw:radosgw; do
                if alive "$dir/${d%%:*}.pid" "${d##*:}"; then echo "${d##*:} pid $(cat "$dir/${d%%:*}.pid")"; else echo "${d##*:} down"; fi
            done ;;
    env) print_env ;;
    *) echo "unknown: $cmd" >&2; exit 2 ;;
esac

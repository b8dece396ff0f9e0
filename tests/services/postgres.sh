#!/usr/bin/env bash
# Throwaway PostgreSQL cluster for tests, run by a user that is not root.
#   postgres.sh start|restart|stop|status|env DATA_DIR
# Needs Debian's postgresql-15 (any version under /usr/lib/postgresql works; the newest is taken).
# Settings by environment: PGTEST_PORT (17432), PGTEST_USER_OS (nobody when root, else the caller),
#   PGTEST_BIN (a folder of another PostgreSQL's programs), PGTEST_DURABLE=1 (fsync on), PGTEST_TLS_CERT and PGTEST_TLS_KEY (switch TLS on).
#   PGTEST_MODE=fast|smart|immediate (how it is restarted; fast).
# Listens on 127.0.0.1 and on a socket inside DATA_DIR.   eval "$(./postgres.sh start DIR)"
set -euo pipefail

cmd=${1:-}; dir=${2:-}
if [ -z "$cmd" ] || [ -z "$dir" ]; then
    echo "usage: $0 start|restart|stop|status|env DATA_DIR" >&2; exit 2
fi
PORT=${PGTEST_PORT:-17432}
bin=${PGTEST_BIN:-$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1 || true)}
if [ -z "$bin" ] || [ ! -x "$bin/initdb" ]; then echo "postgres: apt-get install postgresql-15" >&2; exit 3; fi
mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
data=$dir/pgdata
say() { echo "postgres: $*" >&2; }

owner=$(id -un)
if [ "$(id -u)" = 0 ]; then owner=${PGTEST_USER_OS:-nobody}; fi
as_owner() {
    if [ "$(id -u)" = 0 ]; then setpriv --reuid "$owner" --regid "$(id -g "$owner")" --clear-groups env HOME="$dir" "$@"; else "$@"; fi
}
running() { as_owner "$bin/pg_ctl" -D "$data" status >/dev/null 2>&1; }
ready() { "$bin/pg_isready" -q -h 127.0.0.1 -p "$PORT"; }

print_env() {
    local pw; pw=$(cat "$dir/password" 2>/dev/null || true)
    cat <<ENV
export PGHOST=127.0.0.1
export PGPORT=$PORT
export PGUSER=vault
export PGPASSWORD=$pw
export PGDATABASE=vault
export DATABASE_URL=postgresql://vault:$pw@127.0.0.1:$PORT/vault
ENV
}

start() {
    local t0=$SECONDS i
    if [ -d "$data" ] && running && ready; then say "already running"; print_env; return; fi
    if [ "$(id -u)" = 0 ]; then chown "$owner" "$dir"; chmod 700 "$dir"; fi
    if [ ! -s "$data/PG_VERSION" ]; then
        [ -s "$dir/password" ] || (umask 077; od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$dir/password")
        if [ "$(id -u)" = 0 ]; then chown "$owner" "$dir/password"; fi
        as_owner "$bin/initdb" -D "$data" -U vault --pwfile="$dir/password" --auth=scram-sha-256 \
            -E UTF8 --locale=C.UTF-8 --no-sync >"$dir/initdb.out" 2>&1 || { tail -5 "$dir/initdb.out" >&2; return 1; }
        as_owner tee -a "$data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $PORT
unix_socket_directories = '$dir'
max_connections = 100
shared_buffers = 64MB
max_prepared_transactions = 10
logging_collector = off
CONF
        if [ -z "${PGTEST_DURABLE:-}" ]; then
            as_owner tee -a "$data/postgresql.conf" >/dev/null <<CONF
# commits stay synchronous (the program refuses anything else), but nothing waits for the disk
fsync = off
synchronous_commit = on
full_page_writes = off
autovacuum = off
CONF
        fi
        if [ -n "${PGTEST_TLS_CERT:-}" ]; then
            install -m 600 "$PGTEST_TLS_CERT" "$data/server.crt"; install -m 600 "$PGTEST_TLS_KEY" "$data/server.key"
            if [ "$(id -u)" = 0 ]; then chown "$owner" "$data/server.crt" "$data/server.key"; fi
            echo "ssl = on" | as_owner tee -a "$data/postgresql.conf" >/dev/null
        fi
    fi
    as_owner "$bin/pg_ctl" -D "$data" -o "-p $PORT" -l "$dir/postgres.log" -w -t 90 start >/dev/null \
        || { tail -5 "$dir/postgres.log" >&2; return 1; }
    for i in $(seq 600); do ready && break; sleep 0.1; done
    ready || { say "not ready in time"; return 1; }
    head -1 "$data/postmaster.pid" >"$dir/postgres.pid"
    if ! PGPASSWORD=$(cat "$dir/password") "$bin/psql" -h 127.0.0.1 -p "$PORT" -U vault -d postgres -Atc \
        "select 1 from pg_database where datname='vault'" | grep -q 1; then
        PGPASSWORD=$(cat "$dir/password") "$bin/createdb" -h 127.0.0.1 -p "$PORT" -U vault vault || return 1
    fi
    say "ready after $((SECONDS - t0)) s, $("$bin/postgres" --version)"
    print_env
}

stop() {
    if [ -d "$data" ] && running; then as_owner "$bin/pg_ctl" -D "$data" -m fast -w -t 90 stop >/dev/null; fi
    rm -f "$dir/postgres.pid"
    say stopped
}

restart() { # connections are cut; "immediate" also drops what was not committed, as a crash does
    local i
    as_owner "$bin/pg_ctl" -D "$data" -m "${PGTEST_MODE:-fast}" -l "$dir/postgres.log" -w -t 60 restart >/dev/null || return 1
    for i in $(seq 600); do ready && break; sleep 0.1; done
    ready || { say "not ready in time"; return 1; }
    head -1 "$data/postmaster.pid" >"$dir/postgres.pid"
    say "restarted (${PGTEST_MODE:-fast})"
}

case $cmd in
    restart) restart ;;
    start) start || { stop; exit 1; } ;;
    stop) stop ;;
    status) if [ -d "$data" ] && running; then echo "running, pid $(head -1 "$data/postmaster.pid")"; else echo down; fi ;;
    env) print_env ;;
    *) echo "unknown: $cmd" >&2; exit 2 ;;
esac

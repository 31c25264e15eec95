#!/bin/sh
# First start: makes the database cluster, the user and the database that the environment asks for; then runs the server.
# Works as root (it drops to `postgres`) and as uid 999 on a read-only root, where only PGDATA, /var/run/postgresql and
# /tmp are writable. Reads POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS (each also as NAME_FILE),
# POSTGRES_INITDB_WALDIR and POSTGRES_HOST_AUTH_METHOD.
set -eu

fail() {
  echo "postgres entrypoint: $*" >&2
  exit 1
}

# Sets NAME from the file that NAME_FILE names, or to the default.
read_setting() {
  eval "value=\${$1:-} file=\${$1_FILE:-}"
  [ -z "$value" ] || [ -z "$file" ] || fail "both $1 and $1_FILE are set: set one of them"
  if [ -n "$file" ]; then
    [ -r "$file" ] || fail "$1_FILE names $file, which cannot be read"
    value=$(cat "$file")
  fi
  [ -n "$value" ] || value=$2
  export "$1=$value"
  unset "$1_FILE"
}

initialise() {
  set -- "--username=$POSTGRES_USER" --encoding=UTF8 --auth-local=trust "--auth-host=$auth"
  [ -z "${POSTGRES_INITDB_WALDIR:-}" ] || set -- "$@" "--waldir=$POSTGRES_INITDB_WALDIR"
  password_file=$(mktemp)
  if [ -n "$POSTGRES_PASSWORD" ]; then
    printf '%s\n' "$POSTGRES_PASSWORD" >"$password_file"
    set -- "$@" "--pwfile=$password_file"
  fi
  # shellcheck disable=SC2086 # several arguments in one variable is the contract
  initdb -D "$PGDATA" "$@" $POSTGRES_INITDB_ARGS
  rm -f "$password_file"
  printf '\nhost all all all %s\n' "$auth" >>"$PGDATA/pg_hba.conf"
  printf "\nlisten_addresses = '*'\n" >>"$PGDATA/postgresql.conf"
}

# Set-up happens on the Unix socket only, so that nobody from outside meets a half-made database.
set_up() {
  pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" start
  if [ "$POSTGRES_DB" != postgres ]; then
    printf 'CREATE DATABASE :"name";\n' |
      psql -X -q -v ON_ERROR_STOP=1 -v name="$POSTGRES_DB" -U "$POSTGRES_USER" -d postgres
  fi
  for script in /docker-entrypoint-initdb.d/*; do
    case $script in
      *.sql) psql -X -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -f "$script" ;;
      *.sql.gz) gunzip -c "$script" | psql -X -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" ;;
      *.sh) sh "$script" ;;
    esac
  done
  pg_ctl -D "$PGDATA" -m fast -w stop
}

case ${1:-postgres} in
  -*) set -- postgres "$@" ;;
esac
[ "${1:-postgres}" = postgres ] || exec "$@"

mkdir -p "$PGDATA"
# A kubelet that applies fsGroup gives the group write access; the server refuses such a folder.
chmod 0700 "$PGDATA" 2>/dev/null || true
if [ "$(id -u)" = 0 ]; then
  mkdir -p /var/run/postgresql
  chown -R postgres:postgres "$PGDATA" /var/run/postgresql
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

auth=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
read_setting POSTGRES_USER postgres
read_setting POSTGRES_PASSWORD ""
read_setting POSTGRES_DB "$POSTGRES_USER"
read_setting POSTGRES_INITDB_ARGS ""
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  [ -n "$POSTGRES_PASSWORD" ] || [ "$auth" = trust ] ||
    fail "no password for the superuser: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE"
  initialise
  set_up
fi
unset POSTGRES_PASSWORD
exec "$@"

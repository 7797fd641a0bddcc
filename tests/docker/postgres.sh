#!/bin/sh
# What the tests need of the public image's entry point: POSTGRES_USER, POSTGRES_DB, POSTGRES_PASSWORD_FILE and *.sql, once.
set -eu
if [ "$(id -u)" = 0 ]; then
  install -d -o postgres -g postgres -m 700 "$PGDATA"
  install -d -o postgres -g postgres /var/run/postgresql
  exec gosu postgres "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-host=scram-sha-256 --auth-local=trust > /dev/null
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl --wait --silent --options="-c listen_addresses=''" start
  createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do psql --quiet --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --file="$file"; done
  pg_ctl --wait --silent --mode=fast stop
fi
exec postgres -c listen_addresses='*'

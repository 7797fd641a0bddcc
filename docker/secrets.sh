#!/bin/sh
# Draws the passwords that are missing. The folder is closed to other users; the files are open, since the users inside the
# containers, who alone get to see them, have other numbers.
set -eu
folder=${1:?usage: secrets.sh FOLDER}
mkdir -p "$folder" && chmod 700 "$folder"
for name in postgres_password s3_secret_key; do
  [ -s "$folder/$name" ] || { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$folder/$name" && chmod 644 "$folder/$name"; }
done

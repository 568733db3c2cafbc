#!/bin/sh
# Make what is secret, once: `make-secrets.sh FOLDER`. Each secret is a file of its own, and stays as it is if it is there.
#
# Run as root, as by docker-compose, the files belong to the groups that read them: 999 is Redis, 10001 the kit.
set -eu
umask 0377
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"

# The whole file or none: moved into place when it is complete.
keep() { # keep NAME GROUP: what comes in, as NAME
    rm -f ".$1"
    cat >".$1"
    chmod 0440 ".$1"
    if [ "$(id -u)" = 0 ]; then chgrp "$2" ".$1"; fi
    mv -f ".$1" "$1"
}

secret() { # secret NAME GROUP
    if [ ! -s "$1" ]; then
        head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' | keep "$1" "$2"
    fi
}

hash_of() {
    tr -d '\n' <"$1" | sha256sum | cut -d ' ' -f 1
}

secret redis-admin-password 999
secret redis-password 10001
secret lab-password 10001
secret lab-token 10001
secret api-keys 10001

users=$(sed -e '/^#/d' \
    -e "s/@redis-admin-password@/$(hash_of redis-admin-password)/" \
    -e "s/@redis-password@/$(hash_of redis-password)/" \
    -e "s/@lab-password@/$(hash_of lab-password)/" \
    "$here/users.acl")
echo "$users" | keep users.acl 999

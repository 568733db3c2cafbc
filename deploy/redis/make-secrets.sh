#!/bin/sh
# Make the secrets once: `make-secrets.sh FOLDER`. Each service reads its own folder below it. Each secret is a
# separate file, and is kept if it exists.
#
# When root runs it, as docker-compose does, the files belong to the groups that read them: 999 is Redis, 10001 the kit.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
mkdir -p redis pricer queue market-queue update lab sentinel
umask 0377

# Atomic: the file is moved into place when it is complete.
keep() { # keep NAME: write stdin to NAME
    rm -f "$1.part"
    cat >"$1.part"
    chmod 0440 "$1.part"
    if [ "$(id -u)" = 0 ]; then
        case $1 in redis/* | sentinel/*) chgrp 999 "$1.part" ;; *) chgrp 10001 "$1.part" ;; esac
    fi
    mv -f "$1.part" "$1"
}

for name in redis/admin-password pricer/redis-password pricer/api-keys queue/redis-password \
    market-queue/redis-password update/redis-password lab/redis-password lab/lab-token \
    redis/replica-password sentinel/redis-password sentinel/peer-password; do
    if [ ! -s "$name" ]; then
        head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' | keep "$name"
    fi
done

hash_of() {
    tr -d '\n' <"$1" | sha256sum | cut -d ' ' -f 1
}

users=$(sed -e '/^#/d' \
    -e "s/@admin@/$(hash_of redis/admin-password)/" \
    -e "s/@pricer@/$(hash_of pricer/redis-password)/" \
    -e "s/@queue@/$(hash_of queue/redis-password)/" \
    -e "s/@market-queue@/$(hash_of market-queue/redis-password)/" \
    -e "s/@update@/$(hash_of update/redis-password)/" \
    -e "s/@lab@/$(hash_of lab/redis-password)/" \
    -e "s/@replica@/$(hash_of redis/replica-password)/" \
    -e "s/@sentinel@/$(hash_of sentinel/redis-password)/" \
    "$here/users.acl")
echo "$users" | keep redis/users.acl
users=$(sed -e '/^#/d' -e "s/@peer@/$(hash_of sentinel/peer-password)/" "$here/sentinels.acl")
echo "$users" | keep sentinel/users.acl
# The settings that a replica needs.
printf 'masteruser replica\nmasterauth %s\n' "$(cat redis/replica-password)" | keep redis/replication.conf

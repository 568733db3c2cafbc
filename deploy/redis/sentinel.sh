#!/bin/sh
# A sentinel: `sentinel.sh FOLDER SECRETS NAME PORT "HOST PORT"`. It keeps its state in FOLDER; at the
# first start, it monitors the primary given last. Other sentinels reach it by NAME; all addresses are host names, since
# a container's IP address may change.
set -eu
folder=$1 secrets=$2 name=$3 port=$4 primary=$5
umask 0077
if [ ! -s "$folder/sentinel.conf" ]; then
    cat >"$folder/sentinel.conf" <<END
port $port
dir $folder
aclfile $secrets/users.acl
protected-mode no
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $name
sentinel monitor prices $primary 2
sentinel auth-user prices sentinel
sentinel auth-pass prices $(cat "$secrets/redis-password")
sentinel down-after-milliseconds prices 5000
sentinel failover-timeout prices 20000
sentinel sentinel-user sentinel
sentinel sentinel-pass $(cat "$secrets/peer-password")
END
fi
exec redis-server "$folder/sentinel.conf" --sentinel

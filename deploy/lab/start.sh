#!/bin/sh
# Give the reader the lessons of this image, then run the command: `start.sh COMMAND...`.
# ~/.lessons holds the copy of each file that was last given out. A file in ~/notebooks that differs from it was edited
# by the reader: it stays as it is, and a newer version is put beside it, with part of that version's hash in the name.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# Atomic: the file is moved into place when it is complete.
put() { # put FROM TO
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.part"
    mv -f "$2.part" "$2"
}

give() { # give FILE: one of the lessons' files
    new=$here/notebooks/$1 own=$HOME/notebooks/$1 given=$HOME/.lessons/$1
    if [ ! -e "$own" ]; then
        put "$new" "$own"
    elif cmp -s "$new" "$given" || cmp -s "$new" "$own"; then
        :
    elif cmp -s "$own" "$given"; then
        put "$new" "$own"
    else
        beside=${own%.*}.$(sha256sum "$new" | cut -c 1-8).${own##*.}
        [ -e "$beside" ] || put "$new" "$beside"
    fi
    put "$new" "$given"
}

files=$(cd "$here/notebooks" && find . -type f)
for file in $files; do
    give "${file#./}"
done
exec "$@"

#!/bin/sh
# A stand-in for python:3.11-slim-bookworm where no registry can be reached: Debian 12 and its Python, by debootstrap.
#
#     sudo scripts/make_base_image.sh [NAME]
#
# NAME is python:3.11-slim-bookworm unless it is given. MIRROR names another mirror of Debian. What the official image
# leaves out of Debian (manuals, translations) is left out here too.
set -eu

name=${1:-python:3.11-slim-bookworm}
mirror=${MIRROR:-http://deb.debian.org/debian}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

debootstrap --variant=minbase --include=ca-certificates,python3.11,tzdata bookworm "$root" "$mirror"

for program in python python3 python3.11; do
    ln -s /usr/bin/python3.11 "$root/usr/local/bin/$program"
done
cat > "$root/etc/dpkg/dpkg.cfg.d/slim" <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
END
find "$root/usr/share/doc" -type f ! -name copyright -delete
rm -rf "$root"/usr/share/info/* "$root"/usr/share/locale/* "$root"/usr/share/man/*
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old "$root"/var/log/*

tar --create --directory "$root" --numeric-owner --one-file-system . | docker import \
    --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'CMD ["python3"]' - "$name"

#!/bin/sh
# Keeps TARGET/NAME/VERSION like SOURCE/NAME/VERSION, for each NAME of MODEL_NAMES.
#
# A version of the bucket counts when its saved_model.pb is there, which is written last. It is copied aside and renamed,
# since TensorFlow Serving loads a folder as soon as it sees its number. What is gone from the bucket goes here too, but
# never all of it: an empty bucket is a fault or a mistake, and no reason to stop serving.
#
# INTERVAL_SECONDS=0: once, and exit 1 if a model could not be mirrored.
set -u
: "${SOURCE:?where the models are, as rclone writes it}" "${MODEL_NAMES:?names of the models to serve}"
TARGET=${TARGET:-/models}
INTERVAL_SECONDS=${INTERVAL_SECONDS:-15}
ASIDE=$TARGET/.aside

say() { echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $*" >&2; }

mirror() {
  name=$1
  files=$(rclone lsf "$SOURCE/$name" --recursive --files-only --max-depth 2 --include '/*/saved_model.pb') || return 1
  versions=$(printf '%s\n' "$files" | sed -n 's#^\([1-9][0-9]*\)/saved_model\.pb$#\1#p')
  mkdir -p "$TARGET/$name" || return 1
  failed=0
  for version in $versions; do
    [ -d "$TARGET/$name/$version" ] || fetch "$name" "$version" || failed=1
  done
  [ -n "$versions" ] || { say "$SOURCE/$name: no version there; what was mirrored stays"; return $failed; }
  for folder in "$TARGET/$name"/[1-9]*; do
    version=${folder##*/}
    if [ -d "$folder" ] && ! printf '%s\n' "$versions" | grep -qx "$version"; then
      say "$name version $version: gone from the bucket, removed"
      remove "$folder" "$name-$version"
    fi
  done
  return $failed
}

fetch() {
  aside=$ASIDE/$1-$2
  rm -rf "$aside"
  rclone copy "$SOURCE/$1/$2" "$aside" || { say "$1 version $2: not copied, to be tried again"; return 1; }
  # It may have been withdrawn meanwhile.
  [ -f "$aside/saved_model.pb" ] || return 1
  mv "$aside" "$TARGET/$1/$2" && say "$1 version $2: mirrored"
}

remove() {
  mkdir -p "$ASIDE"
  rm -rf "$ASIDE/$2"
  mv "$1" "$ASIDE/$2" && rm -rf "$ASIDE/$2"
}

pass() {
  result=0
  for model in $MODEL_NAMES; do
    mirror "$model" || { say "$SOURCE/$model: not mirrored"; result=1; }
  done
  return $result
}

trap 'exit 0' TERM INT
rm -rf "$ASIDE"
if [ "$INTERVAL_SECONDS" = 0 ]; then
  pass
  exit
fi
while true; do
  # The start-up probe looks for this file: the server begins when the bucket was read once.
  pass && touch "$TARGET/.mirrored"
  sleep "$INTERVAL_SECONDS" &
  wait $!
done

#!/usr/bin/env bash
# What is committed gives the packages of target/package once more, byte for byte, in a clone in another folder.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /var/tmp/siglatch-again.XXXXXX)
trap 'rm -rf "$work"' EXIT
git clone --quiet "$root" "$work/somewhere/else/siglatch"
(cd "$work/somewhere/else/siglatch" && CARGO_TARGET_DIR=$work/built scripts/package >"$work/said" 2>&1) || { cat "$work/said"; exit 1; }
packages=0
for package in "$root"/target/package/*.deb; do
    cmp "$package" "$work/somewhere/else/siglatch/target/package/$(basename "$package")"
    packages=$((packages + 1))
done
[ "$packages" = 2 ] || { echo "there should be two packages in target/package, not $packages"; exit 1; }
echo "the packages are the same, byte for byte"

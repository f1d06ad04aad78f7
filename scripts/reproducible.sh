# Flags by which a build has the same bytes whatever folder it is made in. Sourced.
# shellcheck shell=bash
cargo_home=${CARGO_HOME:-$HOME/.cargo}
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f' "--remap-path-prefix=${CARGO_TARGET_DIR:-$PWD/target}=/siglatch/target" \
    "--remap-path-prefix=$PWD=/siglatch" "--remap-path-prefix=$cargo_home=/cargo" | sed 's/\x1f$//')
CFLAGS="-ffile-prefix-map=${CARGO_TARGET_DIR:-$PWD/target}=/siglatch/target -ffile-prefix-map=$PWD=/siglatch -ffile-prefix-map=$cargo_home=/cargo"
export CARGO_ENCODED_RUSTFLAGS CFLAGS CARGO_INCREMENTAL=0

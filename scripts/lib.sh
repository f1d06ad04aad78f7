# Shared by the scripts: what they need, they install.
# shellcheck shell=bash

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        die "needs root for: $* (run it once as root, then try again)"
    fi
}

# need COMMAND PACKAGE...: installs Debian packages unless the command is there.
need() {
    local command=$1
    shift
    command -v "$command" >/dev/null && return
    command -v apt-get >/dev/null || die "$command is missing: install $*"
    say "installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive bash -c \
        'apt-get install -y -qq "$@" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq "$@" >/dev/null; }' \
        -- "$@"
    command -v "$command" >/dev/null || die "$command is still missing after installing $*"
}

need_rust() {
    command -v cargo >/dev/null || die "cargo is missing: install Rust (rustup or Debian's package), 1.91 or later"
}

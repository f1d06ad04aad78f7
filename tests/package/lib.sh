# A Debian of the tests' own, and the packages in it. Sourced; needs root.
# shellcheck shell=bash
set -euo pipefail
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
packages=$(cd "${1:-$root/target/package}" && pwd)
work=$(mktemp -d /var/tmp/siglatch-package.XXXXXX)
debian=$work/debian

# One tree for all runs, a layer of its own over it for each.
base=${CARGO_TARGET_DIR:-$root/target}/debian
if ! [ -e "$base/complete" ]; then
    rm -rf "$base"
    # shellcheck source=/dev/null
    debootstrap --variant=minbase --include=systemd,systemd-sysv,libpam-systemd,dbus,dbus-user-session,sudo,nftables,iproute2,procps,curl,bash-completion,man-db \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$base" >"$work/debootstrap.log" || { cat "$work/debootstrap.log"; exit 1; }
    touch "$base/complete"
fi
mkdir -p "$debian" "$work/layer/upper" "$work/layer/work"
mount -t overlay -o "lowerdir=$base,upperdir=$work/layer/upper,workdir=$work/layer/work" overlay "$debian"
# Documents are kept, as on a machine with people.
rm -f "$debian/etc/dpkg/dpkg.cfg.d/"*
cp "$packages"/*.deb "$debian/root/"
# What is upgraded: the same with an older number.
(cd "$root" && cargo deb --quiet --no-build --no-strip --locked --deb-revision 0~before --output "$debian/root/")

leave() {
    umount "$debian" || umount -l "$debian"
    rm -rf "$work"
}

fail() {
    echo "$*" >&2
    exit 1
}

# Says what is tried, and tries it.
promise() {
    echo "  $1"
    shift
    "$@" >"$work/said" 2>&1 || {
        cat "$work/said"
        fail "that is not so: $*"
    }
}

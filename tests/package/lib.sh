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
    debootstrap --variant=minbase --include=systemd,systemd-sysv,libpam-systemd,dbus,dbus-user-session,sudo,nftables,iproute2,procps,curl,bash-completion,man-db,logrotate \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$base" >"$work/debootstrap.log" || { cat "$work/debootstrap.log"; exit 1; }
    touch "$base/complete"
fi
mkdir -p "$debian" "$work/layer/upper" "$work/layer/work"
mount -t overlay -o "lowerdir=$base,upperdir=$work/layer/upper,workdir=$work/layer/work" overlay "$debian"
# Documents are kept, as on a machine with people.
rm -f "$debian/etc/dpkg/dpkg.cfg.d/"*
cp "$packages"/*.deb "$debian/root/"
# What is upgraded: the same with an older number.
(cd "$root" && cargo deb --quiet --fast --no-build --no-strip --locked --deb-revision 0~before --output "$debian/root/" >/dev/null)

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

# The Debian is booted by systemd-nspawn, in a network of its own.
machine() {
    local ended=133
    # A machine without systemd of its own: no registration; a reboot ends nspawn with 133.
    while [ "$ended" = 133 ]; do
        ended=0
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --register=no --keep-unit --directory="$debian" --machine=siglatch-test \
            --private-network --kill-signal=SIGRTMIN+3 --console=pipe --boot </dev/null >>"$work/console" 2>&1 || ended=$?
        touch "$work/ended"
    done
}
nspawn() { pgrep -P "$booted" -x systemd-nspawn; }
inside() { nsenter --target "$(pgrep -P "$(nspawn)")" -m -u -i -n -p -C /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }
sh_inside() { inside bash -c "set -e; $1"; }
off() {
    ! nspawn >/dev/null || kill "$(nspawn)" || true
    wait "$booted" || true
    leave
}

# wait_for COMMAND...: at most 30 s.
wait_for() {
    for _ in $(seq 300); do
        if "$@" >"$work/waited" 2>&1; then return; fi
        sleep 0.1
    done
    cat "$work/waited"
    inside journalctl --no-pager -n 60 || true
    return 1
}
up() { inside sh -c 'systemctl is-system-running | grep -E "running|degraded"'; }
boot() {
    machine &
    booted=$!
    trap off EXIT
    wait_for up || fail "it does not boot"
}

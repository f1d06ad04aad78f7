#!/usr/bin/env bash
# The image is built and run as it is meant to be, without root and with a read-only root: init, knock, a door of nftables, health.
#
# Needs root, for the network that it is knocked in.
set -euo pipefail
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /var/tmp/siglatch-container.XXXXXX)
image=localhost/siglatch-test
net=siglatch-container-$$
# Machines where root may not raise limits.
flags=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
podman=(podman)
leave() {
    "${podman[@]}" rm --force --volumes "$net" >/dev/null 2>&1 || true
    "${podman[@]}" volume rm --force "$net" >/dev/null 2>&1 || true
    "${podman[@]}" rmi --force "$image" >/dev/null 2>&1 || true
    ip netns del "$net" 2>/dev/null || true
    rm -rf "$work"
}
trap leave EXIT
fail() {
    echo "$*" >&2
    "${podman[@]}" logs "$net" >&2 || true
    exit 1
}

"$root/scripts/container" siglatch-test
install -d -o 65532 -g 65532 -m 700 "$work/etc"
mount=(--volume "$work/etc:/etc/siglatch" --volume "$net:/var/lib/siglatch")
ctl() { "${podman[@]}" run --rm "${flags[@]}" --network none --read-only "${mount[@]}" --entrypoint /usr/sbin/siglatchctl "$image" "$@"; }
# crun wants one kind of cgroups, runc takes both.
ctl --version >/dev/null 2>&1 || podman=(podman --runtime runc)
ctl init --host 127.0.0.1 >/dev/null
cat >> "$work/etc/siglatchd.toml" <<'TOML'

[actions.web]
id = 2
nft = { family = "inet", table = "siglatch", set = "web" }
hold = "1h"
TOML
ctl user add alice --action whoami,web --invite - > "$work/alice.toml"
ip netns add "$net"
ip -n "$net" link set lo up
ip netns exec "$net" nft -f - <<'NFT'
table inet siglatch {
    set web4 { type ipv4_addr; flags timeout; }
    set web6 { type ipv6_addr; flags timeout; }
}
NFT
"${podman[@]}" run --detach --name "$net" "${flags[@]}" --network "ns:/run/netns/$net" --read-only --cap-drop all --cap-add NET_ADMIN \
    --security-opt no-new-privileges "${mount[@]}" "$image" >/dev/null

export HOME=$work XDG_CONFIG_HOME=$work/config
siglatch=$root/target/package/stage/client/siglatch
chmod 600 "$work/alice.toml"
"$siglatch" join "$work/alice.toml" --name server >/dev/null
ip netns exec "$net" "$siglatch" whoami server --wait 20s || fail "it does not answer"
ip netns exec "$net" "$siglatch" knock server web --wait 20s || fail "no door opens"
ip netns exec "$net" nft list set inet siglatch web4 | grep -q 127.0.0.1 || fail "the door is not open"
"${podman[@]}" healthcheck run "$net" >/dev/null || fail "it is not healthy"
"${podman[@]}" exec "$net" /usr/sbin/siglatchctl status --json | grep -q '"version"' || fail "siglatchctl cannot ask it"
"${podman[@]}" stop --time 10 "$net" >/dev/null
"${podman[@]}" logs "$net" 2>&1 | grep -q code=stopped || fail "it did not end by itself"
echo "the container works"

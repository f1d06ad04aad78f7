#!/usr/bin/env bash
# The image is built, and run as Quadlet would by config/container/siglatchd.container, without root and with a read-only root: init,
# knock, a door of nftables, health.
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

# What Quadlet makes of the unit. Podman has it from 4.4 on; where it is older, that of the next Debian says it.
quadlet=/usr/libexec/podman/quadlet
if ! [ -x "$quadlet" ]; then
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" > "$work/apt/list"
    apt=(-qq -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o "Dir::Etc::SourceList=$work/apt/list" -o Dir::Etc::SourceParts=-
        -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update
    (cd "$work/apt" && apt-get "${apt[@]}" download podman/trixie && dpkg-deb --extract podman_*.deb .)
    quadlet=$work/apt/usr/libexec/podman/quadlet
fi
mkdir "$work/units"
cp "$root/config/container/siglatchd.container" "$work/units/"
QUADLET_UNIT_DIRS=$work/units "$quadlet" -dryrun >"$work/unit" 2>"$work/said" || fail "Quadlet would not take the unit: $(<"$work/said")"
! grep -i -E 'error|warn|unsupported' "$work/said" || fail "Quadlet has something to say against the unit"
eval "quadlet=($(sed -n 's/^ExecStart=//p' "$work/unit"))"

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
# Its command, with the name, network and folders of this test, and without what takes systemd.
run=()
set -- "${quadlet[@]:2}"
while [ $# -gt 1 ]; do
    case $1 in
        --name | --network | -v) shift ;;
        --cidfile=* | --cgroups=* | --replace | --rm) ;;
        *) run+=("$1") ;;
    esac
    shift
done
for wanted in --read-only "--cap-drop all --cap-add net_admin" --security-opt=no-new-privileges --health-cmd --sdnotify=container; do
    [[ " ${run[*]} " == *" $wanted "* ]] || fail "Quadlet does not say $wanted: ${run[*]}"
done
"${podman[@]}" run --name "$net" "${flags[@]}" --network "ns:/run/netns/$net" "${mount[@]}" "${run[@]}" "$image" >/dev/null

export HOME=$work XDG_CONFIG_HOME=$work/config
siglatch=$root/target/package/stage/client/siglatch
chmod 600 "$work/alice.toml"
"$siglatch" join "$work/alice.toml" --name server >/dev/null
ip netns exec "$net" "$siglatch" whoami server --wait 20s || fail "it does not answer"
ip netns exec "$net" "$siglatch" knock server web --wait 20s || fail "no door opens"
ip netns exec "$net" nft list set inet siglatch web4 | grep 127.0.0.1 >/dev/null || fail "the door is not open"
[ "$("${podman[@]}" inspect --format '{{.HostConfig.ReadonlyRootfs}} {{.Config.User}}' "$net")" = "true 65532:65532" ] || fail "it may write, or is root"
[ "$("${podman[@]}" top "$net" huser | sort | uniq -c | awk '{print $2 "=" $1}' | grep -v HUSER)" = 65532=2 ] || fail "its two processes have another user"
"${podman[@]}" healthcheck run "$net" >/dev/null || fail "it is not healthy"
"${podman[@]}" exec "$net" /usr/sbin/siglatchctl status --json | grep '"version"' >/dev/null || fail "siglatchctl cannot ask it"
"${podman[@]}" stop --time 10 "$net" >/dev/null
"${podman[@]}" logs "$net" 2>&1 | grep code=stopped >/dev/null || fail "it did not end by itself"
echo "the container works"

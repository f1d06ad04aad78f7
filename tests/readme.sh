#!/usr/bin/env bash
# The commands of docs/start.md for server and client, and those of docs/moving.md, run as they stand there, on two hosts of their
# own: network namespaces joined by a cable, /etc, /usr/local/bin, /var/lib and /run/siglatch of their own laid over the machine's, real nftables.
#
# tests/readme.sh BINARIES: the folder with the built programs. Needs root.
set -euo pipefail
trap 'echo "line $LINENO: $BASH_COMMAND"' ERR
root=$(cd "$(dirname "$0")/.." && pwd)
binaries=$(cd "$1" && pwd)
work=$(mktemp -d)
server=siglatch-s-$$ client=siglatch-c-$$

# Jobs lead process groups of their own, so that a daemon goes with the host that started it.
set -m
clean_up() {
    for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done
    for ns in "$server" "$client"; do
        ip netns pids "$ns" 2>/dev/null | xargs -r kill 2>/dev/null || true
        ip netns del "$ns" 2>/dev/null || true
    done
    rm -rf "$work" "$root/alice.invite.toml"
}
trap clean_up EXIT

# block HOST PAGE: what the page says is typed there.
block() {
    awk -v host="<!-- $1 -->" '
        $0 == host { wanted = 1; next }
        wanted && /^```sh/ { printing = 1; next }
        /^```/ { printing = 0; wanted = 0 }
        printing { print }' "$root/docs/$2"
}

for ns in "$server" "$client"; do ip netns add "$ns"; done
ip link add cable0 netns "$server" type veth peer name cable1 netns "$client"
ip -n "$server" addr add 10.77.0.1/24 dev cable0
ip -n "$client" addr add 10.77.0.2/24 dev cable1
ip -n "$client" addr add 10.77.0.3/24 dev cable1
ip -n "$server" addr add fd77::1/64 dev cable0 nodad
ip -n "$client" addr add fd77::2/64 dev cable1 nodad
for ns in "$server" "$client"; do ip -n "$ns" link set lo up; done
ip -n "$server" link set cable0 up
ip -n "$client" link set cable1 up

# What both hosts do first: folders of their own over the machine's, and a name for the server.
cat > "$work/host" <<HOST
set -euo pipefail
mount -t tmpfs tmpfs /mnt
for folder in /etc /usr/local/bin /var/lib; do
    mkdir -p /mnt\$folder/upper /mnt\$folder/work
    mount -t overlay -o lowerdir=\$folder,upperdir=/mnt\$folder/upper,workdir=/mnt\$folder/work overlay \$folder
done
mkdir -p /run/siglatch
mount -t tmpfs -o mode=700 tmpfs /run/siglatch
printf '10.77.0.1 vpn.example.org\nfd77::1 vpn6.example.org\n' >> /etc/hosts
cd "$root"
HOST

wait_for() {
    for _ in $(seq 200); do
        if "$@"; then return; fi
        sleep 0.05
    done
    echo "waited 10 s for: $*"
    cat "$work/server.log"
    exit 1
}

# The server: the page's commands, built programs in place of a release build, a wait for what takes its time on a slow machine, and
# something on port 22.
{
    cat "$work/host"
    echo "ready() { for _ in \$(seq 400); do if grep -qs code=ready $work/server.log; then return; fi; sleep 0.05; done; return 1; }"
    block server start.md | sed -e '/^cargo build/d' -e "s|target/release|$binaries|g" -e "s|^siglatchd &|siglatchd 2>$work/server.log \&\nready|"
    echo "cp /etc/siglatch/doors.nft $work/ && cp alice.invite.toml $work/ && rm alice.invite.toml"
    cat <<'SERVER'
exec perl -MIO::Socket::INET -e '
    my $port = IO::Socket::INET->new(LocalPort => 22, Listen => 5, ReuseAddr => 1) or die;
    while (my $client = $port->accept) {
        next if fork;
        print $client "SSH-2.0-test\n";
        print $client $_ while <$client>;
        exit;
    }'
SERVER
} > "$work/server"
grep -q 'siglatchctl init' "$work/server"
ip netns exec "$server" bash "$work/server" >"$work/said" 2>&1 &
host=$!
wait_for grep -qs code=ready "$work/server.log"
answers_ssh() { ip netns exec "$server" ss -Hltn 'sport = 22' | grep . >/dev/null; }
wait_for answers_ssh

# The client: everything but the ssh itself, for which a connection to its port stands; more patient than people are.
{
    cat "$work/host"
    echo "export XDG_CONFIG_HOME=$work/home PATH=$binaries:\$PATH SERVER=$server RULES=$work/doors.nft"
    echo "cp $work/alice.invite.toml $work/client-copy && cd $work && mkdir laptop && cd laptop && cp ../client-copy alice.invite.toml"
    cat <<'CLIENT'
# A session from before the rules goes on.
on_server() { ip netns exec "$SERVER" "$@"; }
on_server nft delete table inet siglatch
exec 3<>/dev/tcp/vpn.example.org/22
read -r -t 5 -u 3 _
on_server nft -f "$RULES"
echo "still here" >&3
read -r -t 5 -u 3 heard
[ "$heard" = "still here" ]
exec 3>&-
answers() { timeout 2 bash -c "head -n 1 < /dev/tcp/$1/22" 2>/dev/null | grep -q SSH; }
closed() { if answers "$1"; then echo "port 22 of $1 is open"; exit 1; fi; }
closed vpn.example.org
CLIENT
    block client start.md | sed -e 's/^siglatch \(knock\|whoami\) /&--wait 20s /' -e 's|^ssh \(.*\)|for _ in 1 2 3; do sleep 0.5; answers \1 \&\& break; done; answers \1|'
    echo "ip addr del 10.77.0.2/24 dev cable1"
    echo "closed vpn.example.org"
} > "$work/client"
grep -q 'answers vpn.example.org && break' "$work/client"
if ! ip netns exec "$client" bash -x "$work/client" >"$work/client.log" 2>&1; then
    cat "$work/said" "$work/server.log" "$work/client.log"
    exit 1
fi
grep -q 'code=ran.*action=ssh.*from=10.77.0.2:' "$work/server.log"
ip netns exec "$server" nft list set inet siglatch ssh4 | grep '10.77.0.2 timeout 1h' >/dev/null

# What is looked at later on the server, in the folders that it has for its own.
{
    echo "set -euo pipefail"
    block "server later" start.md
    # shellcheck disable=SC2016
    echo 'for _ in $(seq 200); do nft list set inet siglatch ssh4 | grep 10.77.0.2 || break; sleep 0.05; done'
    echo '! nft list set inet siglatch ssh4 | grep 10.77.0.2'
} > "$work/later"
grep -q 'siglatchctl revoke' "$work/later"
if ! nsenter --target "$host" --mount --net --root bash -x "$work/later" >"$work/later.log" 2>&1; then
    cat "$work/later.log" "$work/server.log"
    exit 1
fi
grep -q 'alice.*10.77.0.2' "$work/later.log"

# Moving in from siglatch v1: its files, the page's commands, and a plain knock before and after them.
{
    cat "$work/host"
    echo "export XDG_CONFIG_HOME=$work/v1-home PATH=$binaries:\$PATH LOG=$work/v1.log"
    cat <<'V1'
sed -i 's/.* vpn.example.org$/127.0.0.1 vpn.example.org/' /etc/hosts
mkdir -p /etc/siglatch/keys /etc/siglatch/scripts/ipAuth
cd /etc/siglatch
openssl genrsa -out server_priv.pem 2048
openssl rsa -in server_priv.pem -pubout -out server.pub.pem
openssl rand 32 > keys/root.hmac.key
echo 'print join("|", @ARGV), "\n"' > scripts/ipAuth/grant.pl
logged() {
    for _ in $(seq 200); do
        if grep -q -e "$1" "$LOG"; then return; fi
        sleep 0.05
    done
    echo "no line in 10 s: $1"
    exit 1
}
plain() { siglatch knock --host 127.0.0.1 --port 50000 --user-id 1 --server-key server.pub.pem --hmac-key "$1" --payload hi 1; }
V1
    # shellcheck disable=SC2016
    block v1 moving.md | sed 's|^siglatchd &|siglatchd 2>"$LOG" \&|'
    cat <<'V1'
logged code=ready
# A new store refuses what was sent in the second in which it was made.
sleep 1.1
plain keys/root.hmac.key
logged 'text="127.0.0.1|1|root|1|grant_ip|1|aGk="'
V1
    block "v1 later" moving.md
    cat <<'V1'
logged code=reloaded
plain keys/root.hmac
logged 'code=binding .*siglatch v1'
siglatch join root.invite.toml
siglatch knock vpn grant_ip
logged 'code=ran .*bound=server'
V1
} > "$work/v1"
grep -q 'siglatchctl user add root' "$work/v1"
if ! ip netns exec "$client" bash -mx "$work/v1" >"$work/said" 2>&1; then
    cat "$work/said" "$work/v1.log"
    exit 1
fi
echo "the documents' commands work"

#!/usr/bin/env bash
# The packages in a Debian that systemd has booted (systemd-nspawn): install, init, start, knock, reboot, knock; what scripts may
# do under the shipped unit and under the strict one; reload, credentials, upgrade, watchdog, log file, exporter, sockets, a plain
# user's daemon, removal.
#
# tests/package/boot.sh [DIR]: the folder that scripts/package filled, if it is not target/package. Needs root.
# shellcheck source=tests/package/lib.sh
. "$(dirname "$0")/lib.sh"

active() { [ "$(inside systemctl is-active "$1")" = active ]; }
inactive() { [ "$(inside systemctl is-active "$1")" = inactive ]; }
main_pid() { inside systemctl show --value --property MainPID siglatchd; }
knock() { inside siglatch knock --wait 20s server "$@"; }
not() { ! "$@"; }
# drop_in NAME: settings of siglatchd.service from standard input, in force; without input those of NAME go.
drop_in() {
    local file=/etc/systemd/system/siglatchd.service.d/$1.conf
    inside sh -c "mkdir -p ${file%/*} && cat > $file && { test -s $file || rm $file; } && systemctl daemon-reload && systemctl restart siglatchd"
}
append() { inside tee -a /etc/siglatch/siglatchd.toml >/dev/null; }
# script NAME ID [KEY...]: an action from standard input.
script() {
    { printf '#!/bin/sh\nset -e\n'; cat; } | inside sh -c "cat > /etc/siglatch/actions/$1 && chmod 755 /etc/siglatch/actions/$1"
    printf '\n[actions.%s]\nid = %s\nrun = ["/etc/siglatch/actions/%s"]\n%s\n' "$1" "$2" "$1" "${3:-}" | append
}

boot

echo "install, init, start, knock:"
promise "dpkg installs the packages" sh_inside 'dpkg --install /root/siglatchd_*-0~before_*.deb /root/siglatch_*.deb'
promise "siglatchd is enabled" inside systemctl --quiet is-enabled siglatchd
promise "it does not run before init" inactive siglatchd
inside siglatchctl init --host 127.0.0.1 >/dev/null
printf '\n[control]\ngroup = "siglatch-exporter"\n\n[actions.web]\nid = 2\nnft = { family = "inet", table = "siglatch", set = "web" }\nhold = "1h"\n' | append

# What administrators' scripts do.
inside useradd --create-home carol
sh_inside 'echo "carol ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/carol
    printf "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c \"echo x >> /var/lib/restarted\"\n" > /etc/systemd/system/other.service
    systemctl daemon-reload'
script etc 11 <<<'echo done > /etc/was-here'
script sudo 12 'run_as = "carol"' <<<'sudo -n touch /var/was-here'
script restart 13 <<<'systemctl restart other'
script nft 14 <<<'nft add table inet was_here'
script mount 15 <<<'mount -t tmpfs tmpfs /mnt && touch /mnt/was-here'
script home 16 <<<'echo done > /home/carol/was-here'
script tmp 17 <<<'echo done > /tmp/was-here'
script suid 18 <<<'cp /bin/true /var/suid && chmod u+s /var/suid'
script told 19 <<<'env > /root/told'
actions=hello,whoami,web,etc,sudo,restart,nft,mount,home,tmp,suid,told
inside siglatchctl user add alice --action "$actions" --invite /root/alice.toml >/dev/null
inside siglatch join /root/alice.toml --name server >/dev/null
{ echo 'flush ruleset' && inside siglatchctl firewall snippet web --tcp 80; } > "$work/doors.nft"
inside tee /etc/nftables.conf >/dev/null <"$work/doors.nft"
inside systemctl --quiet enable --now nftables
promise "systemd starts it" inside systemctl start siglatchd
promise "it says that it is ready" active siglatchd
promise "it tells systemd how it is" sh_inside 'systemctl show --property StatusText siglatchd | grep -v "StatusText=$"'
promise "a knock runs its action" knock hello
promise "its line in the journal has fields" sh_inside 'journalctl -u siglatchd -o json | grep "hello"'
promise "a knock opens a door of nftables" knock web
promise "the door is open" sh_inside 'nft list set inet siglatch web4 | grep 127.0.0.1'

promise "the firewall is loaded anew" inside systemctl reload nftables
promise "and the door put back" wait_for sh_inside 'nft list set inet siglatch web4 | grep 127.0.0.1'

echo "a script under the shipped unit may:"
# tried NAME: what is to be seen of it outside.
tried() {
    case $1 in
        etc) echo test -e /etc/was-here ;;
        sudo) echo test -e /var/was-here ;;
        restart) echo test -e /var/lib/restarted ;;
        nft) echo nft list table inet was_here ;;
        mount) echo test -e /mnt/was-here ;;
        home) echo test -e /home/carol/was-here ;;
        tmp) echo test -e /tmp/was-here ;;
        suid) echo test -u /var/suid ;;
    esac
}
forget() { sh_inside 'rm -f /etc/was-here /var/was-here /var/lib/restarted /home/carol/was-here /tmp/was-here /var/suid; nft delete table inet was_here || true; umount /mnt || true'; }
for name in etc sudo restart nft mount home tmp suid; do
    promise "$name: the knock is answered well" knock "$name"
    # shellcheck disable=SC2046
    promise "$name: and it was done" inside $(tried "$name")
done
forget >/dev/null 2>&1

echo "reload:"
inside cp /etc/siglatch/siglatchd.toml /root/good.toml
promise "a good configuration is taken" inside systemctl reload siglatchd
echo 'listen = "twice"' | append
promise "a bad one is refused" not inside systemctl reload siglatchd
promise "systemctl's log says why" sh_inside 'journalctl -u siglatchd -o cat | grep "siglatchd would not take"'
promise "the daemon goes on" knock hello
inside cp /root/good.toml /etc/siglatch/siglatchd.toml

echo "secrets as credentials of systemd:"
sh_inside 'install -D -m 600 /etc/siglatch/server.key.pem /etc/credstore/siglatch-server
    mkdir -p /etc/credstore.encrypted
    systemd-creds --name=alice encrypt /etc/siglatch/keys/alice.hmac /etc/credstore.encrypted/siglatch-alice
    rm /etc/siglatch/server.key.pem /etc/siglatch/keys/alice.hmac
    sed -i "s|\"server.key.pem\"|\"credential:server\"|; s|\"keys/alice.hmac\"|\"credential:alice\"|" /etc/siglatch/siglatchd.toml' >/dev/null 2>&1
promise "it takes them" drop_in credentials <<'UNIT'
[Service]
LoadCredential=server:/etc/credstore/siglatch-server
LoadCredentialEncrypted=alice:/etc/credstore.encrypted/siglatch-alice
UNIT
promise "a knock by them runs its action" knock hello
promise "it is reloaded" inside systemctl reload siglatchd
promise "siglatchctl reads them" inside siglatchctl check
promise "a script starts" knock told
promise "and is not told of them" sh_inside 'grep PATH /root/told && ! grep -i credential /root/told'
inside cp /etc/siglatch/siglatchd.toml /root/good.toml

echo "upgrade:"
echo 'listen = "twice"' | append
before=$(main_pid)
promise "with a configuration that the new one refuses, dpkg succeeds" sh_inside 'dpkg --install /root/siglatchd_*-1_*.deb >/root/said 2>&1'
promise "and says so" inside grep "siglatchd was not restarted" /root/said
promise "the old one runs on" test "$(main_pid)" = "$before"
inside cp /root/good.toml /etc/siglatch/siglatchd.toml
promise "with a good one dpkg succeeds" sh_inside 'dpkg --install /root/siglatchd_*-1_*.deb'
promise "the new one runs" test "$(main_pid)" != "$before"
promise "knocks go on" knock hello
promise "the door is still open" sh_inside 'nft list set inet siglatch web4 | grep 127.0.0.1'

echo "killed:"
inside kill -KILL "$(main_pid)"
promise "it is there again" wait_for knock hello

echo "hung:"
drop_in hung <<'UNIT'
[Service]
WatchdogSec=1s
TimeoutAbortSec=1s
UNIT
before=$(main_pid)
sleep 4
promise "it tells the watchdog that it turns" test "$(main_pid)" = "$before"
inside kill -STOP "$before"
promise "which ends it when it does not" wait_for sh_inside 'journalctl -b -u siglatchd -o cat | grep "Watchdog timeout"'
promise "it is there again" wait_for knock hello
drop_in hung </dev/null

echo "a log in a file:"
drop_in file <<'UNIT'
[Service]
StandardError=append:/var/log/siglatchd.log
UNIT
knock hello >/dev/null 2>&1
promise "the knock is there" wait_for inside grep hello /var/log/siglatchd.log
promise "logrotate takes the file away" inside logrotate --force /etc/logrotate.d/siglatchd
promise "with what was in it" inside grep hello /var/log/siglatchd.log.1
knock hello >/dev/null 2>&1
promise "what comes next is in the new one" wait_for inside grep hello /var/log/siglatchd.log
promise "which has nothing else" sh_inside '! tr -d "\0" </var/log/siglatchd.log | cmp - /var/log/siglatchd.log | grep .'
drop_in file </dev/null

echo "reboot:"
inside systemctl reboot || true
promise "it goes down" wait_for test -e "$work/ended"
promise "it comes up" wait_for up
promise "siglatchd runs" wait_for active siglatchd
promise "the door that was open is put back" wait_for sh_inside 'nft list set inet siglatch web4 | grep 127.0.0.1'
promise "a knock runs its action" knock hello

echo "metrics:"
# shellcheck disable=SC2016
sh_inside 'key=$(siglatchctl admin key --admin-key /etc/siglatch-exporter/admin.key)
    chown siglatch-exporter: /etc/siglatch-exporter/admin.key
    siglatchctl admin add exporter --role viewer --key "$key"
    systemctl reload siglatchd' >/dev/null 2>&1
promise "the exporter starts" inside systemctl start siglatch-exporter
promise "it says that the daemon is ready" wait_for inside curl -fsS http://127.0.0.1:9799/readyz
promise "it counts" sh_inside 'curl -fsS http://127.0.0.1:9799/metrics | grep "^siglatch_up 1"'

echo "the strict unit:"
inside cat /usr/share/siglatch/systemd/strict.conf | drop_in strict
promise "it runs" active siglatchd
promise "the exporter finds it again" wait_for inside curl -fsS http://127.0.0.1:9799/readyz
inside siglatchctl revoke --all >/dev/null
promise "doors of nftables close" wait_for sh_inside '! nft list set inet siglatch web4 | grep 127.0.0.1'
promise "and open" knock web
promise "the door is open" sh_inside 'nft list set inet siglatch web4 | grep 127.0.0.1'
promise "settings are saved" inside siglatchctl set limits.user_rate 20 --save
for name in etc sudo mount home tmp suid; do
    echo "  $name: is not to be"
    knock "$name" >"$work/said" 2>&1 || true
    # shellcheck disable=SC2046
    not inside $(tried "$name") 2>/dev/null || fail "$name was done under the strict unit"
done
for name in restart nft; do
    promise "$name: is as before" knock "$name"
    # shellcheck disable=SC2046
    promise "$name: and it was done" inside $(tried "$name")
done
forget >/dev/null 2>&1
drop_in strict </dev/null

echo "sockets of a unit:"
inside systemctl stop siglatchd
promise "they open without the daemon" inside systemctl start siglatchd.socket
promise "it is not there" inactive siglatchd
promise "a knock starts it, and runs" knock hello
promise "on these sockets" sh_inside 'journalctl -b -u siglatchd -o cat | grep "opened by who started siglatchd"'
inside systemctl stop siglatchd.socket siglatchd
inside systemctl start siglatchd

echo "a plain user's daemon:"
inside useradd --create-home bob
bob() { inside runuser -u bob -- env "XDG_RUNTIME_DIR=/run/user/$(inside id -u bob)" HOME=/home/bob bash -c "cd; set -e; $1"; }
inside loginctl enable-linger bob
wait_for bob 'systemctl --user is-system-running | grep -E "running|degraded"' || fail "bob has no systemd"
bob 'siglatchctl init ~/.config/siglatchd --host 127.0.0.1 --listen 127.0.0.1:50001
    siglatchctl user add bob --action hello --invite bob.toml --config ~/.config/siglatchd/siglatchd.toml
    siglatch join bob.toml --name mine' >/dev/null
promise "his systemd starts it" bob 'systemctl --user enable --now siglatchd 2>&1'
promise "a knock runs his action" bob 'siglatch knock --wait 20s mine hello'
promise "it is reloaded" bob 'systemctl --user reload siglatchd'

echo "removal:"
promise "dpkg removes it" inside dpkg --remove siglatchd
promise "nothing of the system's runs any more" inactive siglatchd
promise "nor of the exporter" inactive siglatch-exporter
promise "dpkg purges it" inside dpkg --purge siglatchd
promise "the keys are gone" not inside test -e /etc/siglatch

#!/usr/bin/env bash
# The packages are installed, upgraded, removed and purged in a Debian that is not booted, and nothing is left of them.
#
# tests/package/install.sh [DIR]: the folder that scripts/package filled, if it is not target/package. Needs root.
# shellcheck source=tests/package/lib.sh
. "$(dirname "$0")/lib.sh"
trap 'umount "$debian/proc"; leave' EXIT
mount -t proc proc "$debian/proc"

in_debian() { chroot "$debian" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive HOME=/root "$@"; }
# Everything but what dpkg, users and caches remember.
everything() {
    (cd "$debian" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp -o -path ./root -o -path ./var/lib/dpkg \
        -o -path ./var/cache -o -path ./var/log -o -path ./var/lib/systemd \) -prune -o -print | grep -v -E '^\./etc/(passwd|group|shadow|gshadow)-?$' | LC_ALL=C sort)
}
is() { [ "$(in_debian stat -c '%U:%G %a' "$1")" = "$2" ]; }
gone() { ! [ -e "$debian$1" ]; }

everything > "$work/before"

echo "installed:"
promise "dpkg installs them" in_debian sh -c 'dpkg --install /root/siglatchd_*-0~before_*.deb /root/siglatch_*.deb'
promise "the programs run" in_debian sh -c 'siglatchd --version && siglatchctl --version && siglatch --version'
promise "the listener has its user" in_debian getent passwd siglatch-listen
promise "the exporter has its user" in_debian getent passwd siglatch-exporter
promise "/etc/siglatch is root's" is /etc/siglatch "root:root 755"
promise "the state is for root alone" is /var/lib/siglatch "root:root 700"
promise "the folder of the exporter's key is root's" is /etc/siglatch-exporter "root:root 755"
promise "siglatchd is enabled" test -L "$debian/etc/systemd/system/multi-user.target.wants/siglatchd.service"
promise "its socket is not" gone /etc/systemd/system/sockets.target.wants/siglatchd.socket
for file in systemd/system/siglatchd.service systemd/system/siglatchd.socket systemd/system/siglatch-exporter.service systemd/user/siglatchd.service \
    sysusers.d/siglatchd.conf tmpfiles.d/siglatchd.conf; do
    promise "there is $file" is "/usr/lib/$file" "root:root 644"
done
promise "what an administrator may change is known to dpkg" sh -c "chroot '$debian' dpkg-query --show --showformat '\${Conffiles}' siglatchd |
    awk '{ print \$1 }' | sort | tr '\n' ' ' | grep -x ' */etc/apparmor.d/usr.sbin.siglatchd /etc/logrotate.d/siglatchd '"
promise "logrotate reads what it is given" in_debian sh -c 'logrotate --debug /etc/logrotate.d/siglatchd 2>&1 | tee /root/said; ! grep error: /root/said'
promise "there is a manual page for each program" in_debian sh -c 'man -w siglatch siglatchd siglatchctl siglatch-knock siglatchctl-user-add siglatchd.toml'
promise "man finds what a page is about" in_debian sh -c 'mandb -q 2>/dev/null; man -k siglatch | grep -q "siglatchctl-doctor (8)"'
# shellcheck disable=SC2016
promise "bash completes" in_debian bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader siglatchctl; complete -p siglatchctl'
promise "there is no configuration until init" gone /etc/siglatch/siglatchd.toml

in_debian siglatchctl init --host localhost >/dev/null
in_debian siglatchctl user add alice --action hello --invite /root/alice.toml >/dev/null
promise "what init makes is taken" in_debian siglatchctl check
in_debian systemctl --quiet disable siglatchd 2>/dev/null
sed -i 's/weekly/daily/' "$debian/etc/logrotate.d/siglatchd"
(cd "$debian/etc/siglatch" && find . -type f -exec sha256sum {} +) > "$work/keys"

echo "upgraded:"
promise "dpkg does it" in_debian sh -c 'dpkg --install /root/siglatchd_*-1_*.deb'
promise "keys and configuration are as they were" sh -c "cd '$debian/etc/siglatch' && sha256sum --quiet --check '$work/keys'"
promise "what an administrator changed stays so" in_debian grep daily /etc/logrotate.d/siglatchd
promise "what was disabled stays so" gone /etc/systemd/system/multi-user.target.wants/siglatchd.service

echo "removed:"
promise "dpkg does it" in_debian dpkg --remove siglatchd siglatch
promise "keys and configuration are as they were" sh -c "cd '$debian/etc/siglatch' && sha256sum --quiet --check '$work/keys'"
promise "the state is there" test -e "$debian/var/lib/siglatch"
promise "the programs are not" sh -c "! ls '$debian'/usr/sbin/siglatch* '$debian'/usr/bin/siglatch* 2>/dev/null"

echo "purged:"
promise "dpkg does it" in_debian dpkg --purge siglatchd siglatch
everything > "$work/after"
promise "nothing is left" diff "$work/before" "$work/after"

#!/usr/bin/env bash
# The role sets a server up and, run again, changes nothing; who is on its list knocks.
#
# tests/package/ansible.sh [DIR]: the folder that scripts/package filled, if it is not target/package. Needs root.
# shellcheck source=tests/package/lib.sh
. "$(dirname "$0")/lib.sh"
trap leave EXIT

chroot "$debian" apt-get install -y -qq --no-install-recommends ansible-core python3-apt >"$work/said" 2>&1 || { cat "$work/said"; exit 1; }
cp -r "$root/config/ansible" "$debian/root/ansible"
sed -i 's/^  hosts: .*/  hosts: all/' "$debian/root/ansible/site.yml"
boot

# Plays, and keeps what it says.
play() {
    # shellcheck disable=SC2016
    sh_inside 'cd /root/ansible && export LC_ALL=C.UTF-8 ANSIBLE_ROLES_PATH=. && ansible-playbook --connection local --inventory 127.0.0.1, site.yml \
        --extra-vars "{\"siglatch_package\": \"$(ls /root/siglatchd_*-1_*.deb)\", \"siglatch_invites\": \"/root/invites\"}" 2>&1 | tee /root/played'
}
promise "the role sets the server up" play
promise "siglatchd runs" wait_for inside systemctl --quiet is-active siglatchd
promise "the role runs again" play
promise "and changes nothing" inside grep 'changed=0 .*failed=0' /root/played
promise "the client is installed" sh_inside 'dpkg --install /root/siglatch_*.deb'
promise "who is on the list joins" inside siglatch join /root/invites/127.0.0.1-alice.invite.toml --name server
promise "and knocks" inside siglatch knock --wait 20s server hello
promise "no invite is left on the server" sh_inside '! ls /etc/siglatch/invites/* 2>/dev/null'

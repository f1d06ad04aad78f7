#!/usr/bin/env bash
# A release of what is committed, made in a clone elsewhere: its packages are those of target/package byte for byte, it is verified
# as docs/install.md says, a changed file is not, and the bill of materials is one.
#
# Needs what scripts/package has made of the same commit.
set -euo pipefail
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /var/tmp/siglatch-release.XXXXXX)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "$*" >&2
    exit 1
}

clone=$work/somewhere/else/siglatch
git clone --quiet "$root" "$clone"
cd "$clone"
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
ssh-keygen -q -t ed25519 -N '' -C '' -f "$work/key"
! scripts/release "v$version" "$work/key" "$work/none" >"$work/said" 2>&1 || fail "a release without a tag"
grep -q "there is no tag v$version" "$work/said"
# The same second: it is in the packages.
time=$(git log -1 --format=%ct)
grep -q "^## $version\b" CHANGELOG.md || sed -i "s/^## Unreleased/## $version/" CHANGELOG.md
git config user.name test && git config user.email test@example.org && git config commit.gpgsign false
GIT_COMMITTER_DATE=@$time git commit --quiet --allow-empty --all --message release
git tag "v$version"
TMPDIR=$work scripts/release "v$version" "$work/key" "$work/dist" >"$work/said" 2>&1 || { cat "$work/said"; exit 1; }
cd "$work/dist"

packages=0
for package in "$root"/target/package/*.deb; do
    cmp "$package" "$(basename "$package")"
    packages=$((packages + 1))
done
[ "$packages" = 2 ] || fail "there should be two packages in target/package, not $packages"
echo "the packages are the same, byte for byte"

# verify: what the document tells who has a release to do.
awk '/Who has them verifies:$/ { found = 1 } found && /^```$/ { exit } found && text { print } found && /^```sh$/ { text = 1 }' \
    "$root/docs/install.md" >"$work/verify"
[ "$(grep -c . "$work/verify")" -ge 2 ] || fail "docs/install.md does not say how a release is verified"
verify() { bash -euc "$(<"$work/verify")" >"$work/said" 2>&1; }
echo "siglatch $(cut -d ' ' -f 1,2 "$work/key.pub")" > allowed_signers
verify || { cat "$work/said"; exit 1; }
[ "$(grep -c ': OK$' "$work/said")" = "$(grep -c . SHA256SUMS)" ] || fail "not every file was looked at: $(<"$work/said")"
cp SHA256SUMS "$work/sums"
sed -i '1s/^./x/' SHA256SUMS
! verify || fail "other checksums are verified"
cp "$work/sums" SHA256SUMS
echo >> "siglatch-$version.cdx.json"
! verify || fail "another file is verified"
ssh-keygen -q -t ed25519 -N '' -C '' -f "$work/other"
sed -i '$d' "siglatch-$version.cdx.json"
verify || fail "what was put back is not verified: $(<"$work/said")"
echo "siglatch $(cut -d ' ' -f 1,2 "$work/other.pub")" > allowed_signers
! verify || fail "another's signature is verified"
echo "it is verified, and what was changed is not"

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'cyclonedx-python-lib[json-validation]'
"$work/venv/bin/python" - "siglatch-$version.cdx.json" <<'PYTHON'
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = open(sys.argv[1]).read()
if bad := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text):
    sys.exit(f"CycloneDX would not take it: {bad}")
bill = json.loads(text)
names = {component["name"] for component in bill["components"]}
known = {component["bom-ref"] for component in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
used = {ref for node in bill["dependencies"] for ref in [node["ref"], *node["dependsOn"]]}
assert {"aws-lc-sys", "rusqlite", "clap"} <= names and "proptest" not in names, names
assert used == known, used ^ known
print(f"the bill of materials is CycloneDX 1.5, of {len(names)} crates")
PYTHON

mkdir "$work/programs"
for archive in "siglatch-$version-"*linux*.tar.gz; do
    tar -xzf "$archive" -C "$work/programs"
done
for program in siglatchd siglatchctl siglatch; do
    ran=$(find "$work/programs" -name "$program" -path '*/bin/*' -print -quit)
    "$ran" --version | grep -qx "$program $version" || fail "$program of the archive does not run"
done
tar -tzf "siglatch-$version.tar.gz" | grep -x "siglatch-$version/Cargo.lock" >/dev/null || fail "the archive of sources has no Cargo.lock"
echo "what is in the archives runs"

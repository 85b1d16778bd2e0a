#!/usr/bin/env bash
# Puts a repaired loom into loom-tests/.loom, where loom-tests/Cargo.toml looks for it.
#
# loom's sources are not part of this repository: they come from cargo's own cache (fetched if need be),
# and the patches beside this script, each of which says what it mends, are applied to the copy. A stamp with the
# checksums of the patches and of this script makes every further call a no-op.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.7.3
fixes=(ci/loom-"$version"-*.patch)
target=loom-tests/.loom

stamp=$(cat "${fixes[@]}" ci/loom-patched.sh | sha256sum | cut -d' ' -f1)
if [[ -f $target/.stamp && $(<"$target/.stamp") == "$stamp" ]]; then
    exit 0
fi

if ! command -v patch >/dev/null; then
    if [[ $(id -u) != 0 ]]; then
        echo "loom-patched: the 'patch' program is needed; install it and run this again" >&2
        exit 1
    fi
    echo "loom-patched: installing patch"
    apt-get install -y --no-install-recommends patch >/dev/null 2>&1 ||
        { apt-get update >/dev/null && apt-get install -y --no-install-recommends patch >/dev/null; }
fi

scratch=$(mktemp -d)
# Built beside the target and moved into place last, so that an interrupted run leaves no half-patched loom.
fresh=loom-tests/target/loom.new.$$
trap 'rm -rf "$scratch" "$fresh"' EXIT

mkdir "$scratch/src"
: >"$scratch/src/lib.rs"
cat >"$scratch/Cargo.toml" <<TOML
[package]
name = "fetch-loom"
version = "0.0.0"
edition = "2021"

[workspace]

[dependencies]
loom = "=$version"
TOML
# `metadata` downloads what is missing and, unlike a guess at cargo's folders, names the place it unpacked to.
where_is_loom() { cargo metadata --quiet --format-version 1 --manifest-path "$scratch/Cargo.toml" "$@"; }
where_is_loom --offline >"$scratch/metadata.json" 2>/dev/null || where_is_loom >"$scratch/metadata.json"
manifest=$(grep -o '"manifest_path":"[^"]*/loom[^"/]*/Cargo.toml"' "$scratch/metadata.json" | head -n 1 | cut -d'"' -f4)
if [[ ! -f $manifest ]]; then
    echo "loom-patched: cargo did not say where it unpacked loom $version" >&2
    exit 1
fi

mkdir -p loom-tests/target
cp -R "$(dirname "$manifest")" "$fresh"
chmod -R u+w "$fresh"
rm -f "$fresh/Cargo.toml.orig" "$fresh/Cargo.lock" "$fresh/.cargo-ok"
for fix in "${fixes[@]}"; do
    if ! patch --directory "$fresh" -p1 --fuzz=0 --no-backup-if-mismatch --forward --quiet <"$fix"; then
        echo "loom-patched: $fix does not apply to $manifest" >&2
        exit 1
    fi
done
# Cargo shows the warnings of a path dependency; those of loom are not this project's to mend.
printf '\n[lints.rust]\nwarnings = "allow"\n' >>"$fresh/Cargo.toml"
printf '%s\n' "$stamp" >"$fresh/.stamp"
rm -rf "$target"
mv "$fresh" "$target"
echo "loom-patched: loom $version, repaired, is in $target"

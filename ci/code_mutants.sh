#!/usr/bin/env bash
# Breaks the code of a folder in one place at a time, as cargo-mutants does, and asks which test notices; and adds a line to the log. Orderings,
# fences and steps of the protocols are broken by ci/ordering_mutants, and loom notices.
#
#   ci/code_mutants.sh FOLDER [FILE [OPTION...]]    the code of src/FOLDER (or one file of it) against its unit tests and its own of tests/;
#                                                   options are those of cargo-mutants, as `--shard 0/8 --sharding round-robin`: every eighth mutant
#   ci/code_mutants.sh --list                       which folders there are, and with which tests
#
# What no test notices stands in MUTANTS.md with the reason why that is right; anything else fails. The tree is broken in place, and mended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

# Few and fast: a mutant that only hours of stress would notice wants a test of its own.
declare -A tests=(
    [word]=""
    [lock_table]="lock_table lock_set holds owned async async_wakers timeouts peer_bugs properties observe"
    [cell]="cell cell_memory bad_input txn txn_unhappy"
    [txn]="txn txn_bad_input txn_hazards txn_unhappy txn_properties"
    [session]="session"
    [latch]="latch latch_memory latch_structures"
    [ordered]="ordered ordered_checked"
    [reclaim]="cell cell_memory cell_orphans memory"
    [wait]="lock_table timeouts async async_wakers"
)

fail() {
    echo "code_mutants.sh: $*" >&2
    exit 2
}

if [[ ${1-} == --list ]]; then
    for folder in "${!tests[@]}"; do
        printf '%-10s unit tests %s\n' "$folder" "${tests[$folder]}"
    done | sort
    exit
fi
folder=${1-}
[[ -n $folder && -n ${tests[$folder]+there} ]] || fail "there is no folder '$folder'; ci/code_mutants.sh --list names them"
files="src/$folder/${2:-*.rs}"
git diff --quiet -- src || fail "src has changes that are not committed, and is broken in place"
if ! cargo mutants --version >/dev/null 2>&1; then
    echo "code_mutants.sh: installing cargo-mutants"
    cargo install --quiet --locked cargo-mutants
fi

# For the build too, which would make all tests otherwise.
selected=(--cargo-arg=--lib)
for test in ${tests[$folder]}; do selected+=(--cargo-arg="--test=$test"); done
output=target/code_mutants
rm -rf "$output"
mkdir -p "$output"
begun=$(date +%s)
# A mutant that hangs is one that is noticed.
cargo mutants --config ci/code_mutants.toml --in-place --no-shuffle --package latchwork --file "$files" --output "$output" --timeout 120 \
    --build-timeout 600 "${selected[@]}" "${@:3}" || [[ $? == 2 || $? == 3 ]]
found=$output/mutants.out

# Places move; what was done to which function does not.
names() { sed -E 's/^([^:]+):[0-9]+:[0-9]+: /\1: /' "$@" | sort; }
amount=$(cat "$found"/{caught,missed,timeout}.txt | wc -l)
entry=(--target "src/$folder${2:+/$2}" --amount "$amount" --unit mutants --since "$begun" --set "by=cargo-mutants" --set "tests=unit ${tests[$folder]}")
[[ $# -lt 3 ]] || entry+=(--set "options=${*:3}")
unargued=()
while read -r name; do
    grep -qF -- "\`$name\`" MUTANTS.md || unargued+=(--finding "$name")
done < <(names "$found/missed.txt")
if [[ ${#unargued[@]} == 0 ]]; then
    ci/campaign_log mutants "${entry[@]}" --outcome clean
else
    ci/campaign_log mutants "${entry[@]}" --outcome found "${unargued[@]}"
    echo "code_mutants.sh: no test notices, and MUTANTS.md does not say why:" >&2
    names "$found/missed.txt" >&2
    exit 1
fi

#!/usr/bin/env bash
# Every structure under churn, cancellation, panics, threads that come and go, and more threads than cores; see soak/src/main.rs.
# Fails if memory grows, if a thread stands still, or if a total is wrong, and logs what was run.
#
#   ci/soak.sh MINUTES [OPTION...]    options of the program: --threads, --seed, --round, --patience, --slack, --plant
#   NOISE=1 ci/soak.sh MINUTES        with random yields before atomic accesses
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

minutes=${1-}
if [[ ! $minutes =~ ^[0-9]+$ ]]; then
    sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
shift

target=target
if [[ -n ${NOISE-} ]]; then
    export RUSTFLAGS="${RUSTFLAGS-} --cfg latchwork_noise"
    target=target/noise
fi
cargo build --release -p latchwork-soak --target-dir "$target"

run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
# The program as it is now: a build beside it would replace it.
cp "$target/release/latchwork-soak" "$run/"
begun=$(date +%s)
status=0
"$run/latchwork-soak" --seconds $((60 * minutes)) "$@" >"$run/output" || status=$?
grep -v '^round' "$run/output" || true
grep '^round' "$run/output" | tail -n 1 || true

entry=(--unit operations --since "$begun" --set "noise=${NOISE:-0}")
entry+=(--set "run=$(sed -n 's/^\([0-9]* threads at a time\), .*\(seed .*\)/\1, \2/p' "$run/output")")
[[ $# == 0 ]] || entry+=(--set "options=$*")
if [[ $* == *--plant* || -n ${LATCHWORK_PLANT-} ]]; then
    # Of the soak's own, or of the crate's.
    entry+=(--plant "${LATCHWORK_PLANT:-soak: $*}")
fi
failure=$(sed -n 's/^FAILED: //p' "$run/output")
while read -r structure operations; do
    if [[ $status == 0 ]]; then
        outcome=(--outcome clean)
    elif [[ -n $failure ]]; then
        outcome=(--outcome found --finding "$failure")
    else
        outcome=(--outcome 'cut short')
    fi
    ci/campaign_log soak --target "$structure" --amount "$operations" "${entry[@]}" "${outcome[@]}"
done < <(sed -n 's/^soak: //p' "$run/output")
exit "$status"

#!/usr/bin/env bash
# Whether the instruments that CI does not run find the bugs that are in the crate on purpose (src/sync/plant.rs): the sanitizers and the
# soak. Takes some minutes, most of them to build. Fails if one is not found, or something else is.
#
#   ci/slow_plants.sh          runs them
#   ci/slow_plants.sh --log    and adds them to ci/campaigns
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

write=no
[[ ${1-} != --log ]] || write=yes
output=$(mktemp)
trap 'rm -f "$output"' EXIT
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
export ASAN_OPTIONS=detect_leaks=1 TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp:halt_on_error=1"
failed=0

# Runs a program until it has found the bug, a few times at most.
finds() { # INSTRUMENT BUG WHAT-IT-SAYS PROGRAM ARGUMENT...
    local instrument=$1 bug=$2 says=$3 begun
    begun=$(date +%s)
    for _ in 1 2 3 4 5; do
        if ! LATCHWORK_PLANT=$bug "${@:4}" >"$output" 2>&1 && grep -aq "$says" "$output"; then
            printf '%s finds: %s (%s)\n' "$instrument" "$bug" "$(grep -am1 "$says" "$output" | cut -c1-150)"
            [[ $write == no ]] || ci/campaign_log "$instrument" --target "$(basename "$4" | sed 's/-[0-9a-f]\{16\}$//')" --amount 1 \
                --unit tests --since "$begun" --outcome found --finding "$says" --plant "$bug"
            return
        fi
    done
    printf '%s does NOT find: %s\n' "$instrument" "$bug" >&2
    tail -n 20 "$output" | cut -c1-200 >&2
    failed=1
}

for sanitizer in address thread; do
    # As ci/sanitize.sh has them, so that it need not build again.
    flags=
    [[ $sanitizer == address ]] || flags=-Cunsafe-allow-abi-mismatch=sanitizer
    RUSTFLAGS="-Zsanitizer=$sanitizer $flags -Cdebug-assertions --cfg latchwork_noise --cfg latchwork_plant" cargo +nightly build --release --target "$host" --target-dir "target/$sanitizer" -p latchwork-soak
    soak=target/$sanitizer/$host/release/latchwork-soak
    if [[ $sanitizer == address ]]; then
        finds asan 'monitor freed under a pin' 'heap-use-after-free' "$soak" --seconds 30
        # One round: the soak alone would find it in the next, by what is on the heap.
        finds asan 'monitor that is kept' 'detected memory leaks' "$soak" --seconds 3 --round 3
    else
        finds tsan 'unlock that releases nothing' 'data race' "$soak" --seconds 30
    fi
done
RUSTFLAGS='--cfg latchwork_noise --cfg latchwork_plant' cargo build --release --target-dir target/noise -p latchwork-soak
soak=target/noise/release/latchwork-soak
finds soak 'monitor that is kept' 'the heap grew' "$soak" --seconds 60 --round 2
finds soak 'release that wakes nobody' 'stands still' "$soak" --seconds 60 --patience 5
finds soak 'commit without validation' 'at work on transfers panicked' "$soak" --seconds 60
exit "$failed"

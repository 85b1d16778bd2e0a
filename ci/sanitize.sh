#!/usr/bin/env bash
# The stress tests under a sanitizer, with random yields before atomic accesses, and a line in the log for each. Whether it
# finds anything is for `ci/plants --slow` to say.
#
#   ci/sanitize.sh address [SECONDS]             wrong accesses to memory, and leaks: the tests, then so many seconds of the soak (30)
#   ci/sanitize.sh address 0 TEST...             these programs of tests/ alone
#   ci/sanitize.sh thread [SECONDS]              data races: so many seconds of the soak (120)
#
# ThreadSanitizer gets the soak and not the tests: it must see how threads start, end and wait, and the standard library that
# comes with a toolchain is not compiled for it. The soak joins each thread and uses none of std's locks, barriers
# and scopes. ci/tsan.supp says what is reported all the same. It does not see fences either; what is published by a fence
# alone would be reported, and nothing of the crate's is. ci/lsan.supp names the tests that leak on purpose.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

sanitizer=${1-}
case $sanitizer in
address) instrument=asan seconds=${2:-30} flags= ;;
thread) instrument=tsan seconds=${2:-120} flags=-Cunsafe-allow-abi-mismatch=sanitizer ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
# All of tests/ but those of examples, of traits and optional features, counts of instructions, those for shuttle, and stopped,
# whose signals stop threads inside a sanitizer as well.
tests=(stress histories table cell map reclaim txn latch ordered session)
tests+=(async_memory cell_heap cell_orphans cell_reuse fork map_layouts memory thread_exit)
[[ $# -le 2 ]] || tests=("${@:3}")

cargo +nightly --version >/dev/null ||
    { echo "sanitize.sh: a nightly toolchain is needed: rustup toolchain install nightly --profile minimal" >&2; exit 2; }
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-Zsanitizer=$sanitizer $flags -Cdebug-assertions --cfg latchwork_noise ${RUSTFLAGS-}"
# A yield on a busy machine lasts for as long as others have something to do.
export LATCHWORK_PATIENCE=600
export ASAN_OPTIONS="detect_leaks=1:${ASAN_OPTIONS-}"
export LSAN_OPTIONS="suppressions=$PWD/ci/lsan.supp:print_suppressions=0:${LSAN_OPTIONS-}"
export TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp:halt_on_error=1:${TSAN_OPTIONS-}"
build=(--release --target "$host" --target-dir "target/$sanitizer")

output=$(mktemp)
trap 'rm -f "$output"' EXIT
failed=0

# Runs a program, and logs it with what it says about how much it did.
run() { # TARGET UNIT COUNT COMMAND...
    local target=$1 unit=$2 count=$3 begun status=0 amount cause entry
    begun=$(date +%s)
    printf '=== %s\n' "$target"
    "${@:4}" >"$output" 2>&1 || status=$?
    amount=$(sed -n "$count" "$output" | awk '{ n += $1 } END { print n + 0 }')
    entry=(--target "$target" --amount "$amount" --unit "$unit" --since "$begun" --set noise=1)
    if [[ $status == 0 ]]; then
        printf '%s %s\n' "$amount" "$unit"
        ci/campaign_log "$instrument" "${entry[@]}" --outcome clean
        return
    fi
    failed=1
    grep -aE -A 25 'ERROR: |WARNING: |panicked at' "$output" | cut -c1-200 | head -n 60 >&2 || tail -n 40 "$output" >&2
    # Anything else, a watchdog's patience above all, is no verdict.
    if cause=$(grep -am1 -E 'SUMMARY: |panicked at|FAILED: ' "$output"); then
        ci/campaign_log "$instrument" "${entry[@]}" --outcome found --finding "$cause"
    else
        ci/campaign_log "$instrument" "${entry[@]}" --outcome 'cut short'
    fi
}

if [[ $sanitizer == address ]]; then
    selected=()
    for test in "${tests[@]}"; do selected+=(--test "$test"); done
    cargo +nightly test "${build[@]}" "${selected[@]}" --no-run
    for test in "${tests[@]}"; do
        run "$test" tests 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' cargo +nightly test "${build[@]}" --test "$test" \
            -- --skip a_million_waiters_that_gave_up # Longer than its watchdog waits.
    done
fi
[[ $seconds != 0 ]] || exit "$failed"
cargo +nightly build "${build[@]}" -p latchwork-soak
run soak operations 's/^soak: [a-z]* //p' "target/$sanitizer/$host/release/latchwork-soak" --seconds "$seconds" --patience 120
exit "$failed"

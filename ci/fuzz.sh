#!/usr/bin/env bash
# A fuzzing campaign: libFuzzer with AddressSanitizer and leak detection, and an entry in the log of what was run.
#
#   ci/fuzz.sh TARGET SECONDS    runs one target, beginning with the committed corpus
#   ci/fuzz.sh --list            names the targets
#   ci/fuzz.sh --keep TARGET     puts into the committed corpus what campaigns found that reaches code which it does not
#
# What leaks is seen when the campaign ends, for to look after each input takes five to ten times as long as the input.
# Which it was: `cargo +nightly fuzz run TARGET fuzz/target/campaign/TARGET -- -runs=0 -detect_leaks=1`.
#
# What campaigns find goes into fuzz/target/campaign/TARGET, which is not committed; the next campaign goes on from
# there. SANITIZER=none runs several times as many inputs and sees no wrong access to memory. An input that fails is put
# into fuzz/artifacts/TARGET; `cargo +nightly fuzz run TARGET FILE` runs it again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

# Longer inputs find nothing that two shorter ones do not.
most_bytes=512
# What is committed is replayed on each change.
most_kept_bytes=384
most_kept=250

fail() {
    echo "fuzz.sh: $*" >&2
    exit 2
}

targets() { sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2; }

if [[ ${1-} == --list ]]; then
    targets
    exit
fi
keep=no
if [[ ${1-} == --keep ]]; then
    keep=yes
    shift
    set -- "${1-}" 0
fi
target=${1-}
seconds=${2-}
grep -qxF -- "$target" <(targets) || fail "there is no target '$target'; ci/fuzz.sh --list names them"
[[ $seconds =~ ^[0-9]+$ ]] || fail "for how many seconds?"

cargo +nightly --version >/dev/null || fail "a nightly toolchain is needed: rustup toolchain install nightly --profile minimal"
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz.sh: installing cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz
fi

# `map` asks for more memory than there is: the allocator must refuse it, as it does without the sanitizer.
export ASAN_OPTIONS=allocator_may_return_null=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}

sanitizer=${SANITIZER:-address}
triple=$(rustc +nightly -vV | sed -n 's/^host: //p')
cargo +nightly fuzz build --sanitizer "$sanitizer" "$target"
program=fuzz/target/$triple/release/$target
packed=fuzz/corpus/$target.hex
# libFuzzer reads a file for each input.
committed=fuzz/target/corpus/$target
found=fuzz/target/campaign/$target
artifacts=fuzz/artifacts/$target
mkdir -p "$found" "$artifacts"
rm -rf "$committed"
ci/corpus unpack "$packed" "$committed"

if [[ $keep == yes ]]; then
    # An input for each branch that the committed ones do not reach, and not for each number of times as well.
    "$program" -set_cover_merge=1 -use_counters=0 -max_len="$most_kept_bytes" "$committed" "$found"
    many=$(find "$committed" -type f | wc -l)
    [[ $many -le $most_kept ]] || fail "$many inputs are too many: more than $most_kept"
    ci/corpus pack "$committed" "$packed"
    echo "fuzz.sh: $packed has $many inputs, $(wc -c <"$packed") bytes"
    exit
fi

# The program as it is now: a build beside it would replace it.
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
cp "$program" "$run/$target"
begun=$(date +%s)
status=0
# A busy machine gives a campaign less than the clock says.
TIMEFORMAT='%U %S'
{
    time "$run/$target" -max_total_time="$seconds" -max_len="$most_bytes" -timeout=25 -print_final_stats=1 -detect_leaks=0 \
        -artifact_prefix="$artifacts/" "$found" "$committed" 2>"$run/output"
} 2>"$run/time" || status=$?
cpu=$(awk '/^[0-9.]+ [0-9.]+$/ { printf "%.0f", $1 + $2 }' "$run/time")
grep -v '^#[0-9]*[[:space:]]*\(NEW\|REDUCE\|pulse\|RELOAD\)' "$run/output" | tail -n 60 >&2
inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$run/output")

entry=(--target "$target" --amount "${inputs:-0}" --unit inputs --since "$begun")
entry+=(--set "sanitizer=$sanitizer" --set "max_len=$most_bytes" --set "cpu_seconds=$cpu")
if [[ $status == 0 ]]; then
    ci/campaign_log fuzz "${entry[@]}" --outcome clean
elif cause=$(grep -m1 -aE 'panicked at|ERROR: [A-Za-z]*Sanitizer|ERROR: libFuzzer' "$run/output"); then
    # The message of a panic stands in the line after its place.
    message=$(grep -aA1 'panicked at' "$run/output" | sed -n 2p || true)
    ci/campaign_log fuzz "${entry[@]}" --outcome found --finding "$cause $message"
else
    ci/campaign_log fuzz "${entry[@]}" --outcome 'cut short'
fi
exit "$status"

#!/usr/bin/env bash
# Everything that has to pass, in the order in which it fails fastest. CI runs this and nothing else.
#
#   ci/test.sh            all steps
#   ci/test.sh STEP...    these
#   ci/test.sh --record   all steps, and writes where the time went into CONTRIBUTING.md
#   ci/test.sh --list     what there is
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

steps=(format lint rules test counts gates noise doc package loom shuttle fuzz plants)
declare -A about=(
    [format]="rustfmt, in all workspaces"
    [lint]="clippy without warnings, in all three workspaces"
    [rules]="protocols, citations, SAFETY comments, reasons of orderings, words of the documentation, list of argued mutants, figures of the README, the record of campaigns"
    [test]="unit, integration and documentation tests, unoptimised"
    [counts]="allocations and atomic operations, optimised, one test at a time"
    [gates]="what the hot paths cost, counted, against what was agreed on in ci/gates.json"
    [noise]="threads against an oracle, with random yields before atomic accesses, and their histories"
    [doc]="the documentation, without warnings"
    [package]="what is published: the package, its dependencies, its public interface"
    [loom]="models: every interleaving within a bound, on a repaired loom"
    [shuttle]="models of more threads: many random interleavings"
    [fuzz]="replay of the fuzz corpora and a smoke run with fixed seeds"
    [plants]="some bugs on purpose, other ones on each commit, which the steps noise, shuttle and fuzz must find"
)

# Installs what a bare machine lacks.
need() {
    command -v "$1" >/dev/null && return
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        echo "test.sh: '$1' is needed; install it and run this again" >&2
        return 1
    fi
    echo "test.sh: installing ${*:2}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null
    apt-get install -y -qq --no-install-recommends "${@:2}" >/dev/null
}

# Runs `cargo test` with the arguments given. Fails where not one test ran: a filter that matches nothing, a
# cfg that compiles a file away and a target that is gone all look like success to cargo.
run_tests() {
    local log passed
    log=$(mktemp)
    # Where the caller handles a failure, `set -e` does not hold in here.
    cargo test "$@" | tee "$log" || { rm -f "$log"; return 1; }
    passed=$(awk '/^test result: ok\./ { n += $4 } END { print n + 0 }' "$log")
    rm -f "$log"
    if [[ $passed == 0 ]]; then
        echo "test.sh: no test ran in: cargo test $*" >&2
        return 1
    fi
    echo "$passed tests passed"
}

# cargo cannot read the manifest in loom-tests before the patched loom is there.
in_loom_tests() { (cd loom-tests && "$@"); }

step_format() {
    cargo fmt --all --check
    in_loom_tests cargo fmt --check
    (cd ci/api && cargo fmt --check)
    if [[ -f fuzz/Cargo.toml ]]; then
        (cd fuzz && cargo fmt --check)
    fi
}

step_lint() {
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    # What a user compiles.
    cargo clippy -p latchwork --lib -- -D warnings
    local log
    log=$(mktemp)
    # What clippy denies there are the models; the crate itself, under loom's cfg, is only a dependency.
    in_loom_tests cargo clippy --release --all-targets -- -D warnings 2>&1 | tee "$log"
    if grep -q '^warning: `latchwork`' "$log"; then
        echo "test.sh: the crate has warnings under --cfg latchwork_loom" >&2
        return 1
    fi
    rm -f "$log"
    if [[ -f fuzz/Cargo.toml ]]; then
        cargo clippy --manifest-path fuzz/Cargo.toml --no-default-features --release --all-targets -- -D warnings
    fi
}

step_rules() {
    ci/rule_tags --self-test
    ci/rule_tags
    ci/arrows --self-test
    ci/arrows
    ci/walks --self-test
    ci/walks
    ci/prose --self-test
    ci/prose
    ci/readme_figures --self-test
    ci/readme_figures --check
    ci/corpus --self-test
    ci/corpus --check
    ci/campaign_log --self-test
    ci/campaign_log --check
    ci/verification --self-test
    ci/verification --check
    if python3 -c 'import tomllib' 2>/dev/null; then
        ci/ordering_mutants --self-test
        ci/plants --self-test
        ci/plants --check
        ci/ordering_mutants --list | sed -n '/^ordering_mutants:/,$p'
    else
        echo "test.sh: the list of argued mutants needs Python 3.11, and is not checked here"
    fi
}

# Installs PostgreSQL and PgBouncer for the tests of its engine, which start servers of their own. A
# machine where they cannot be installed skips these tests; as root they are required.
need_postgres() {
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        # The package starts no server that the tests use.
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need initdb postgresql
        need /usr/sbin/pgbouncer pgbouncer
        export ENGINES_REQUIRED=postgres,pgbouncer
    fi
}

# The same for etcd. The package starts no server where services are not started.
need_etcd() {
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        need etcd etcd-server
        need etcdctl etcd-client
        export ENGINES_REQUIRED=${ENGINES_REQUIRED:+$ENGINES_REQUIRED,}etcd
    fi
}

# The same for Redis, whose tests start nodes of their own.
need_redis() {
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        need redis-server redis-server
        export ENGINES_REQUIRED=${ENGINES_REQUIRED:+$ENGINES_REQUIRED,}redis
    fi
}

# The same for Valkey, which Debian 12 has in its backports. They are listed for this command alone,
# so that nothing else is upgraded.
need_valkey() {
    command -v valkey-server >/dev/null && return
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || return 0
    if [[ -z $(apt-cache madison valkey-server 2>/dev/null) ]]; then
        local lists code uri
        code=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
        # The archive that this machine has its packages from.
        uri=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
            awk -v code="$code" '$1 == code { print $2; exit }')
        lists=$(mktemp -d)
        mkdir -p "$lists/lists/partial"
        echo "deb $uri $code-backports main" >"$lists/list"
        local from=(-o "Dir::Etc::sourcelist=$lists/list" -o "Dir::State::lists=$lists/lists")
        if apt-get "${from[@]}" update -qq >/dev/null 2>&1; then
            echo "test.sh: installing valkey-server"
            DEBIAN_FRONTEND=noninteractive apt-get "${from[@]}" install -y -qq --no-install-recommends \
                -t "$code-backports" valkey-server >/dev/null 2>&1 || true
        fi
        rm -rf "$lists"
    else
        need valkey-server valkey-server
    fi
    command -v valkey-server >/dev/null || echo "SKIPPED the tests on Valkey: it could not be installed"
}

# Those of etcd wait for elections and for the ends of leases most of the time: they run beside the others.
test_engines() {
    local lease=(-p latchwork-lease --all-features) beside=(etcd etcd_faults flights_cluster) others=() test name log job
    for test in lease/tests/*; do
        name=$(basename "$test" .rs)
        [[ $name == support || " ${beside[*]} " == *" $name "* ]] || others+=(--test "$name")
    done
    log=$(mktemp)
    # With job control, since a background job would ignore the signals that tests of the command send.
    set -m
    run_tests "${lease[@]}" "${beside[@]/#/--test=}" >"$log" 2>&1 &
    job=$!
    set +m
    run_tests "${lease[@]}" --lib --bins "${others[@]}" || { kill -- "-$job"; return 1; }
    wait "$job" || { cat "$log"; return 1; }
    cat "$log"
    rm -f "$log"
}

step_test() {
    need_postgres
    need_etcd
    need openssl openssl
    need_redis
    need_valkey
    need setpriv util-linux
    # Without what draws a console, which enables its feature for all that is built with it.
    run_tests --workspace --exclude latchwork-lease --exclude latchwork-top
    run_tests -p latchwork-lease --doc
    # The engines of leases, on files and on servers.
    cargo test -p latchwork-lease --all-features --lib --bins --tests --no-run
    if [[ " ${steps[*]} " == *" loom "* ]]; then
        set -m
        build_ahead >/dev/null 2>&1 &
        ahead=$!
        set +m
    fi
    test_engines
    # The engine of Redis nodes on Valkey: the other tests of it have Redis.
    if command -v valkey-server >/dev/null; then
        REDIS_SERVER=valkey-server run_tests -p latchwork-lease --all-features --test quorum conform
    fi
    ! command -v redis-server >/dev/null || ci/lease_plants.sh
    # Servers, links and holders that fail. As root, each of them has a network namespace.
    [[ $(id -u) != 0 ]] || need ip iproute2
    ci/lease_faults.sh --short
    # All of the workspace again, so that what it depends on is not compiled with other features.
    run_tests --workspace --all-features \
        --test console --test console_fork --test interface --test observe_panics --test screens --test session --test terminal
}

step_counts() { run_tests -p latchwork --release --test counts -- --test-threads=1; }

step_gates() {
    ci/gates --self-test
    ci/gates
}

step_noise() {
    RUSTC_WORKSPACE_WRAPPER="$PWD/ci/rustc-noise" run_tests -p latchwork --release \
        --test stress --test histories
}

step_doc() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps; }

step_package() {
    ci/dependencies --self-test
    ci/dependencies
    # There is one compiler here, and it is not the oldest that the crate promises to work with: clippy knows what is newer.
    cargo clippy -p latchwork --lib --all-features -- -D clippy::incompatible_msrv
    # Alone, as users build it: the workspace's tests enable features of what both depend on.
    cargo clippy -p latchwork-lease --lib --bins -- -D clippy::incompatible_msrv
    cargo clippy -p latchwork-lease --lib --bins --all-features -- -D clippy::incompatible_msrv
    # What is not committed is packaged too, so that this can be run before a commit.
    local log
    log=$(mktemp)
    cargo package -p latchwork --allow-dirty --locked 2>&1 | tee "$log"
    if grep '^warning' "$log"; then
        echo "test.sh: the package has warnings" >&2
        return 1
    fi
    rm -f "$log"
    ci/public_api
}

loom=(--release)
shuttle=(-p latchwork --release --target-dir target/shuttle --test shuttle)
fuzz=(--manifest-path fuzz/Cargo.toml --no-default-features --release)

# Builds what the steps after next run, while the tests of engines wait for servers. Each has a target folder of its
# own. A build that fails fails again in its step, which shows why.
build_ahead() {
    in_loom_tests nice cargo test "${loom[@]}" --no-run || true
    RUSTFLAGS="--cfg latchwork_shuttle -D warnings" nice cargo test "${shuttle[@]}" --no-run || true
    nice cargo test "${fuzz[@]}" --no-run || true
}

step_loom() { in_loom_tests run_tests "${loom[@]}"; }

step_shuttle() { RUSTFLAGS="--cfg latchwork_shuttle -D warnings" run_tests "${shuttle[@]}"; }

step_fuzz() {
    if [[ ! -f fuzz/Cargo.toml ]]; then
        echo "there are no fuzz targets"
        return
    fi
    run_tests "${fuzz[@]}"
}

# In a copy of the tree, with the builds of the steps before.
step_plants() { ci/plants --few; }

if [[ ${1-} == --list ]]; then
    for step in "${steps[@]}"; do
        printf '%-8s %s\n' "$step" "${about[$step]}"
    done
    exit
fi
record=no
if [[ ${1-} == --record ]]; then
    record=yes
elif [[ $# -gt 0 ]]; then
    for step in "$@"; do
        if [[ -z ${about[$step]-} ]]; then
            echo "test.sh: there is no step '$step'; ci/test.sh --list names them" >&2
            exit 2
        fi
    done
    steps=("$@")
fi

# Replaces the table of times in CONTRIBUTING.md by that of this run.
write_times() {
    local table
    table=$(
        printf '| step | seconds | of a processor |\n|---|---|---|\n'
        printf '| %s | %d | %d |\n' "${taken[@]}" total "$SECONDS" "$needed"
        printf '\nRecorded on %s with %d cores at %s.\n' "$(date -u +%F)" "$(nproc)" "$(git rev-parse --short HEAD)"
    )
    TABLE=$table perl -0pi -e 's/(<!-- times -->\n).*(<!-- \/times -->)/$1$ENV{TABLE}\n$2/s' CONTRIBUTING.md
}

# Sets `needed` to the seconds of a processor that the commands so far needed, without what runs on in the background.
count_processor() {
    # Not in a subshell, which has other children.
    times >"$clock"
    needed=$(awk 'NR == 2 { gsub(/[ms]/, " "); printf "%d", $1 * 60 + $2 + $3 * 60 + $4 }' "$clock")
}

clock=$(mktemp)
current=preparation
taken=()
# A signal ends the script with whatever status the last command had: only reaching the end is success.
complete=no
ahead=
finish() {
    [[ -z $ahead ]] || kill -- "-$ahead" 2>/dev/null || true
    if [[ ${#taken[@]} != 0 ]]; then
        printf '\n%-10s %8s %17s\n' step seconds 'of a processor'
        count_processor
        printf '%-10s %8d %17d\n' "${taken[@]}" total "$SECONDS" "$needed"
    fi
    rm -f "$clock"
    if [[ $complete == yes ]]; then
        [[ $record == no ]] || write_times
        echo "test.sh: passed"
    else
        echo "test.sh: FAILED in $current" >&2
        exit 1
    fi
}
trap finish EXIT

if ! command -v cargo >/dev/null; then
    echo "test.sh: a Rust toolchain is needed: https://rustup.rs" >&2
    exit 1
fi
# What a first build records for the next one costs more than it saves where there is none.
[[ -d target ]] || export CARGO_INCREMENTAL=0
need cc gcc libc6-dev
need python3 python3
need patch patch
ci/loom-patched.sh

for step in "${steps[@]}"; do
    current=$step
    printf '\n=== %s: %s\n' "$step" "${about[$step]}"
    count_processor
    start=$SECONDS before=$needed
    "step_$step"
    count_processor
    taken+=("$step" "$((SECONDS - start))" "$((needed - before))")
done
complete=yes

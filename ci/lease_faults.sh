#!/usr/bin/env bash
# Fault campaigns over the engines of leases: servers, links, clocks, disks, holders and waiters are damaged one at a time, and the
# rules I1 to I8 of lease/FAULTS.md are checked from the history of each round. Controls with a bug must be detected.
#
#   ci/lease_faults.sh --short                  about a minute; prints SKIPPED for what this machine cannot do
#   ci/lease_faults.sh MINUTES                  cycles through all faults, and logs them in ci/campaigns/faults.jsonl
#   ci/lease_faults.sh MINUTES --fault TEXT     only the faults whose name contains TEXT, without controls and without a log
#   ci/lease_faults.sh --table                  the table of the present campaign
#
# A campaign that was interrupted continues: its rounds are in target/lease_faults/rounds.jsonl. As root, each server and worker has
# a network namespace and a disk of its own. Variables: ENGINES ("etcd quorum postgres sqlite"), REDIS_SERVER (the program of a node,
# such as valkey-server), SEED. The clocks of etcd are moved by ci/lease_clock, those of the others by ci/server_clock.c.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
unset LATCHWORK_PLANT
export LEASE_CLOCK=$PWD/ci/lease_clock

usage() {
    sed -n '2,/^set/{/^# \?/s///p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

# The controls need the engines with the bugs on purpose, of which none is active by itself.
build() {
    RUSTC_WORKSPACE_WRAPPER="$PWD/ci/rustc-plant" cargo build -q -p latchwork-lease-faults --message-format=json |
        python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "latchwork-lease-faults":
        print(message["executable"])'
}

state=target/lease_faults/rounds.jsonl
options=()
for engine in ${ENGINES-}; do options+=(--only "$engine"); done
[[ -z ${SEED-} ]] || options+=(--seed "$SEED")
case ${1-} in
    --short) action=(short) ;;
    --table) action=(table) ;;
    *)
        [[ ${1-} =~ ^[1-9][0-9]*$ ]] || usage
        action=(campaign --minutes "$1")
        if [[ ${2-} == --fault ]]; then
            action+=(--fault "${3?a text}")
            state=target/lease_faults/some.jsonl
            rm -f "$state"
        fi
        action+=(--state "$state")
        ;;
esac

program=$(build)
mkdir -p target/lease_faults
if [[ ${action[0]} == table ]]; then
    "$program" table --state "$state"
    exit
fi

folder=$(mktemp -d)
chmod 755 "$folder"
# Workers are started from the same file, which another build would replace.
cp "$program" "$folder/program"
program=$folder/program
prefix=lwf$$
clean() {
    local namespace
    for namespace in $(ip netns list 2>/dev/null | cut -d' ' -f1 | grep "^$prefix" || true); do
        ip netns del "$namespace"
    done
    rm -rf "$folder"
}
trap clean EXIT
trap 'exit 130' INT TERM

if cc -shared -fPIC -O2 -o "$folder/server_clock.so" ci/server_clock.c; then
    export SERVER_CLOCK_LIBRARY=$folder/server_clock.so
fi
inside=()
if [[ $(id -u) == 0 ]] && ip netns add "$prefix" 2>/dev/null; then
    inside=(ip netns exec "$prefix")
    options+=(--namespaces "$prefix")
else
    echo "SKIPPED all faults of links and disks: there are no network namespaces"
fi
began=$(date +%s)
status=0
"${inside[@]}" "$program" "${action[@]}" "${options[@]}" --folder "$folder" || status=$?
echo "lease_faults.sh: $(($(date +%s) - began)) s"
if [[ ${action[0]} == short || ${2-} == --fault ]]; then
    [[ $status == 0 ]] && echo "lease_faults.sh: passed"
    exit "$status"
fi
# A campaign that was interrupted is logged when it has ended. Status 1 is a finding.
if [[ $status -lt 2 ]]; then
    python3 - "$state" <<'PYTHON'
import json, subprocess, sys, time
from collections import defaultdict

rounds, controls = defaultdict(list), defaultdict(list)
for line in open(sys.argv[1]):
    [(kind, value)] = json.loads(line).items()
    (rounds if kind == "Round" else controls)[value["kind"]].append(value)
for engine, done in rounds.items():
    verdicts = [one["verdict"] for one in done]
    total = lambda name: sum(verdict[name] for verdict in verdicts)
    def cause(one):
        parts = [f"load {one['load']:.1f}", f"a thread was woken {one.get('late', 0)} ms late"]
        return "; ".join(parts + one.get("causes", []))
    found = [f"{one['fault']}: {text} ({cause(one)})" for one in done for text in one["broken"]]
    found += [f"control not detected: {one['name']}" for one in controls[engine] if not one["is_detected"]]
    log = ["ci/campaign_log", "faults", "--target", engine, "--unit", "acquisitions", "--amount", str(total("acquisitions"))]
    log += ["--since", str(time.time() - sum(one["seconds"] for one in done)), "--outcome", "found" if found else "clean"]
    for text in sorted(set(found)):
        log += ["--finding", text]
    settings = {
        "rounds": len(done), "writes": total("writes"), "refused": total("refused"), "stale": total("stale"),
        "shared numbers": total("shared"), "ghosts": sum(one["ghosts"] for one in done), "losses": total("losses"),
        "gave up": sum(one["gave_up"] for one in done), "unavailable": sum(one["unavailable"] for one in done),
        "releases unconfirmed": sum(one["unconfirmed"] for one in done),
        "targets exceeded": sum(len(one["over"]) for one in done),
        "controls detected": f"{sum(one['is_detected'] for one in controls[engine])} of {len(controls[engine])}",
        "load": f"{sum(one['load'] for one in done) / len(done):.1f}",
        "longest delay": f"{max(one.get('late', 0) for one in done)} ms",
    }
    for name, value in settings.items():
        log += ["--set", f"{name}={value}"]
    subprocess.run(log, check=True)
PYTHON
    "$program" table --state "$state" | tee "${state%.jsonl}.md"
    python3 - "${state%.jsonl}.md" lease/FAULTS.md <<'PYTHON'
import pathlib, sys

table, target = map(pathlib.Path, sys.argv[1:])
begin, end = "<!-- results: begin -->\n", "<!-- results: end -->\n"
before, rest = target.read_text().split(begin)
target.write_text(before + begin + table.read_text() + end + rest.split(end)[1])
PYTHON
    mv "$state" "${state%.jsonl}-$(date +%s).jsonl"
fi
exit "$status"

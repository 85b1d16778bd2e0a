//! The faults of a campaign, and the bounds that hold beside each of them.

use std::time::Duration;

use crate::servers::Kind;

/// The part of the system that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Leader,
    Follower,
    /// Two of five nodes.
    Minority,
    /// Three of five nodes, or two of three members.
    Majority,
    AllServers,
    /// The process that holds [`LONG`](crate::message::LONG).
    Holder,
    /// A process that waits for it.
    Waiter,
}

/// What happens to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Kill,
    Stop,
    Unplug,
    /// What it sends is lost.
    CutOut,
    /// What is sent to it is lost.
    CutIn,
    Slow,
    FillDisk,
    /// Another process stops in a transaction that writes.
    Lock,
    /// Its clock moves forward by a minute.
    ClockAhead,
    ClockBack,
    /// It restarts without its data.
    LoseData,
    /// It restarts with older data, as a standby that is promoted.
    Rewind,
    /// Its request is removed from the queue of etcd, as if its engine lease had ended.
    RemoveRequest,
    /// A client connects with another list of nodes.
    OtherList,
    /// A lease is acquired and left behind, as a control.
    LeaveLease,
    /// Nothing happens.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) target: Target,
    pub(crate) damage: Damage,
}

use Damage::*;
use Target::*;

/// The faults of processes that hold or wait, at each engine.
const CLIENTS: &[(Target, Damage)] = &[
    (Holder, Kill),
    (Holder, Stop),
    (Holder, Unplug),
    (Holder, CutOut),
    (Holder, CutIn),
    (Waiter, Kill),
    (Waiter, Stop),
    (Waiter, Unplug),
];

const ETCD: &[(Target, Damage)] = &[
    (Leader, Kill),
    (Leader, Stop),
    (Leader, Unplug),
    (Leader, CutOut),
    (Leader, CutIn),
    (Leader, FillDisk),
    (Follower, Kill),
    (Follower, Stop),
    (Follower, Unplug),
    (Majority, Kill),
    (Majority, Stop),
    (Majority, Unplug),
    (Majority, FillDisk),
    (Leader, ClockAhead),
    (Leader, ClockBack),
    (AllServers, ClockAhead),
    (AllServers, ClockBack),
    (AllServers, Slow),
    (AllServers, Rewind),
    (Waiter, RemoveRequest),
];

const QUORUM: &[(Target, Damage)] = &[
    (Minority, Kill),
    (Minority, Stop),
    (Minority, Unplug),
    (Minority, CutOut),
    (Minority, CutIn),
    (Minority, FillDisk),
    (Minority, Slow),
    (Minority, ClockAhead),
    (Minority, ClockBack),
    (Majority, Kill),
    (Majority, Stop),
    (Majority, Unplug),
    (Majority, FillDisk),
    (Majority, ClockAhead),
    (Majority, ClockBack),
    (Majority, LoseData),
    (AllServers, OtherList),
];

const POSTGRES: &[(Target, Damage)] = &[
    (AllServers, Kill),
    (AllServers, Stop),
    (AllServers, Unplug),
    (AllServers, CutOut),
    (AllServers, CutIn),
    (AllServers, Slow),
    (AllServers, FillDisk),
    (AllServers, ClockAhead),
    (AllServers, ClockBack),
    (AllServers, Rewind),
];

const SQLITE: &[(Target, Damage)] = &[(AllServers, Lock), (AllServers, FillDisk)];

/// The faults of the short form.
pub(crate) fn short(kind: Kind) -> Vec<Fault> {
    let all: &[(Target, Damage)] = match kind {
        Kind::Etcd => &[(Leader, Kill), (Holder, Unplug), (Waiter, RemoveRequest)],
        Kind::Quorum => &[
            (Minority, Stop),
            (Majority, LoseData),
            (AllServers, OtherList),
        ],
        Kind::Postgres => &[(AllServers, Kill), (Holder, Stop)],
        Kind::Sqlite => &[(AllServers, Lock)],
    };
    all.iter().copied().map(Fault::new).collect()
}

/// All faults of an engine.
pub(crate) fn all(kind: Kind) -> Vec<Fault> {
    let own = match kind {
        Kind::Etcd => ETCD,
        Kind::Quorum => QUORUM,
        Kind::Postgres => POSTGRES,
        Kind::Sqlite => SQLITE,
    };
    let all = own.iter().chain(CLIENTS).copied().map(Fault::new);
    // A file has no links.
    all.filter(|fault| kind != Kind::Sqlite || !fault.needs_links())
        .collect()
}

impl Fault {
    pub(crate) fn new((target, damage): (Target, Damage)) -> Fault {
        Fault { target, damage }
    }

    pub(crate) fn name(self, kind: Kind) -> String {
        let target = match (kind, self.target) {
            (_, Leader) => "the leader",
            (_, Follower) => "a follower",
            (_, Minority) => "two of five nodes",
            (Kind::Etcd, Majority) => "two of three members",
            (_, Majority) => "three of five nodes",
            (Kind::Postgres, AllServers) => "the server",
            (Kind::Sqlite, AllServers) => "the file",
            (_, AllServers) => "all servers",
            (_, Holder) => "the holder",
            (_, Waiter) => "a waiter",
        };
        let damage = match self.damage {
            Kill => "killed",
            Stop => "stopped",
            Unplug => "unplugged",
            CutOut => "cut off, outgoing",
            CutIn => "cut off, incoming",
            Slow => "with slow links",
            FillDisk if kind == Kind::Sqlite => "on a full disk",
            FillDisk => "with full disks",
            Lock => "locked by a transaction",
            ClockAhead => "a minute ahead",
            ClockBack => "a minute back",
            LoseData => "without their data",
            Rewind => "with older data",
            RemoveRequest => "without its request",
            OtherList => "in another list",
            LeaveLease => "with a lease that is left",
            Nothing => "undisturbed",
        };
        format!("{target} {damage}")
    }

    pub(crate) fn is_of_servers(self) -> bool {
        !matches!(self.target, Holder | Waiter)
    }

    pub(crate) fn needs_links(self) -> bool {
        matches!(self.damage, Unplug | CutOut | CutIn | Slow)
    }

    /// Whether committed data is lost, so that tokens have no order.
    pub(crate) fn loses_data(self) -> bool {
        matches!(self.damage, LoseData | Rewind)
    }

    pub(crate) fn moves_clock(self) -> bool {
        matches!(self.damage, ClockAhead | ClockBack)
    }

    /// Whether two processes may hold a name at once, each by its own clock. The leases of etcd do
    /// not depend on the date.
    pub(crate) fn may_overlap(self, kind: Kind) -> bool {
        self.loses_data() || (self.moves_clock() && kind != Kind::Etcd)
    }

    /// Whether the engine is unavailable during the fault.
    pub(crate) fn interrupts(self, kind: Kind) -> bool {
        match self.target {
            Majority | AllServers => matches!(
                self.damage,
                Kill | Stop | Unplug | CutOut | CutIn | FillDisk | Lock | LoseData | Rewind
            ),
            _ => kind == Kind::Postgres && self.is_of_servers(),
        }
    }

    /// How long the fault lasts.
    pub(crate) fn duration(self, kind: Kind, ttl: Duration) -> Duration {
        let second = Duration::from_secs(1);
        match (self.target, self.damage) {
            (_, Nothing | LeaveLease) => second,
            (Leader, Stop | Unplug | CutOut | CutIn) => second * 5,
            (_, RemoveRequest) => Duration::ZERO,
            (Holder | Waiter, _) => ttl + Duration::from_millis(1800),
            (_, OtherList) => second,
            (_, LoseData | Rewind) => second * 3,
            _ if kind == Kind::Etcd => second * 4,
            _ => second * 3,
        }
    }

    /// The longest time without an acquisition by the probe, or from the end of the fault if the
    /// engine is unavailable during it (I5).
    pub(crate) fn longest_outage(self, kind: Kind) -> Duration {
        let ms = Duration::from_millis;
        match kind {
            _ if !self.is_of_servers() => ms(500),
            Kind::Etcd => ms(4000),
            Kind::Quorum if !self.interrupts(kind) => ms(500),
            Kind::Quorum | Kind::Sqlite => ms(1000),
            Kind::Postgres => ms(5000),
        }
    }

    /// The longest time until the name of a holder is leased again (I6).
    pub(crate) fn longest_takeover(self, ttl: Duration) -> Option<Duration> {
        let second = Duration::from_secs(1);
        match (self.target, self.damage) {
            // Its renewals arrive until its lease ends by its own clock.
            (Holder, CutIn) => Some(ttl * 2 + second),
            (Holder, _) => Some(ttl + second),
            _ => None,
        }
    }
}

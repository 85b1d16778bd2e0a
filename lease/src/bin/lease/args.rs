//! The arguments of the command.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::duration;

const ABOUT: &str = "Runs commands under leases, and shows the holders of leases";

const URLS: &str = "\
The URL of the engine comes from --on, else from the variable LEASE_URL, else from the first line \
of the file ~/.config/lease/url. Without any, leases are kept in the SQLite file \
~/.local/state/lease/leases.db of the user. XDG_CONFIG_HOME and XDG_STATE_HOME replace ~/.config \
and ~/.local/state.

A password belongs in the variable, in the file, or in the places of the engine's own clients, \
such as PGPASSFILE. One in --on is removed from the list of processes, but other users may have \
seen it before.";

const RUN: &str = "\
Acquires the lease, runs the command, and releases the lease after the command and all processes \
that it started have ended.

ENVIRONMENT
  The command receives LEASE_NAME, LEASE_TOKEN and LEASE_NONCE. A resource that the command \
changes should refuse tokens smaller than the greatest that it has seen. LEASE_URL and LEASE_NEW_URL \
are removed from the environment; all other variables, including PGPASSWORD, are passed on.

LOSS
  The lease is renewed in the background, after a third of the time until the grace. An outage of \
half of that time ends no command. If it was not renewed at its end minus the grace, the \
command's process group receives SIGTERM, and all processes that the command started receive \
SIGKILL at the end of the lease. A lease that was broken ends in the same way, at once. A second \
process enforces the end while the first is stopped.

SIGNALS
  INT, TERM, HUP, QUIT, TSTP and CONT are passed on to the command's process group; USR1, USR2 and \
WINCH to the command itself. A signal that `lease` was started to ignore, as by nohup, stays \
ignored. During the wait for the lease, a signal ends the wait and leaves nothing behind.

TERMINAL
  The command has a process group of its own and receives the foreground of the terminal. In a \
pipeline it receives the foreground when it first reads the terminal. Ctrl-Z stops the command and \
`lease` as one job; the lease is renewed until the job is continued.

PROCESSES LEFT BEHIND
  When the command ends, processes that it started and left behind receive SIGTERM, and SIGKILL \
after the grace, before the lease is released. With --keep-daemons, processes that have left the \
process group are not covered by the lease, and are left alone. If `lease` is killed, all of them \
are ended. A process that has the rights of another user cannot be ended. If all processes of \
`lease` are killed at once, the system ends the command, but not the processes that it started. \
Outside Linux, only the process group is covered.

EXIT CODES
  The command's own, or 128 + the number of the signal that ended it; otherwise
   69  the engine cannot be reached
   75  the lease is held by another
   76  the lease was lost, and the command was ended
  125  `lease` itself failed, or an argument is wrong
  126  the command cannot be executed
  127  the command does not exist";

/// The arguments of `lease`.
#[derive(Debug, Parser)]
#[command(name = "lease", version, about = ABOUT, after_long_help = URLS, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Runs a command while the lease is held
    #[command(long_about = RUN, after_long_help = URLS)]
    Run(Run),
    /// Shows the holder of a lease
    #[command(after_long_help = URLS)]
    Status(Name),
    /// Lists the leases that are held
    #[command(after_long_help = URLS)]
    List(List),
    /// Shows each change of the holder of a lease, until it is interrupted
    #[command(after_long_help = URLS)]
    Watch(Name),
    /// Ends the lease of a holder that cannot release it
    ///
    /// The token names the holder that was seen, so that a later holder is not affected. Exits with
    /// 1 if the lease is not held under this token. The holder loses its lease when it next renews
    /// it, and a command that `lease run` runs is ended then.
    #[command(after_long_help = URLS)]
    Break(Break),
    /// Checks that the engine keeps its guarantees
    ///
    /// Runs the suite of conformance against the engine, in namespaces of its own. Some cases start
    /// further processes of `lease`, and kill them. Exits with 1 if a case fails.
    #[command(after_long_help = URLS)]
    Check(Check),
    /// Changes the list of nodes of a quorum engine
    #[command(subcommand)]
    Nodes(Nodes),
    /// Measures latency and hand-overs
    #[command(after_long_help = URLS)]
    Bench(Bench),
    /// Plays a role of the suite of conformance, in a process that `lease check` starts
    #[command(hide = true)]
    Act {
        /// The role
        role: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct On {
    /// The URL of the engine
    #[arg(long = "on", value_name = "URL")]
    pub(crate) url: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Json {
    /// Prints JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The name of the lease: 1 to 512 bytes
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) on: On,
    /// The length of the lease, which is renewed while the command runs
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub(crate) ttl: Duration,
    /// The time after which the wait for the lease ends with exit code 75 [default: none]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) wait: Option<Duration>,
    /// Exits with 75 at once if the lease is held by another
    #[arg(long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,
    /// The time between SIGTERM and SIGKILL, at most half of the length of the lease [default: 5s,
    /// or half of the length]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) grace: Option<Duration>,
    /// Leaves processes alone that have left the command's process group
    #[arg(long)]
    pub(crate) keep_daemons: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The name of the lease
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) on: On,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The beginning of the names, in which no character has a special meaning
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    #[command(flatten)]
    pub(crate) on: On,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct Break {
    /// The name of the lease
    pub(crate) name: String,
    /// The token of the holder, as `lease status` shows it
    #[arg(long, value_name = "N")]
    pub(crate) token: u64,
    #[command(flatten)]
    pub(crate) on: On,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Runs only the cases whose names contain this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    #[command(flatten)]
    pub(crate) on: On,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Nodes {
    /// Replaces the list of nodes after all leases have ended
    ///
    /// From the beginning on, no client of the present list acquires a lease; leases that are held
    /// can be renewed and released. When all of them have ended, clients of the present list are
    /// refused, and must use the new one. If a lease is held after --wait, the present list stays
    /// valid, and the exit code is 75. A change that was interrupted can be repeated.
    ///
    /// All new nodes must be reachable. A node of the present list that is not must never be used
    /// again with its data. The new URL comes from --to, else from the variable LEASE_NEW_URL.
    #[command(after_long_help = URLS)]
    Change(Change),
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// The URL with the present list of nodes
    #[arg(long = "on", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The URL with the new list of nodes
    #[arg(long = "to", value_name = "URL")]
    pub(crate) new_url: Option<String>,
    /// The time after which the change is given up if leases are held
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration::parse)]
    pub(crate) wait: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) on: On,
    #[command(flatten)]
    pub(crate) json: Json,
    /// The duration of each measurement
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration::parse)]
    pub(crate) duration: Duration,
    /// The number of clients that compete for one lease, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) clients: u32,
}

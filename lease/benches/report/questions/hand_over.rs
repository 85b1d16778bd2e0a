//! Eight processes on one name of PostgreSQL.

use super::Question;
use crate::by_hand::Postgres;
use crate::child::{self, Process};
use crate::row::{Row, Target, alternate, medians};
use crate::server::Server;

pub(crate) const QUESTION: Question = Question {
    title: "Eight processes on one name",
    method: "Each process acquires and releases in a loop for one second, without a pause. Eight \
             others do so by hand: each listens, and repeats its statement after a notification. \
             An acquisition is a hand-over if another process held the lease before. Requests are \
             the statements that clients send, as another server counts them by \
             `pg_stat_statements`. Transactions are those that the server counts: it counts one \
             more for each session that listens and each notification, whoever it is for. A \
             release of this crate does not wait for the disk, because the commit of the next \
             grant makes it durable.",
    syncs: true,
    ask,
};

const PROCESSES: usize = 8;
const ROUNDS: usize = 11;

/// Eight processes with a database of their own, and the acquisitions of all runs.
struct Crowd {
    processes: Vec<Process>,
    database: String,
    before: f64,
    acquired: f64,
    handed_over: f64,
}

impl Crowd {
    fn start(server: &Server, kind: &str) -> Self {
        let database = server.database();
        let url = server.url(&database);
        if kind == "by-hand" {
            Postgres::create(&url);
        }
        Crowd {
            processes: (0..PROCESSES).map(|_| Process::start(kind, &url)).collect(),
            before: transactions(server, &database),
            database,
            acquired: 0.0,
            handed_over: 0.0,
        }
    }

    /// Returns the acquisitions and hand-overs of one run.
    fn run(&mut self) -> (f64, f64) {
        for process in &mut self.processes {
            process.send("loop 1000");
        }
        let (mut acquired, mut handed_over) = (0.0, 0.0);
        for process in &mut self.processes {
            let numbers = process.numbers();
            acquired += numbers[0];
            handed_over += numbers[1];
        }
        self.acquired += acquired;
        self.handed_over += handed_over;
        (acquired, handed_over)
    }

    /// Ends the processes, and returns the transactions of an acquisition.
    fn end(self, server: &Server) -> f64 {
        // A session stores its counts when it ends.
        child::end(self.processes);
        std::thread::sleep(std::time::Duration::from_millis(500));
        (transactions(server, &self.database) - self.before) / self.acquired
    }
}

/// Returns the statements that clients of a kind send for an acquisition, on a server that counts
/// them.
fn requests(server: &Server, kind: &str) -> f64 {
    let mut crowd = Crowd::start(server, kind);
    let database = crowd.database.clone();
    let sent = || -> f64 {
        let statement = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s
                         JOIN pg_database d ON d.oid = s.dbid
                         WHERE toplevel AND datname = ";
        let statement = format!("{statement} '{database}'");
        server.psql("postgres", &statement).parse().unwrap()
    };
    let before = sent();
    let (acquired, _) = crowd.run();
    (sent() - before) / acquired
}

fn transactions(server: &Server, database: &str) -> f64 {
    let statement = format!(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{database}'"
    );
    server.psql("postgres", &statement).parse().unwrap()
}

fn ask() -> Vec<Row> {
    let mut rows = Vec::new();
    for ((name, server), settings) in super::servers().into_iter().zip(["", "fsync=off"]) {
        let mut more = of_server(name, &server, settings);
        if !rows.is_empty() {
            more.iter_mut().for_each(|row| row.target = None);
        }
        rows.append(&mut more);
    }
    rows
}

/// Measures a server, and counts at another one with the same settings.
fn of_server(name: &str, server: &Server, settings: &str) -> Vec<Row> {
    let mut ours = Crowd::start(server, "ours");
    let mut theirs = Crowd::start(server, "by-hand");
    let (mut ours_all, mut theirs_all) = (Vec::new(), Vec::new());
    let handed_over = alternate(
        ROUNDS,
        || {
            let (acquired, handed_over) = ours.run();
            ours_all.push(acquired);
            handed_over
        },
        || {
            let (acquired, handed_over) = theirs.run();
            theirs_all.push(acquired);
            handed_over
        },
    );
    let acquired: Vec<(f64, f64)> = ours_all.into_iter().zip(theirs_all).collect();
    let per_hand_over = ours.acquired / ours.handed_over;
    let transactions = (ours.end(server), theirs.end(server));
    let counts = "shared_preload_libraries=pg_stat_statements";
    let all: Vec<&str> = [counts, settings]
        .into_iter()
        .filter(|s| !s.is_empty())
        .collect();
    let counting = Server::start(&all).expect("PostgreSQL is installed");
    counting.psql("postgres", "CREATE EXTENSION pg_stat_statements");
    let requests = (requests(&counting, "ours"), requests(&counting, "by-hand"));
    let rate = |what: &str, pairs: &[(f64, f64)]| {
        let (ours, theirs) = medians(pairs);
        Row {
            lower: false,
            ..Row::ratio(
                format!("{name}: {what}"),
                "`LISTEN` and the statement by hand",
                pairs,
            )
        }
        .context(format!("{ours:.0} / {theirs:.0} a second"))
    };
    vec![
        rate("hand-overs a second", &handed_over).target(Target::AtLeast(0.7)),
        rate("acquisitions a second", &acquired),
        Row::alone(format!("{name}: requests an acquisition"), requests.0, "")
            .target(Target::AtMost(4.0))
            .context(format!("by hand {:.2}", requests.1)),
        Row::alone(
            format!("{name}: transactions an acquisition"),
            transactions.0,
            "",
        )
        .context(format!("by hand {:.2}", transactions.1)),
        Row::alone(
            format!("{name}: acquisitions a hand-over"),
            per_hand_over,
            "",
        ),
    ]
}

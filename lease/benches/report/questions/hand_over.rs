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
             the statements that clients send. Transactions are those that the server counts: it \
             counts one more for each session that listens and each notification, whoever it is \
             for. If a waiter has a place, a release of this crate does not wait for the disk, \
             because the commit of the next grant makes it durable.",
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
    /// The statements that the processes have counted.
    statements: f64,
}

/// What a crowd needed for each acquisition.
struct Costs {
    requests: f64,
    transactions: f64,
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
            statements: 0.0,
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
            self.statements += numbers[2];
        }
        self.acquired += acquired;
        self.handed_over += handed_over;
        (acquired, handed_over)
    }

    /// Ends the processes, and returns the costs.
    fn end(self, server: &Server) -> Costs {
        // A session stores its counts when it ends.
        child::end(self.processes);
        std::thread::sleep(std::time::Duration::from_millis(500));
        // Where the processes do not count, each request is a call of a function.
        let statements = match self.statements {
            0.0 => requests(server, &self.database),
            counted => counted,
        };
        let transactions = transactions(server, &self.database) - self.before;
        Costs {
            requests: statements / self.acquired,
            transactions: transactions / self.acquired,
        }
    }
}

/// Returns the calls of the functions that clients of this crate call.
fn requests(server: &Server, database: &str) -> f64 {
    let statement = "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions \
                     WHERE schemaname = 'latchwork' AND funcname <> 'wake'";
    server.psql(database, statement).parse().unwrap()
}

fn transactions(server: &Server, database: &str) -> f64 {
    let statement = format!(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{database}'"
    );
    server.psql("postgres", &statement).parse().unwrap()
}

fn ask() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, server) in super::servers() {
        let mut more = of_server(name, &server);
        if !rows.is_empty() {
            more.iter_mut().for_each(|row| row.target = None);
        }
        rows.append(&mut more);
    }
    rows
}

fn of_server(name: &str, server: &Server) -> Vec<Row> {
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
    let costs = ours.end(server);
    let theirs_costs = theirs.end(server);
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
        Row::alone(
            format!("{name}: requests an acquisition"),
            costs.requests,
            "",
        )
        .target(Target::AtMost(4.0))
        .context(format!("by hand {:.2}", theirs_costs.requests)),
        Row::alone(
            format!("{name}: transactions an acquisition"),
            costs.transactions,
            "",
        )
        .context(format!("by hand {:.2}", theirs_costs.transactions)),
        Row::alone(
            format!("{name}: acquisitions a hand-over"),
            per_hand_over,
            "",
        ),
    ]
}

//! What an engine guarantees, as data: [`Guarantees`].

use std::time::Duration;

/// What an engine guarantees, printed in the documentation and checked by the conformance suite.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guarantees {
    /// When two holders of one name are excluded.
    pub exclusive: Exclusive,
    /// When the tokens of a name grow in the order of the holders in real time.
    pub token_order: TokenOrder,
    /// Whether waiters of different processes are served in the order of their requests.
    pub fair: bool,
    /// The failures that the engine survives, for people.
    pub tolerates: &'static str,
    /// The least length of a lease.
    pub least_lease: Duration,
    /// The time after which a waiter in another process usually sees a release.
    pub hand_over: Duration,
    /// The time by which a lease may end before its length. Its holder does not use this time.
    pub ends_early: Duration,
    /// Whether one request renews any number of leases of one length.
    ///
    /// Leases are then renewed up to a fifth of their length earlier, in few requests.
    pub renews_together: bool,
}

/// When two holders of one name are excluded.
///
/// No engine excludes a holder that is paused beyond its lease: only a fence does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exclusive {
    /// Always: leases do not expire while their process lives.
    Always,
    /// Unless a holder is paused for longer than its lease between a check and its effect.
    UnlessPaused,
    /// Unless a holder is paused, or the clock of a node jumps.
    UnlessPausedOrClocksJump,
    /// Unless a holder is paused, or a server that was paused for longer than a lease continues.
    UnlessHolderOrServerPauses,
}

/// When the tokens of a name grow in the order of the holders in real time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenOrder {
    /// Always.
    Always,
    /// Unless the engine loses committed data. `Leases::raise_floor` repairs the order.
    UnlessDataIsLost,
}

impl Guarantees {
    /// Makes the guarantees of an engine; engines outside this crate need it.
    pub const fn new(exclusive: Exclusive, token_order: TokenOrder) -> Self {
        Guarantees {
            exclusive,
            token_order,
            fair: false,
            tolerates: "",
            least_lease: Duration::from_millis(100),
            hand_over: Duration::from_millis(50),
            ends_early: Duration::ZERO,
            renews_together: false,
        }
    }
}

#[cfg(all(
    test,
    feature = "sqlite",
    feature = "postgres",
    feature = "etcd",
    feature = "redis",
    target_os = "linux"
))]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    const BEGIN: &str = "<!-- guarantees: begin -->\n";
    const END: &str = "<!-- guarantees: end -->";

    /// The engines of the README, by URL. A further engine belongs here.
    fn engines() -> Vec<(&'static str, Guarantees)> {
        vec![
            ("memory:", crate::memory::GUARANTEES),
            ("sqlite:FILE", crate::sqlite::GUARANTEES),
            ("postgres://…", crate::postgres::GUARANTEES),
            // The least lease is that of the default settings of the server.
            (
                "etcd://a,b,c",
                crate::etcd::guarantees(3, true, Duration::from_secs(2)),
            ),
            ("quorum:redis://a,…", crate::quorum::guarantees(5)),
        ]
    }

    fn render() -> String {
        let mut text = String::from(
            "| URL | exclusive | tokens are ordered | fair | least lease | hand-over |\n\
             |---|---|---|---|---|---|\n",
        );
        for (url, all) in engines() {
            let exclusive = match all.exclusive {
                Exclusive::Always => "always",
                Exclusive::UnlessPaused => "unless paused",
                Exclusive::UnlessPausedOrClocksJump => "unless paused or clocks jump",
                Exclusive::UnlessHolderOrServerPauses => "unless a holder or a server is paused",
            };
            let order = match all.token_order {
                TokenOrder::Always => "always",
                TokenOrder::UnlessDataIsLost => "unless data is lost",
            };
            let fair = if all.fair { "yes" } else { "no" };
            let (least, hand_over) = (all.least_lease, all.hand_over);
            writeln!(
                text,
                "| `{url}` | {exclusive} | {order} | {fair} | {least:?} | {hand_over:?} |"
            )
            .expect("a string");
        }
        text.push_str("\nFailures that an engine tolerates:\n");
        for (url, all) in engines() {
            let mut column = 0;
            for word in format!("- `{url}`: {}.", all.tolerates).split(' ') {
                let length = word.chars().count();
                if column > 0 && column + 1 + length > 98 {
                    text.push_str("\n ");
                    column = 1;
                }
                if column > 0 {
                    text.push(' ');
                }
                text.push_str(word);
                column += 1 + length;
            }
            text.push('\n');
        }
        text
    }

    /// The documentation of `Leases::connect` has a row for each engine, and each row is one.
    #[test]
    fn the_table_of_urls_has_a_row_for_each_engine() {
        let scheme = |url: &str| url.split(':').next().unwrap_or_default().to_owned();
        let documented: Vec<String> = include_str!("leases.rs")
            .lines()
            .filter_map(|line| line.trim().strip_prefix("/// | `"))
            .map(scheme)
            .collect();
        let engines: Vec<String> = engines().iter().map(|(url, _)| scheme(url)).collect();
        assert_eq!(documented, engines);
        for scheme in documented {
            // Without a file or host, no engine is opened.
            let error = crate::leases::engine(&format!("{scheme}:")).err();
            let is_unknown = |error| matches!(error, crate::ConnectError::UnknownScheme { .. });
            assert!(!error.is_some_and(is_unknown), "{scheme} is unknown");
        }
    }

    /// The table of the README is made of the data. `UPDATE_README=1` writes it.
    #[test]
    fn the_readme_has_the_guarantees_of_the_engines() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let text = std::fs::read_to_string(&path).expect("the README");
        let (before, rest) = text.split_once(BEGIN).expect("the mark before the table");
        let (present, after) = rest.split_once(END).expect("the mark behind the table");
        let expected = render();
        if std::env::var_os("UPDATE_README").is_some() {
            let updated = format!("{before}{BEGIN}{expected}{END}{after}");
            std::fs::write(&path, updated).expect("the README can be written");
            return;
        }
        assert_eq!(
            present, expected,
            "the README differs from the data; run this test with UPDATE_README=1"
        );
    }
}

//! What people see of leases: `status`, `list`, `watch` and `break`.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use latchwork::table::FencingToken;
use latchwork_lease::{CallError, Holder};
use serde_json::{Value, json};

use crate::exit::{self, Failure, one_line};
use crate::{call_failure, connect, duration, table};

const TITLES: [&str; 5] = ["NAME", "HOLDER", " TOKEN", " HELD FOR", " ENDS IN"];

/// How long `watch` pauses after a failed request.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn status(url: &str, name: &str, as_json: bool) -> Result<u8, Failure> {
    let holder = connect(url)?
        .holder(name)
        .map_err(|error| call_failure(&error))?;
    match (as_json, &holder) {
        (true, holder) => print_json(&to_json(name, holder.as_ref())),
        (false, Some(holder)) => printed(table::print(&TITLES, &[row(name, holder)])),
        (false, None) => printed(writeln!(io::stdout(), "{} is free", one_line(name))),
    }
}

pub(crate) fn list(url: &str, prefix: &str, as_json: bool) -> Result<u8, Failure> {
    let leases = connect(url)?
        .list(prefix)
        .map_err(|error| call_failure(&error))?;
    if as_json {
        let leases = leases
            .iter()
            .map(|(name, holder)| to_json(name, Some(holder)));
        return print_json(&leases.collect());
    }
    let rows: Vec<_> = leases
        .iter()
        .map(|(name, holder)| row(name, holder))
        .collect();
    printed(table::print(&TITLES, &rows))
}

pub(crate) fn watch(url: &str, name: &str, as_json: bool) -> Result<u8, Failure> {
    let mut watch = connect(url)?
        .watch(name)
        .map_err(|error| call_failure(&error))?;
    let mut fails = false;
    loop {
        let holder = match watch.next() {
            Ok(holder) => holder,
            Err(error @ CallError::Unavailable { .. }) => {
                // One line for an outage, however long it lasts.
                if !fails {
                    eprintln!("lease: warning: {}", one_line(&error.to_string()));
                }
                fails = true;
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(error) => return Err(call_failure(&error)),
        };
        fails = false;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        if as_json {
            let mut change = to_json(name, holder.as_ref());
            change["at"] = json!(seconds(now.unwrap_or_default()));
            print_json(&change)?;
        } else {
            let state = match &holder {
                Some(holder) => format!("held by {}, token {}", holder.owner_label, holder.token),
                None => "free".to_owned(),
            };
            let time = time_of_day(now.unwrap_or_default());
            printed(writeln!(io::stdout(), "{time} {} {state}", one_line(name)))?;
        }
    }
}

pub(crate) fn break_(url: &str, name: &str, token: u64, as_json: bool) -> Result<u8, Failure> {
    let was_held = connect(url)?
        .break_lease(name, FencingToken::new(token))
        .map_err(|error| call_failure(&error))?;
    if as_json {
        print_json(&json!({ "name": name, "token": token, "broken": was_held }))?;
    } else if was_held {
        let name = one_line(name);
        printed(writeln!(
            io::stdout(),
            "{name}: broke the lease with token {token}"
        ))?;
    }
    match was_held {
        true => Ok(0),
        false if as_json => Ok(exit::NO),
        false => Err(Failure::new(
            exit::NO,
            format!("the lease {name:?} is not held under token {token}"),
        )),
    }
}

fn row(name: &str, holder: &Holder) -> Vec<String> {
    let now = SystemTime::now();
    vec![
        name.to_owned(),
        one_line(&holder.owner_label),
        holder.token.to_string(),
        duration::format(now.duration_since(holder.since).unwrap_or_default()),
        duration::format(holder.expires.duration_since(now).unwrap_or_default()),
    ]
}

fn to_json(name: &str, holder: Option<&Holder>) -> Value {
    let time = |time: SystemTime| seconds(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    match holder {
        Some(holder) => json!({
            "name": name,
            "held": true,
            "holder": holder.owner_label,
            "token": holder.token.get(),
            "since": time(holder.since),
            "expires": time(holder.expires),
        }),
        None => json!({ "name": name, "held": false }),
    }
}

/// Seconds with three decimals, the precision of the times.
fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

/// The time of day in UTC.
fn time_of_day(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs() % 86400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}Z", seconds % 60)
}

pub(crate) fn print_json(value: &Value) -> Result<u8, Failure> {
    printed(writeln!(io::stdout(), "{value}"))
}

/// The end of an output. A reader that has closed the pipe has seen enough.
pub(crate) fn printed(result: io::Result<()>) -> Result<u8, Failure> {
    match result {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::own(format!("cannot print: {error}"))),
    }
}

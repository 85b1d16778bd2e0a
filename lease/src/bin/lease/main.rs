//! The command `lease`: runs commands under leases, and shows the holders of leases.
#![cfg_attr(not(unix), allow(unused))]

#[cfg(unix)]
mod args;
#[cfg(unix)]
mod bench;
#[cfg(unix)]
mod check;
#[cfg(unix)]
mod clock;
#[cfg(unix)]
mod duration;
#[cfg(unix)]
mod exit;
#[cfg(unix)]
mod nodes;
#[cfg(unix)]
mod run;
#[cfg(unix)]
mod sys;
#[cfg(unix)]
mod table;
#[cfg(unix)]
mod url;
#[cfg(unix)]
mod view;

#[cfg(not(unix))]
fn main() {
    eprintln!("lease: this system is not supported");
    std::process::exit(125);
}

#[cfg(unix)]
use {
    clap::Parser,
    clap::error::ErrorKind,
    exit::Failure,
    latchwork_lease::{AcquireError, CallError, ConnectError, Leases},
    std::process::ExitCode,
    std::time::Duration,
};

#[cfg(unix)]
fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match perform(cli.action) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("lease: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Prints help in full and an error as one line.
#[cfg(unix)]
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprintln!("lease: a subcommand is missing; see lease --help");
        return ExitCode::from(exit::FAILED);
    }
    // The first paragraph is the error; the others show the usage.
    let text = error.to_string();
    let error = text.split("\n\n").next().unwrap_or_default();
    let error = error.trim_start_matches("error:").split_whitespace();
    let error = error.collect::<Vec<_>>().join(" ");
    eprintln!("lease: {error}; see lease --help");
    ExitCode::from(exit::FAILED)
}

#[cfg(unix)]
fn perform(action: args::Action) -> Result<u8, Failure> {
    use args::Action;
    let (on, to) = match &action {
        Action::Run(args) => (&args.on.url, &None),
        Action::Status(args) | Action::Watch(args) => (&args.on.url, &None),
        Action::List(args) => (&args.on.url, &None),
        Action::Break(args) => (&args.on.url, &None),
        Action::Check(args) => (&args.on.url, &None),
        Action::Bench(args) => (&args.on.url, &None),
        Action::Act { .. } => (&None, &None),
        Action::Nodes(args::Nodes::Change(args)) => (&args.url, &args.new_url),
    };
    url::hide_passwords(on.as_deref(), to.as_deref());
    let find = || url::find(on.as_deref());
    match &action {
        Action::Run(args) => run::run(job(args, find)?),
        Action::Status(args) => view::status(&find()?, &args.name, args.json.json),
        Action::List(args) => view::list(&find()?, &args.prefix, args.json.json),
        Action::Watch(args) => view::watch(&find()?, &args.name, args.json.json),
        Action::Break(args) => view::break_(&find()?, &args.name, args.token, args.json.json),
        Action::Check(args) => check::check(&find()?, args),
        Action::Nodes(args::Nodes::Change(args)) => {
            nodes::change(&find()?, &url::find_new(to.as_deref())?, args.wait)
        }
        Action::Bench(args) => bench::bench(&find()?, args),
        Action::Act { role } => check::act(&find()?, role),
    }
}

/// Checks the arguments of `lease run`, before anything is created.
#[cfg(unix)]
fn job(
    args: &args::Run,
    find: impl FnOnce() -> Result<String, Failure>,
) -> Result<run::Job, Failure> {
    let half = args.ttl / 2;
    let grace = args.grace.unwrap_or(Duration::from_secs(5).min(half));
    let (command, rest) = args
        .command
        .split_first()
        .ok_or_else(|| Failure::own("the command is missing"))?;
    // The engine's own checks follow. These precede the creation of any file or process, and start
    // no thread.
    let nothing = Leases::connect("memory:").map_err(|error| connect_failure(&error))?;
    nothing
        .watch(&args.name)
        .map_err(|error| call_failure(&error))?;
    if args.ttl < Duration::from_millis(100) || args.ttl > Duration::from_secs(24 * 3600) {
        return Err(Failure::own("--ttl is not between 100 ms and 24 h"));
    }
    if grace > half {
        return Err(Failure::own("--grace is longer than half of --ttl"));
    }
    url::find_command(command)?;
    Ok(run::Job {
        url: find()?,
        name: args.name.clone(),
        ttl: args.ttl,
        wait: if args.no_wait {
            Some(Duration::ZERO)
        } else {
            args.wait
        },
        grace,
        keep_daemons: args.keep_daemons,
        command: command.clone(),
        args: rest.to_vec(),
    })
}

/// Connects to the engine.
#[cfg(unix)]
fn connect(url: &str) -> Result<Leases, Failure> {
    Leases::connect(url).map_err(|error| connect_failure(&error))
}

#[cfg(unix)]
fn connect_failure(error: &ConnectError) -> Failure {
    let code = match error {
        ConnectError::Engine(engine) if engine.is_temporary => exit::UNREACHABLE,
        _ => exit::FAILED,
    };
    Failure::new(code, error)
}

#[cfg(unix)]
fn acquire_failure(error: &AcquireError) -> Failure {
    let code = match error {
        AcquireError::Unavailable { .. } => exit::UNREACHABLE,
        AcquireError::GaveUp => exit::BUSY,
        _ => exit::FAILED,
    };
    Failure::new(code, error)
}

#[cfg(unix)]
fn call_failure(error: &CallError) -> Failure {
    let code = match error {
        CallError::Unavailable { .. } => exit::UNREACHABLE,
        _ => exit::FAILED,
    };
    Failure::new(code, error)
}

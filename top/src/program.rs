//! The program `latchtop`: its arguments, and what each makes it do.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::load;
use crate::screen::{self, View};
use crate::source::Source;
use crate::watch::watch;

/// Draws which waiter waits for which holder in a program that uses latchwork.
#[derive(Debug, Parser)]
#[command(name = "latchtop")]
struct Options {
    /// Draws the process that listens on this Unix socket, and not a load of its own
    #[arg(long, value_name = "PATH", conflicts_with = "port")]
    connect: Option<PathBuf>,
    /// Draws the process that listens on this port of 127.0.0.1
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Also serves its own load on this Unix socket
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["connect", "port"])]
    serve: Option<PathBuf>,
    /// Prints one screen as text after this many milliseconds, and ends
    #[arg(long, value_name = "MS")]
    once: Option<u64>,
    /// Prints one report as JSON after this many milliseconds, and ends
    #[arg(long, value_name = "MS", conflicts_with = "once")]
    json: Option<u64>,
    /// Milliseconds between two reports
    #[arg(long, value_name = "MS", default_value = "500", value_parser = clap::value_parser!(u64).range(50..))]
    every: u64,
}

fn run(options: &Options) -> Result<(), String> {
    let own = load_unless(options.connect.is_some() || options.port.is_some());
    #[cfg(unix)]
    let _server = match (&own, &options.serve) {
        (Some(console), Some(path)) => {
            let server = console.serve_unix(path);
            Some(server.map_err(|error| format!("{}: {error}", path.display()))?)
        }
        _ => None,
    };
    if let (Some(wait), Some(console)) = (options.json, &own) {
        thread::sleep(Duration::from_millis(wait));
        println!("{}", console.json());
        return Ok(());
    }
    let source = match (own, &options.connect, options.port) {
        (Some(console), ..) => Source::Own(console),
        (None, Some(path), _) => Source::Unix(path.clone()),
        (None, None, port) => Source::Loopback(port.unwrap_or_default()),
    };
    if let Some(wait) = options.once {
        return print_once(&source, Duration::from_millis(wait));
    }
    if !std::io::stdout().is_terminal() {
        return Err("the output is no terminal: --once 1000 prints one screen".to_owned());
    }
    watch(source, Duration::from_millis(options.every))
}

fn load_unless(other: bool) -> Option<latchwork::console::Console> {
    (!other).then(load::start)
}

/// Prints two reports' difference as one screen of text.
fn print_once(source: &Source, wait: Duration) -> Result<(), String> {
    let before = source.report()?;
    thread::sleep(wait);
    let mut view = View::new(source.title(), source.report()?);
    view.before = Some((before, wait));
    let backend = TestBackend::new(120, 36);
    let mut terminal = Terminal::new(backend).map_err(|error| error.to_string())?;
    let drawn = terminal.draw(|frame| screen::draw(&view, frame));
    let buffer = drawn.map_err(|error| error.to_string())?.buffer;
    for row in 0..buffer.area.height {
        let cells = (0..buffer.area.width).map(|column| buffer[(column, row)].symbol());
        println!("{}", cells.collect::<String>().trim_end());
    }
    Ok(())
}

/// Runs the program with these arguments, the first of which is its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match run(&Options::parse_from(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latchtop: {error}");
            ExitCode::FAILURE
        }
    }
}

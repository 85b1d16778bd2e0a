//! Draws which waiter waits for which holder, over its own load or over the socket of another process.
//!
//! ```text
//! cargo run --release -p latchwork-top --example latchtop
//! cargo run --release -p latchwork-top --example latchtop -- --connect /run/user/1000/bank.sock
//! ```

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use latchwork_top::load;
use latchwork_top::report::Report;
use latchwork_top::screen::{self, Panel, View};
use latchwork_top::source::Source;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};

/// Draws which waiter waits for which holder in a program that uses latchwork.
#[derive(Debug, Parser)]
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
    let mut terminal = ratatui::init();
    let ended = watch(&source, &mut terminal, Duration::from_millis(options.every));
    ratatui::restore();
    ended
}

fn load_unless(other: bool) -> Option<latchwork::console::Console> {
    (!other).then(load::start)
}

/// Draws reports until the user quits. Without a new report, the last one stays.
fn watch(
    source: &Source,
    terminal: &mut ratatui::DefaultTerminal,
    every: Duration,
) -> Result<(), String> {
    let mut view = view(source, source.report()?);
    let mut made = Instant::now();
    loop {
        let drawn = terminal.draw(|frame| screen::draw(&view, frame));
        drawn.map_err(|error| error.to_string())?;
        let left = every.saturating_sub(made.elapsed());
        let waits = event::poll(left).map_err(|error| error.to_string())?;
        if waits {
            let event = event::read().map_err(|error| error.to_string())?;
            let Event::Key(key) = event else { continue };
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if control => return Ok(()),
                KeyCode::Char('p') => view.paused = !view.paused,
                KeyCode::Char(key) => view.panel = Panel::of_key(key).unwrap_or(view.panel),
                _ => {}
            }
            continue;
        }
        let span = made.elapsed();
        made = Instant::now();
        if view.paused {
            continue;
        }
        match source.report() {
            Ok(report) => {
                let before = std::mem::replace(&mut view.now, report);
                view.before = Some((before, span));
                view.error = None;
            }
            Err(error) => view.error = Some(error),
        }
    }
}

fn view(source: &Source, now: Report) -> View {
    View {
        source: source.title(),
        now,
        before: None,
        error: None,
        panel: Panel::All,
        paused: false,
    }
}

/// Prints two reports' difference as one screen of text.
fn print_once(source: &Source, wait: Duration) -> Result<(), String> {
    let before = source.report()?;
    thread::sleep(wait);
    let mut view = view(source, source.report()?);
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

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latchtop: {error}");
            ExitCode::FAILURE
        }
    }
}

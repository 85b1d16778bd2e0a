//! The loop of `latchtop`: draws reports, and reacts to keys.
//!
//! A thread requests the reports, so that a process that does not answer delays no key.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::report::Report;
use crate::screen::{self, Panel, View};
use crate::source::Source;

/// How long a key waits to be read, at most.
const TICK: Duration = Duration::from_millis(20);

/// Draws reports until the user quits. Without a new report, the last one stays.
///
/// # Errors
/// Returns why there was no first report, or why the terminal cannot be drawn.
pub fn watch(source: Source, every: Duration) -> Result<(), String> {
    // Before the terminal changes, so that an error is read where the command was entered.
    let first = source.report()?;
    let mut view = View::new(source.title(), first);
    let reports = requested(source, every);
    let mut terminal = ratatui::try_init().map_err(|error| error.to_string())?;
    let ended = draw_all(&mut view, &reports, &mut terminal);
    ratatui::restore();
    ended
}

/// Starts the thread that requests a report each `every`, and returns its results.
fn requested(source: Source, every: Duration) -> Receiver<Result<Report, String>> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        loop {
            thread::sleep(every);
            // It ends when the receiver is dropped.
            if sender.send(source.report()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn draw_all(
    view: &mut View,
    reports: &Receiver<Result<Report, String>>,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), String> {
    loop {
        let drawn = terminal.draw(|frame| screen::draw(view, frame));
        drawn.map_err(|error| error.to_string())?;
        // Until something has changed.
        loop {
            if event::poll(TICK).map_err(|error| error.to_string())? {
                match event::read().map_err(|error| error.to_string())? {
                    Event::Key(key) if pressed(view, key) => return Ok(()),
                    Event::Key(_) | Event::Resize(..) => break,
                    _ => {}
                }
            }
            match reports.try_recv() {
                Ok(report) => {
                    view.receive(report, Instant::now());
                    break;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    return Err("the thread that requests reports has ended".to_owned());
                }
            }
        }
    }
}

/// Reacts to a key. Returns whether the user quits.
fn pressed(view: &mut View, key: KeyEvent) -> bool {
    if key.kind == KeyEventKind::Release {
        return false;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => return true,
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('p') => view.paused = !view.paused,
        KeyCode::Char(key) => {
            if let Some(panel) = Panel::of_key(key) {
                view.select(panel);
            }
        }
        KeyCode::Right | KeyCode::Tab => view.select(view.panel.next()),
        KeyCode::Left | KeyCode::BackTab => view.select(view.panel.previous()),
        KeyCode::Down => view.scroll(1),
        KeyCode::Up => view.scroll(-1),
        KeyCode::PageDown => view.scroll(10),
        KeyCode::PageUp => view.scroll(-10),
        KeyCode::Home => view.top = 0,
        _ => {}
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let report = include_str!("../screens/later.json");
        View::new("test".to_owned(), Report::parse(report).expect("a report"))
    }

    fn press(view: &mut View, code: KeyCode) -> bool {
        pressed(view, KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_quit_pause_select_and_scroll() {
        let mut view = view();
        assert!(press(&mut view, KeyCode::Char('q')) && press(&mut view, KeyCode::Esc));
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(pressed(&mut view, control));
        assert!(!press(&mut view, KeyCode::Char('c')));
        press(&mut view, KeyCode::Char('p'));
        assert!(view.paused);
        press(&mut view, KeyCode::Char('3'));
        assert_eq!(view.panel, Panel::Sessions);
        press(&mut view, KeyCode::Char('9'));
        assert_eq!(view.panel, Panel::Sessions, "no panel has this key");
        press(&mut view, KeyCode::Right);
        assert_eq!(view.panel, Panel::Deadlocks);
        for _ in 0..6 {
            press(&mut view, KeyCode::Left);
        }
        assert_eq!(view.panel, Panel::Deadlocks, "six panels in a cycle");
        press(&mut view, KeyCode::Up);
        assert_eq!(view.top, 0);
        press(&mut view, KeyCode::Down);
        press(&mut view, KeyCode::PageDown);
        assert_eq!(view.top, 11);
        press(&mut view, KeyCode::Char('1'));
        assert_eq!(view.top, 0, "another panel begins at its first line");
    }

    #[test]
    fn a_rate_is_of_the_time_between_its_two_reports() {
        let start = Instant::now();
        let mut view = view();
        let report = view.now.clone();
        view.receive(Ok(report.clone()), start);
        let later = start + Duration::from_secs(1);
        // Two reports that fail, and one that is not drawn.
        for n in 1..3 {
            view.receive(
                Err("refused".to_owned()),
                start + n * Duration::from_millis(200),
            );
        }
        assert_eq!(view.error.as_deref(), Some("refused"));
        view.paused = true;
        view.receive(Ok(report.clone()), start + Duration::from_millis(600));
        view.paused = false;
        view.receive(Ok(report.clone()), later);
        let (_, span) = view.before.as_ref().expect("two reports");
        assert_eq!(*span, Duration::from_secs(1));
        assert_eq!(view.error, None);
        // Another process: its counts began at zero.
        let other = Report {
            process: report.process + 1,
            ..report
        };
        view.receive(Ok(other), later + Duration::from_secs(1));
        assert!(view.before.is_none());
    }
}

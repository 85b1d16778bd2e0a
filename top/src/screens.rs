//! The screens of the guide, drawn from reports of a real run that are part of the repository.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::report::Report;
use crate::screen::{self, Panel, View};
use crate::svg;

/// A screen of the guide.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// The file in `src/docs/screens`.
    pub file: &'static str,
    /// The text for readers who do not see it.
    pub description: &'static str,
    /// The part that is drawn.
    pub panel: Panel,
    /// Columns and rows.
    pub size: (u16, u16),
}

/// The screens of the guide.
pub const SCREENS: [Screen; 2] = [
    Screen {
        file: "all.svg",
        description: "latchtop: keys with waiters, sessions, deadlocks and transactions",
        panel: Panel::All,
        size: (120, 32),
    },
    Screen {
        file: "sessions.svg",
        description: "latchtop: the sessions that wait, and the sessions that hold their keys",
        panel: Panel::Sessions,
        size: (80, 12),
    },
];

/// Returns a screen as SVG.
///
/// # Panics
/// Panics if the reports of the repository are not reports.
#[must_use]
pub fn rendered(of: &Screen) -> String {
    let report = |json| Report::parse(json).expect("a report of the repository");
    let mut view = View::new(
        "own load".to_owned(),
        report(include_str!("../screens/later.json")),
    );
    let earlier = report(include_str!("../screens/earlier.json"));
    view.before = Some((earlier, Duration::from_secs(1)));
    view.panel = of.panel;
    let backend = TestBackend::new(of.size.0, of.size.1);
    let mut terminal = Terminal::new(backend).expect("a backend in memory");
    let drawn = terminal.draw(|frame| screen::draw(&view, frame));
    svg::svg(drawn.expect("a backend in memory").buffer, of.description)
}

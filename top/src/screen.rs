//! Draws a report: keys, sessions, deadlocks, transactions and memory.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use crate::report::{Report, count, key_title, time};

/// The part of the screen that is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panel {
    /// All panels.
    #[default]
    All,
    /// The keys with waiters.
    Keys,
    /// The keys with the most waits.
    Busiest,
    /// The sessions that wait.
    Sessions,
    /// The deadlocks.
    Deadlocks,
    /// The transactions.
    Transactions,
}

/// The panels in the order of their keys.
const PANELS: [Panel; 6] = [
    Panel::All,
    Panel::Keys,
    Panel::Busiest,
    Panel::Sessions,
    Panel::Deadlocks,
    Panel::Transactions,
];

impl Panel {
    /// Returns the panel after this one. The first one is after the last.
    #[must_use]
    pub fn next(self) -> Self {
        self.moved(1)
    }

    /// Returns the panel before this one.
    #[must_use]
    pub fn previous(self) -> Self {
        self.moved(PANELS.len() - 1)
    }

    fn moved(self, by: usize) -> Self {
        PANELS[(self as usize + by) % PANELS.len()]
    }

    /// Returns the panel that a key of the keyboard selects.
    #[must_use]
    pub fn of_key(key: char) -> Option<Self> {
        PANELS.get(key.to_digit(10)? as usize).copied()
    }
}

/// What is drawn: the last report, and the one before it.
#[derive(Clone, Debug)]
pub struct View {
    /// Where the reports come from.
    pub source: String,
    /// The last report.
    pub now: Report,
    /// An earlier report, and the time between the two.
    pub before: Option<(Report, Duration)>,
    /// Why there is no newer report.
    pub error: Option<String>,
    /// The part that is drawn.
    pub panel: Panel,
    /// Whether new reports are ignored.
    pub paused: bool,
    /// The number of lines of each list that are scrolled out at its top.
    pub top: usize,
    /// When the last report was received.
    received: Instant,
}

impl View {
    /// Makes a view of all panels, of a first report.
    #[must_use]
    pub fn new(source: String, now: Report) -> Self {
        View {
            source,
            now,
            before: None,
            error: None,
            panel: Panel::All,
            paused: false,
            top: 0,
            received: Instant::now(),
        }
    }

    /// Shows a report, or why there is none. Ignores both while paused.
    pub fn receive(&mut self, report: Result<Report, String>, at: Instant) {
        if self.paused {
            return;
        }
        match report {
            Ok(report) => {
                let before = std::mem::replace(&mut self.now, report);
                // The counts of another process began at zero.
                let is_same = before.process == self.now.process;
                let span = at.saturating_duration_since(self.received);
                self.before = is_same.then_some((before, span));
                self.received = at;
                self.error = None;
            }
            Err(error) => self.error = Some(error),
        }
    }

    /// Shows another panel from its first line.
    pub fn select(&mut self, panel: Panel) {
        self.panel = panel;
        self.top = 0;
    }

    /// Scrolls by a number of lines, not beyond the last one.
    pub fn scroll(&mut self, lines: isize) {
        let last = self.lines().saturating_sub(1);
        self.top = self.top.saturating_add_signed(lines).min(last);
    }

    /// The number of lines of the longest list of the panel.
    fn lines(&self) -> usize {
        let tables = || self.now.tables.iter();
        let keys = || tables().flat_map(|table| &table.keys);
        let waiters = keys().flat_map(|key| &key.waiters);
        let lines = [
            keys().count(),
            tables().map(|table| table.busiest.len()).sum(),
            waiters.filter(|waiter| waiter.owner.is_some()).count(),
            tables().map(|table| table.recent_deadlocks.len()).sum(),
            self.now.transactions.labels.len(),
        ];
        match self.panel {
            Panel::All => lines.into_iter().max().unwrap_or(0),
            panel => lines[panel as usize - 1],
        }
    }
}

/// Draws the view.
pub fn draw(view: &View, frame: &mut Frame<'_>) {
    let rows = [
        Constraint::Length(2),
        // A small terminal shows the heading, which has the errors.
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [head, middle, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(heading(view)), head);
    // A narrow terminal cuts the end.
    let keys = " q quit  p pause  ←→ panels  ↑↓ scroll  \
                0 all 1 keys 2 busiest 3 sessions 4 deadlocks 5 transactions";
    frame.render_widget(Paragraph::new(keys), foot);
    match view.panel {
        Panel::All => draw_all(view, frame, middle),
        Panel::Keys => frame.render_widget(keys_now(view), middle),
        Panel::Busiest => frame.render_widget(busiest(view), middle),
        Panel::Sessions => frame.render_widget(sessions(view), middle),
        Panel::Deadlocks => frame.render_widget(deadlocks(view), middle),
        Panel::Transactions => frame.render_widget(transactions(view), middle),
    }
}

fn draw_all(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let thirds = [
        Constraint::Fill(4),
        Constraint::Fill(4),
        Constraint::Fill(3),
    ];
    let halves = || Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]);
    // A narrow terminal shows what is most urgent.
    if area.width < 90 {
        let [top, middle, bottom] = Layout::vertical(thirds).areas(area);
        frame.render_widget(keys_now(view), top);
        frame.render_widget(sessions(view), middle);
        frame.render_widget(deadlocks(view), bottom);
        return;
    }
    let [top, middle, bottom] = Layout::vertical(thirds).areas(area);
    let [left, right] = halves().areas(top);
    frame.render_widget(keys_now(view), left);
    frame.render_widget(busiest(view), right);
    let [left, right] = halves().areas(middle);
    frame.render_widget(sessions(view), left);
    frame.render_widget(deadlocks(view), right);
    frame.render_widget(transactions(view), bottom);
}

/// The number of tables and of maps, and the keys of the maps.
fn tables_and_maps(tables: &[crate::report::Table]) -> String {
    let maps: Vec<_> = tables.iter().filter_map(|of| of.map.as_ref()).collect();
    let mut text = format!("tables: {}", tables.len() - maps.len());
    if !maps.is_empty() {
        let keys = maps.iter().map(|map| map.len).sum();
        let entries = maps.iter().map(|map| map.entries).sum();
        let (keys, entries) = (count(keys), count(entries));
        text += &format!(", maps: {} ({keys} keys, {entries} entries)", maps.len());
    }
    text
}

fn heading(view: &View) -> Vec<Line<'static>> {
    let Report {
        process,
        tables,
        memory,
        transactions,
        ..
    } = &view.now;
    let sum = |of: fn(&crate::report::Table) -> u64| tables.iter().map(of).sum::<u64>();
    let before = |of: fn(&crate::report::Table) -> u64| {
        let (before, span) = view.before.as_ref()?;
        let before: u64 = before.tables.iter().map(of).sum();
        Some(rate(sum(of).saturating_sub(before), *span))
    };
    let waits = before(|table| table.waits).map_or_else(String::new, |r| format!(" ({r}/s)"));
    let state = match (&view.error, view.paused) {
        (Some(error), _) => format!("  NO REPORT: {error}"),
        (None, true) => "  PAUSED".to_owned(),
        (None, false) => String::new(),
    };
    let pin = memory.oldest_pin_ns.map_or_else(|| "none".to_owned(), time);
    vec![
        Line::from(vec![
            Span::styled(" latchtop ", Style::new().add_modifier(Modifier::REVERSED)),
            Span::raw(format!(
                " process {process}, {}; {}",
                view.source,
                tables_and_maps(tables)
            )),
            Span::styled(state, bold()),
        ]),
        Line::raw(format!(
            " locked {}, waiting {}, waits {}{waits}, deadlocks {} | lost attempts {} | \
             garbage {} ({} B), oldest pin {pin}",
            count(sum(|table| table.locked)),
            count(sum(|table| table.waiting)),
            count(sum(|table| table.waits)),
            count(sum(|table| table.deadlocks)),
            count(transactions.aborts.total()),
            count(memory.garbage),
            count(memory.garbage_bytes),
        )),
    ]
}

fn keys_now(view: &View) -> Table<'static> {
    let many = view.now.tables.len() > 1;
    let mut keys: Vec<_> = view
        .now
        .tables
        .iter()
        .flat_map(|table| table.keys.iter().map(move |key| (table, key)))
        .collect();
    keys.sort_by_key(|(_, key)| std::cmp::Reverse((key.waiting, key.held_ns)));
    let rows = keys.iter().map(|(table, key)| {
        let oldest = key.waiters.iter().map(|waiter| waiter.waited_ns).max();
        let mode = key.mode.as_deref().unwrap_or("free");
        let held = match key.holders {
            0 | 1 => mode.to_owned(),
            n => format!("{mode} by {n}"),
        };
        [
            titled(many, &table.name, key.label.as_deref(), &key.id),
            held,
            time(key.held_ns),
            count(key.waiting),
            time(oldest.unwrap_or(0)),
        ]
    });
    list(
        "Which keys have waiters now",
        ["key", "held", "for", "waiting", "oldest"],
        [14, 11, 7, 7, 7],
        (rows.collect(), view.top),
        "no key has a waiter",
    )
}

fn busiest(view: &View) -> Table<'static> {
    let many = view.now.tables.len() > 1;
    let mut keys: Vec<_> = view
        .now
        .tables
        .iter()
        .flat_map(|table| table.busiest.iter().map(move |key| (table, key)))
        .collect();
    keys.sort_by_key(|(_, key)| std::cmp::Reverse(key.waits));
    let rows = keys.iter().map(|(table, key)| {
        let waits = match key.inherited_waits {
            0 => count(key.waits),
            _ => format!("≤ {}", count(key.waits)),
        };
        [
            titled(many, &table.name, key.label.as_deref(), &key.id),
            waits,
            time(key.waited_ns),
            time(key.held_ns),
            time(key.longest_hold_ns),
        ]
    });
    list(
        "Which keys were waited for most",
        ["key", "waits", "waited", "held", "longest"],
        [14, 8, 8, 8, 8],
        (rows.collect(), view.top),
        "no thread has waited",
    )
}

fn sessions(view: &View) -> Table<'static> {
    let many = view.now.tables.len() > 1;
    let mut rows = Vec::new();
    for table in &view.now.tables {
        for key in &table.keys {
            let holders: Vec<_> = key.known_holders.iter().map(|of| of.title()).collect();
            let unknown = key.holders.saturating_sub(holders.len() as u64);
            let holders = match (holders.is_empty(), unknown) {
                (true, 0) => "-".to_owned(),
                (true, _) => "unknown".to_owned(),
                (false, 0) => holders.join(", "),
                (false, n) => format!("{}, {n} more", holders.join(", ")),
            };
            for waiter in &key.waiters {
                let Some(owner) = &waiter.owner else { continue };
                let row = [
                    owner.title(),
                    titled(many, &table.name, key.label.as_deref(), &key.id),
                    waiter.mode.clone(),
                    time(waiter.waited_ns),
                    holders.clone(),
                ];
                rows.push((waiter.waited_ns, row));
            }
        }
    }
    rows.sort_by_key(|(waited, _)| std::cmp::Reverse(*waited));
    list(
        "Which sessions wait, and for which holders",
        ["session", "waits for", "mode", "for", "held by"],
        [12, 12, 9, 7, 10],
        (rows.into_iter().map(|(_, row)| row).collect(), view.top),
        "no session waits",
    )
}

fn deadlocks(view: &View) -> Paragraph<'static> {
    let total: u64 = view.now.tables.iter().map(|table| table.deadlocks).sum();
    let mut lines = Vec::new();
    let all = view.now.tables.iter();
    for deadlock in all.flat_map(|table| table.recent_deadlocks.iter().rev()) {
        let mut spans = Vec::new();
        for (place, party) in deadlock.parties.iter().enumerate() {
            let style = if place == deadlock.victim {
                bold()
            } else {
                Style::new()
            };
            spans.push(Span::styled(party.owner.title(), style));
            let key = key_title(party.wants.label.as_deref(), &party.wants.id);
            spans.push(Span::raw(format!(" -{key}-> ")));
        }
        let first = deadlock.parties.first();
        spans.extend(first.map(|party| Span::raw(party.owner.title())));
        lines.push(Line::from(spans));
    }
    if lines.is_empty() {
        lines.push(Line::raw("no deadlock was found"));
    }
    let (top, place) = scrolled(lines.len(), view.top);
    let title = format!(" Deadlocks: {total}, the newest first, victims bold {place}");
    Paragraph::new(lines.split_off(top)).block(Block::bordered().title(title))
}

fn transactions(view: &View) -> Table<'static> {
    let mut labels: Vec<_> = view.now.transactions.labels.iter().collect();
    labels.sort_by_key(|label| std::cmp::Reverse(label.commits));
    let rows = labels.iter().map(|label| {
        let rate = view.before.as_ref().map(|(before, span)| {
            let mut labels = before.transactions.labels.iter();
            let before = labels.find(|of| of.label == label.label);
            let before = before.map_or(0, |of| of.commits);
            rate(label.commits.saturating_sub(before), *span)
        });
        [
            label.label.clone(),
            count(label.commits),
            rate.unwrap_or_else(|| "-".to_owned()),
            count(label.aborted),
            count(label.contended + label.timed_out),
            count(label.panicked + label.cancelled),
            count(label.aborts.read_conflicts),
            count(label.aborts.write_conflicts),
            count(label.aborts.overtaken),
        ]
    });
    list(
        "How transactions end, and why attempts are lost",
        [
            "label",
            "commits",
            "/s",
            "aborted",
            "gave up",
            "dropped",
            "| read",
            "write",
            "overtaken",
        ],
        [16, 8, 7, 8, 8, 8, 8, 8, 9],
        (rows.collect(), view.top),
        "no transaction with a label has ended",
    )
}

fn list<const N: usize>(
    title: &str,
    heading: [&'static str; N],
    widths: [u16; N],
    (rows, top): (Vec<[String; N]>, usize),
    none: &'static str,
) -> Table<'static> {
    let (top, place) = scrolled(rows.len(), top);
    let block = Block::bordered().title(format!(" {title} {place}"));
    let widths = widths.iter().enumerate().map(|(place, width)| match place {
        0 => Constraint::Max(2 * width),
        _ => Constraint::Length(*width),
    });
    if rows.is_empty() {
        return Table::new([Row::new([none])], [Constraint::Min(1)]).block(block);
    }
    let rows = rows.into_iter().skip(top);
    let rows = rows.map(|row| Row::new(row.map(Cell::from)));
    Table::new(rows, widths)
        .header(Row::new(heading).style(bold()))
        .block(block)
}

/// Returns the first line of a list that is drawn, and what its title says of it.
fn scrolled(lines: usize, top: usize) -> (usize, String) {
    let top = top.min(lines.saturating_sub(1));
    match top {
        0 => (top, String::new()),
        _ => (top, format!("({} of {lines}) ", top + 1)),
    }
}

fn titled(many: bool, table: &str, label: Option<&str>, id: &str) -> String {
    let key = key_title(label, id);
    if many { format!("{table}: {key}") } else { key }
}

fn rate(events: u64, span: Duration) -> String {
    count((events as f64 / span.as_secs_f64().max(1e-9)).round() as u64)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

//! The screens of the guide, and screens of any size.

use std::fs;
use std::path::Path;
use std::time::Duration;

use latchwork::console::Console;
use latchwork_top::report::{Report, count, time};
use latchwork_top::screen::{self, Panel, View};
use latchwork_top::screens::{SCREENS, rendered};
use latchwork_top::source::Source;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

const LATER: &str = include_str!("../screens/later.json");

fn view(panel: Panel) -> View {
    let report = || Report::parse(LATER).expect("a report of the repository");
    let mut view = View::new("test".to_owned(), report());
    view.before = Some((report(), Duration::from_secs(1)));
    view.error = Some("connection refused".to_owned());
    view.panel = panel;
    view.paused = true;
    view
}

fn text(view: &View, size: (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).expect("in memory");
    terminal
        .draw(|frame| screen::draw(view, frame))
        .expect("in memory");
    terminal.backend().to_string()
}

#[test]
fn the_screens_of_the_guide_are_what_is_drawn() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/docs/screens");
    for screen in &SCREENS {
        let found = fs::read_to_string(folder.join(screen.file)).unwrap_or_default();
        assert!(
            found == rendered(screen),
            "{}: cargo run -p latchwork-top --example screens",
            screen.file
        );
        // An empty line would end it as a part of Markdown.
        assert!(!found.trim_end().contains("\n\n"), "{}", screen.file);
    }
}

#[test]
fn every_panel_fits_every_size() {
    let panels = "012345"
        .chars()
        .map(|key| Panel::of_key(key).expect("a panel"));
    for panel in panels {
        for width in [1, 2, 20, 79, 89, 90, 120, 250] {
            for height in [1, 2, 3, 5, 24, 100] {
                let _ = text(&view(panel), (width, height));
            }
        }
    }
    assert_eq!(Panel::of_key('6'), None);
}

#[test]
fn each_panel_has_its_title_and_an_error_is_shown() {
    for (panel, title) in [
        (Panel::Keys, "Which keys have waiters now"),
        (Panel::Busiest, "Which keys were waited for most"),
        (
            Panel::Sessions,
            "Which sessions wait, and for which holders",
        ),
        (Panel::Deadlocks, "Deadlocks: "),
        (Panel::Transactions, "How transactions end"),
    ] {
        let alone = text(&view(panel), (120, 30));
        assert!(alone.contains(title), "{alone}");
        assert!(alone.contains("NO REPORT: connection refused"));
        assert!(text(&view(Panel::All), (120, 40)).contains(title));
    }
}

#[test]
fn a_list_scrolls_to_its_last_line() {
    let mut view = view(Panel::Busiest);
    let tables = view.now.tables.iter();
    let mut all: Vec<_> = tables.flat_map(|table| &table.busiest).collect();
    all.sort_by_key(|key| std::cmp::Reverse(key.waits));
    let keys = all.len();
    let [first, last] = [all[0], all[keys - 1]].map(|key| key.label.clone());
    let [first, last] = [first, last].map(|label| label.expect("a label") + " ");
    let drawn = text(&view, (80, 8));
    assert!(drawn.contains(&first) && !drawn.contains(&last), "{drawn}");
    for _ in 0..keys + 10 {
        view.scroll(1);
    }
    let drawn = text(&view, (80, 8));
    assert!(drawn.contains(&format!("({keys} of {keys})")), "{drawn}");
    assert!(!drawn.contains(&first) && drawn.contains(&last), "{drawn}");
    // It does not remember the lines beyond the end.
    view.scroll(-1);
    assert_eq!(view.top, keys - 2);
    for panel in "012345".chars().filter_map(Panel::of_key) {
        view.select(panel);
        view.scroll(isize::MAX);
        let _ = text(&view, (20, 5));
    }
}

#[test]
fn a_narrow_terminal_shows_how_to_quit() {
    assert!(text(&view(Panel::All), (40, 12)).contains("q quit"));
}

#[test]
fn times_and_numbers_fit_their_columns() {
    for power in 0..64 {
        let [time, count] = [time(1 << power), count(1 << power)];
        let [wide, narrow] = [time, count].map(|text| text.chars().count());
        assert!(wide <= 7 || power > 58, "2^{power} ns: {wide}");
        assert!(narrow <= 6 || power > 43, "2^{power}: {narrow}");
    }
    assert_eq!(
        [time(0), time(1_500), time(2_000_000)],
        ["0", "1 µs", "2 ms"]
    );
    assert_eq!([count(99_999), count(100_000)], ["99999", "100 k"]);
}

#[test]
fn a_report_of_another_format_is_refused() {
    let later = LATER.replacen("\"format\":1", "\"format\":2", 1);
    let error = Report::parse(&later).expect_err("another format");
    assert!(error.contains("format 2"), "{error}");
    Report::parse("{}").expect_err("no report");
}

/// The report of a console has every field that is drawn.
#[test]
fn the_report_of_a_console_is_read_over_each_transport() {
    let table: std::sync::Arc<latchwork::LockTable<u64>> = Default::default();
    let map: std::sync::Arc<latchwork::VersionedMap<u64, u64>> = Default::default();
    map.insert(1, 1);
    let console = Console::new().table("t", table).map("m", map);
    let server = console.serve_loopback(0).expect("a free port");
    let loopback = Source::Loopback(server.port().expect("a port"));
    let mut sources = vec![Source::Own(console.clone()), loopback];
    #[cfg(unix)]
    let file = std::env::temp_dir().join(format!("latchtop-{}", std::process::id()));
    #[cfg(unix)]
    let _unix = console.serve_unix(&file).expect("a new file");
    #[cfg(unix)]
    sources.push(Source::Unix(file));
    for source in sources {
        let report = source.report().expect("it listens");
        assert_eq!(report.process, std::process::id());
        assert_eq!(report.tables[0].name, "t");
        let map = report.tables[1].map.as_ref().expect("a map");
        assert_eq!((map.len, map.entries), (1, 1));
        let drawn = text(&View::new("test".to_owned(), report), (120, 30));
        let sizes = "tables: 1, maps: 1 (1 keys, 1 entries)";
        assert!(drawn.contains(sizes), "{drawn}");
    }
    drop(server);
    Source::Loopback(1)
        .report()
        .expect_err("no process listens");
}

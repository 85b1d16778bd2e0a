//! A screen as SVG, which needs no colours and no font but a monospaced one.

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::style::Modifier;

/// The size of a character.
const CELL: (usize, usize) = (8, 17);

/// Returns the screen as SVG, without empty lines, so that it can be part of Markdown.
#[must_use]
pub fn svg(screen: &Buffer, description: &str) -> String {
    let [columns, rows] = [screen.area.width, screen.area.height].map(usize::from);
    let [width, height] = [columns * CELL.0 + 16, rows * CELL.1 + 16];
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         style=\"max-width:{width}px;width:100%\" role=\"img\" aria-label=\"{}\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#fff\" stroke=\"#777\"/>\n\
         <g font-family=\"DejaVu Sans Mono,Menlo,Consolas,monospace\" font-size=\"13\" \
         fill=\"#111\">\n",
        escaped(description)
    );
    for y in 0..rows {
        line(&mut text, screen, y, columns);
    }
    text.push_str("</g>\n</svg>\n");
    text
}

/// Writes one line: a text for each run of characters of one style.
fn line(text: &mut String, screen: &Buffer, y: usize, columns: usize) {
    let cell = |x: usize| &screen[(x as u16, y as u16)];
    let mut start = 0;
    while start < columns {
        let style = cell(start).modifier;
        let end = (start..columns).find(|&x| cell(x).modifier != style);
        let end = end.unwrap_or(columns);
        // Runs are also ended by two spaces, so that each column stays in its place.
        let mut x = start;
        while x < end {
            let word: String = word(&(x..end).map(|x| cell(x).symbol()).collect::<Vec<_>>());
            let length = word.chars().count();
            run(text, (x, y), &word, style);
            x += length.max(1);
        }
        start = end;
    }
}

/// Returns the longest start of a run without two spaces in it, or its leading spaces.
fn word(symbols: &[&str]) -> String {
    let blank = symbols.iter().take_while(|symbol| **symbol == " ").count();
    let end = if blank > 0 {
        blank
    } else {
        let pairs = symbols.windows(2);
        let gap = pairs.into_iter().position(|pair| pair == [" ", " "]);
        gap.unwrap_or(symbols.len())
    };
    symbols[..end].concat()
}

fn run(text: &mut String, (x, y): (usize, usize), word: &str, style: Modifier) {
    let [left, base] = [x * CELL.0 + 8, y * CELL.1 + 21];
    let width = word.chars().count() * CELL.0;
    let reversed = style.contains(Modifier::REVERSED);
    if reversed {
        let top = base - 13;
        let _ = writeln!(
            text,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{}\"/>",
            CELL.1
        );
    }
    if word.trim().is_empty() {
        return;
    }
    let bold = if style.contains(Modifier::BOLD) {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let fill = if reversed { " fill=\"#fff\"" } else { "" };
    let _ = writeln!(
        text,
        "<text x=\"{left}\" y=\"{base}\" textLength=\"{width}\" \
         lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\"{bold}{fill}>{}</text>",
        escaped(word)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

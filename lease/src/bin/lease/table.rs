//! Tables of text.

use std::io::{self, Write};

/// Prints rows below their titles, with columns as wide as their widest entry. The columns whose
/// title begins with a blank are aligned to the right.
pub(crate) fn print(titles: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([titles[column].trim().len()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for ((cell, title), width) in cells.zip(titles).zip(&widths) {
            if title.starts_with(' ') {
                line.push_str(&format!("{cell:>width$}  "));
            } else {
                line.push_str(&format!("{cell:<width$}  "));
            }
        }
        line.truncate(line.trim_end().len());
        line
    };
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}",
        line(&mut titles.iter().map(|title| title.trim()))
    )?;
    for row in rows {
        writeln!(out, "{}", line(&mut row.iter().map(String::as_str)))?;
    }
    Ok(())
}

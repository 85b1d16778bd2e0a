//! The cycle of a deadlock as the source of a picture: Mermaid and DOT.

use core::fmt::Write as _;

use super::report::{DeadlockKey, DeadlockReport, Named};
use crate::word::Mode;

impl DeadlockReport {
    /// Returns the cycle as the source of a [Mermaid](https://mermaid.js.org) flowchart, which
    /// many viewers of Markdown draw.
    ///
    /// Each session or set is a node, and each wait is an arrow with the key and the mode that is
    /// requested. The victim has a thicker border. Names and labels may contain any character.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// for report in table.deadlocks() {
    ///     println!("```mermaid\n{}```", report.to_mermaid());
    /// }
    /// ```
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (index, party) in self.parties().iter().enumerate() {
            let name = escaped(&Named(party).to_string(), Syntax::Mermaid);
            line(&mut text, format_args!("    p{index}[\"{name}\"]"));
        }
        for (from, to, label) in self.waits(Syntax::Mermaid) {
            line(
                &mut text,
                format_args!("    p{from} -->|\"{label}\"| p{to}"),
            );
        }
        let victim = self.victim_index();
        line(
            &mut text,
            format_args!("    style p{victim} stroke-width:4px"),
        );
        text
    }

    /// Returns the cycle as a digraph in the DOT language of Graphviz.
    ///
    /// Each session or set is a node, and each wait is an edge with the key and the mode that is
    /// requested. The victim is drawn bold. Names and labels may contain any character.
    ///
    /// # Examples
    /// ```no_run
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// if let Some(report) = table.deadlocks().last() {
    ///     std::fs::write("deadlock.dot", report.to_dot())?; // dot -Tsvg deadlock.dot
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn to_dot(&self) -> String {
        let mut text = String::from("digraph deadlock {\n    rankdir=LR;\n");
        let victim = self.victim_index();
        for (index, party) in self.parties().iter().enumerate() {
            let name = escaped(&Named(party).to_string(), Syntax::Dot);
            let style = if index == victim { ", style=bold" } else { "" };
            line(
                &mut text,
                format_args!("    p{index} [label=\"{name}\"{style}];"),
            );
        }
        for (from, to, label) in self.waits(Syntax::Dot) {
            line(
                &mut text,
                format_args!("    p{from} -> p{to} [label=\"{label}\"];"),
            );
        }
        text.push_str("}\n");
        text
    }

    /// Returns the arrows of the picture: from the waiter to the holder, with the key.
    fn waits(&self, syntax: Syntax) -> impl Iterator<Item = (usize, usize, String)> {
        let parties = self.parties();
        let arrow = move |(index, party): (usize, &super::DeadlockParty)| {
            let to = (index + 1) % parties.len();
            (index, to, escaped(&requested(&party.wants), syntax))
        };
        parties.iter().enumerate().map(arrow)
    }
}

fn requested(key: &DeadlockKey) -> String {
    match key.mode {
        Mode::Exclusive => format!("{key} (exclusive)"),
        Mode::Shared => format!("{key} (shared)"),
    }
}

fn line(text: &mut String, of: core::fmt::Arguments<'_>) {
    writeln!(text, "{of}").expect("a string accepts all text");
}

/// The language of a picture, for the characters that end a quoted text there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    Mermaid,
    Dot,
}

/// Returns the text as it stands between quotes, on one line.
fn escaped(text: &str, syntax: Syntax) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        match (character, syntax) {
            // Entity codes; the sign that begins one, too. Markdown and HTML mean nothing then.
            ('"' | '#' | '&' | '<' | '>' | '`', Syntax::Mermaid) => {
                write!(quoted, "#{};", u32::from(character)).expect("a string accepts all text");
            }
            ('"' | '\\', Syntax::Dot) => quoted.extend(['\\', character]),
            (character, _) if character.is_control() => quoted.push(' '),
            (character, _) => quoted.push(character),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_ends_of_lines_stay_inside_of_a_label() {
        let text = "a\"b\\c\nd#e<f>";
        let mermaid = escaped(text, Syntax::Mermaid);
        assert_eq!(mermaid, "a#34;b\\c d#35;e#60;f#62;");
        assert_eq!(escaped(text, Syntax::Dot), "a\\\"b\\\\c d#e<f>");
    }
}

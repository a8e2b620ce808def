//! Aligned tables that fit the terminal.

use std::io::IsTerminal as _;

use super::output;

/// What a narrow terminal leaves at least for the last column.
const LAST_CHARS_MIN: usize = 16;

/// The width that output is fitted to; `None` when it goes to a file or a pipe, where nothing is cut.
pub(crate) fn width() -> Option<usize> {
    let set = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
    set.or_else(|| {
        let is_terminal = std::io::stdout().is_terminal();
        let size = is_terminal.then(terminal_size::terminal_size).flatten();
        size.map(|(width, _)| usize::from(width.0)).filter(|columns| *columns > 0)
    })
}

/// Writes a table. All columns but the last have the width of their longest entry; the last is cut to fit.
pub(crate) fn render(heads: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect::<Vec<String>>();
    let all: Vec<Vec<String>> =
        std::iter::once(&heads).chain(rows).map(|row| row.iter().map(|entry| one_line(entry)).collect()).collect();
    let columns = heads.len();
    let longest = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|entry| entry.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(longest).collect();
    let before_last: usize = widths.iter().take(columns.saturating_sub(1)).map(|width| width + 2).sum();
    let last_max = width.map(|width| width.saturating_sub(before_last).max(LAST_CHARS_MIN));
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (column, (entry, width)) in row.iter().zip(&widths).enumerate() {
            if column + 1 == columns {
                line.push_str(&cut(entry, last_max));
            } else {
                line.push_str(&format!("{entry:<width$}  "));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text in one line without anything that steers a terminal.
pub(crate) fn one_line(text: &str) -> String {
    output::clean(text).split_whitespace().collect::<Vec<&str>>().join(" ")
}

/// Cuts a text to a number of characters, and shows that it did.
pub(crate) fn cut(text: &str, max: Option<usize>) -> String {
    match max {
        Some(max) if text.chars().count() > max => {
            let kept: String = text.chars().take(max.saturating_sub(1)).collect();
            format!("{}…", kept.trim_end())
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_and_the_last_one_is_cut() {
        let rows = [row(&["a", "one two three four five six"]), row(&["longer", "x"])];
        assert_eq!(
            render(&["ID", "TEXT"], &rows, Some(30)),
            "ID      TEXT\na       one two three four fi…\nlonger  x\n"
        );
        assert!(render(&["ID", "TEXT"], &rows, None).contains("five six"));
    }

    #[test]
    fn stored_text_can_not_steer_the_terminal() {
        let shown = render(&["TEXT"], &[row(&["a\u{1b}[2Jb\nc\u{202e}d"])], None);
        assert_eq!(shown, "TEXT\na [2Jb c d\n");
    }
}

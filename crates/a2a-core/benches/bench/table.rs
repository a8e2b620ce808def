//! What a benchmark found: one table for each area, for people on standard output and as JSON in the target folder.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

/// What was measured, in the unit that it is printed in.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "each benchmark uses the units that it needs")]
pub(crate) enum Figure {
    Time(Duration),
    /// Things per second.
    Rate(f64),
    Bytes(f64),
}

impl Figure {
    fn number(self) -> f64 {
        match self {
            Self::Time(time) => time.as_secs_f64(),
            Self::Rate(number) | Self::Bytes(number) => number,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Time(_) => "s",
            Self::Rate(_) => "1/s",
            Self::Bytes(_) => "bytes",
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Time(time) => {
                let nanos = time.as_secs_f64() * 1e9;
                match nanos {
                    n if n < 1e3 => format!("{n:.0} ns"),
                    n if n < 1e6 => format!("{:.1} us", n / 1e3),
                    n if n < 1e9 => format!("{:.2} ms", n / 1e6),
                    n => format!("{:.2} s", n / 1e9),
                }
            }
            Self::Rate(rate) => format!("{rate:.0} /s"),
            Self::Bytes(bytes) if bytes < 10_000.0 => format!("{bytes:.0} B"),
            Self::Bytes(bytes) => format!("{:.1} MB", bytes / 1e6),
        }
    }
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "each benchmark uses the aims that it needs")]
pub(crate) enum Aim {
    /// The ratio of ours to the floor is at most this.
    RatioMost(f64),
    /// The ratio of ours to the floor is at least this.
    RatioLeast(f64),
    /// Ours takes at most this.
    Within(Duration),
    /// The figure is for information.
    None,
}

/// One line of a table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) floor: Option<Figure>,
    pub(crate) ours: Figure,
    pub(crate) aim: Aim,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.ours.number() / floor.number())
    }

    /// Whether the aim is reached, when there is one.
    fn reached(&self) -> Option<bool> {
        match self.aim {
            Aim::RatioMost(most) => self.ratio().map(|ratio| ratio <= most),
            Aim::RatioLeast(least) => self.ratio().map(|ratio| ratio >= least),
            Aim::Within(limit) => Some(self.ours.number() <= limit.as_secs_f64()),
            Aim::None => None,
        }
    }

    fn cells(&self) -> [String; 5] {
        let aim = match self.aim {
            Aim::RatioMost(most) => format!("<= {most}"),
            Aim::RatioLeast(least) => format!(">= {least}"),
            Aim::Within(limit) => format!("<= {}", Figure::Time(limit).shown()),
            Aim::None => String::new(),
        };
        let mark = match self.reached() {
            Some(true) => "",
            Some(false) => "  MISSED",
            None => "",
        };
        [
            self.what.clone(),
            self.floor.map_or_else(|| "-".to_owned(), Figure::shown),
            self.ours.shown(),
            self.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            format!("{aim}{mark}"),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "unit": self.ours.unit(),
            "floor": self.floor.map(Figure::number),
            "ours": self.ours.number(),
            "ratio": self.ratio(),
            "aim": format!("{:?}", self.aim),
            "reached": self.reached(),
        })
    }
}

/// The rows of one area.
#[derive(Debug)]
pub(crate) struct Table {
    area: &'static str,
    note: String,
    rows: Vec<Row>,
}

impl Table {
    /// `note` says in one line how it was measured.
    pub(crate) fn new(area: &'static str, note: impl Into<String>) -> Self {
        Self { area, note: note.into(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, what: impl Into<String>, floor: Option<Figure>, ours: Figure, aim: Aim) {
        let row = Row { what: what.into(), floor, ours, aim };
        eprintln!("{}: {}", self.area, row.cells().join(" | "));
        self.rows.push(row);
    }

    /// Prints the table and writes it as JSON.
    pub(crate) fn finish(self) {
        let mut lines = vec![["what", "floor", "ours", "ratio", "aim"].map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let mut widths = [0; 5];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = format!("\n## {}\n{}\n\n", self.area, self.note);
        for (number, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(widths) {
                let _infallible = write!(text, "| {cell:width$} ");
            }
            text.push_str("|\n");
            if number == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
                let _infallible = writeln!(text, "|{}|", rule.join("|"));
            }
        }
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let path = json_folder().join(format!("{}.json", self.area));
        let json = json!({"area": self.area, "note": self.note, "rows": rows});
        std::fs::create_dir_all(json_folder()).expect("the folder of results can be made");
        std::fs::write(&path, format!("{json:#}\n")).expect("the results can be written");
        println!("{text}\nas JSON: {}", path.display());
    }
}

/// `bench` in the target folder, which this executable is in.
fn json_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("a running program has a path");
    executable.ancestors().nth(3).expect("the path is target/<profile>/deps/<name>").join("bench")
}

/// The value below which `part` of 100 samples lie.
pub(crate) fn percentile(samples: &[Duration], part: usize) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) * part / 100).copied().unwrap_or_default()
}

#[allow(dead_code, reason = "each benchmark uses what it needs")]
pub(crate) fn median(samples: &[Duration]) -> Duration {
    percentile(samples, 50)
}

/// The resident memory of this process.
#[allow(dead_code, reason = "each benchmark uses what it needs")]
pub(crate) fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the memory is told");
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("it is a number");
    kib * 1024.0
}

/// What the command line asks for; `None` when this is not a benchmark run, as when all targets are tested.
pub(crate) struct Asked {
    pub(crate) quick: bool,
    /// How many of whatever is measured, where that can be chosen.
    #[allow(dead_code, reason = "some benchmarks have fixed sizes")]
    pub(crate) count: Option<usize>,
    words: Vec<String>,
}

impl Asked {
    pub(crate) fn from_args() -> Option<Self> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        // Cargo says so when it runs benchmarks, and only then.
        if !args.iter().any(|arg| arg == "--bench") {
            return None;
        }
        Some(Self {
            quick: args.iter().any(|arg| arg == "--quick"),
            count: args.iter().find_map(|arg| arg.strip_prefix("--count=")?.parse().ok()),
            words: args.into_iter().filter(|arg| !arg.starts_with('-')).collect(),
        })
    }

    /// Whether this area is asked for: by name, or because none is named.
    #[allow(dead_code, reason = "some benchmarks have one area")]
    pub(crate) fn wants(&self, area: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| word == area)
    }
}

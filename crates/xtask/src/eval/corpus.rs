//! Reads the memories and questions of the evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use a2a_core::ids::{Actor, MemoryId, Namespace};
use a2a_core::memory::{Memory, MemorySpec, MemoryType, Provenance, Trust};
use a2a_core::time::Timestamp;

use super::{Half, distractors, half_of};

const FILES: [(&str, &str); 5] = [
    ("facts.txt", include_str!("../../eval/facts.txt")),
    ("preferences.txt", include_str!("../../eval/preferences.txt")),
    ("times.txt", include_str!("../../eval/times.txt")),
    ("updates.txt", include_str!("../../eval/updates.txt")),
    ("talks.txt", include_str!("../../eval/talks.txt")),
];
/// The day on which all questions are asked: a Wednesday.
const NOW: &str = "2026-06-17T12:00:00Z";
const DAY_MS: i64 = 86_400_000;

/// How a question asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Style {
    /// With the words of the memory.
    Keyword,
    /// With other words.
    Paraphrase,
    /// For what happened at a time.
    Temporal,
    /// For what somebody likes.
    Preference,
    /// For what is so today, where it was otherwise before.
    Update,
}

impl Style {
    const ALL: [(&str, Self); 5] = [
        ("k", Self::Keyword),
        ("p", Self::Paraphrase),
        ("t", Self::Temporal),
        ("r", Self::Preference),
        ("u", Self::Update),
    ];

    /// The style that a line of questions begins with.
    pub(crate) fn of_mark(mark: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == mark).map(|(_, style)| *style)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Paraphrase => "paraphrase",
            Self::Temporal => "temporal",
            Self::Preference => "preference",
            Self::Update => "update",
        }
    }
}

/// A question and the memory that answers it.
pub(crate) struct Question {
    pub(crate) style: Style,
    pub(crate) text: String,
    pub(crate) answer: MemoryId,
    pub(crate) half: Half,
}

/// Everything of the evaluation.
pub(crate) struct Corpus {
    pub(crate) memories: Vec<Arc<Memory>>,
    pub(crate) questions: Vec<Question>,
    pub(crate) now: Timestamp,
}

impl Corpus {
    /// Reads the files and adds the distractors.
    pub(crate) fn read() -> Result<Self, String> {
        let now = Timestamp::parse(NOW).ok_or("the day of the questions cannot be read")?;
        let mut corpus = Self { memories: Vec::new(), questions: Vec::new(), now };
        let mut counts: BTreeMap<Style, usize> = BTreeMap::new();
        for (file, text) in FILES {
            for (number, line) in (1..).zip(text.lines()) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                corpus.read_line(line, &mut counts).ok_or_else(|| format!("{file}:{number} cannot be read: {line}"))?;
            }
        }
        for (kind, days, content) in distractors::all() {
            corpus.push(kind, days, None, &content);
        }
        Ok(corpus)
    }

    fn read_line(&mut self, line: &str, counts: &mut BTreeMap<Style, usize>) -> Option<()> {
        let (mark, rest) = line.split_once(' ')?;
        if mark == "m" || mark == "s" {
            let (head, content) = rest.split_once(" | ")?;
            let (first, days) = head.split_once(' ')?;
            let days = days.trim().parse().ok()?;
            if mark == "m" {
                self.push(MemoryType::from_name(first)?, days, None, content);
            } else {
                self.push(MemoryType::Conversation, days, Some(first), content);
            }
            return Some(());
        }
        let style = Style::of_mark(mark)?;
        let answer = self.memories.last()?.id.clone();
        let half = half_of(style, counts);
        self.questions.push(Question { style, text: rest.to_owned(), answer, half });
        Some(())
    }

    fn push(&mut self, kind: MemoryType, days_ago: i64, session: Option<&str>, content: &str) {
        let number = self.memories.len();
        // Later lines are later in the day, so that turns are in their order.
        let moment = i64::try_from(number).unwrap_or(0) * 1_000;
        let created_at = Timestamp(self.now.0 - days_ago * DAY_MS - 6 * 3_600_000 + moment % 3_600_000);
        let spec = MemorySpec {
            namespace: Namespace::default(),
            kind,
            content: content.into(),
            data: None,
            tags: [].into(),
            importance: kind.default_importance(),
            decay: kind.default_decay(),
            expires_at: None,
            key: None,
            agent: None,
            session: session.map(Arc::from),
            user: None,
            run: None,
            step: None,
            supersedes: [].into(),
            relations: [].into(),
        };
        self.memories.push(Arc::new(Memory {
            id: MemoryId::from_stored(format!("mem-{number:06}")),
            content_hash: spec.content_hash(),
            spec,
            provenance: Provenance { author: Actor::new("eval"), trust: Trust::User, derived_from: [].into() },
            frequency: 1,
            accesses: 0,
            last_accessed: created_at,
            superseded_by: None,
            revision: 1,
            created_at,
            updated_at: created_at,
            updated_by: Actor::new("eval"),
        }));
    }
}

//! How well the search for agents finds the one that is meant, among those of `examples/agents`.

use std::collections::BTreeMap;
use std::sync::Arc;

use a2a_core::agent::{Agent, AgentSpec};
use a2a_core::change::Committed;
use a2a_core::ids::{Actor, Namespace};
use a2a_core::registry::{AgentRanking, Registry, SearchQuery};
use a2a_core::time::Timestamp;
use serde_json::Value;

use super::{Half, RANKS, Score, Sides, Style, half_of, print_sides};

const QUESTIONS: &str = include_str!("../../eval/agents.txt");

struct Question {
    style: Style,
    half: Half,
    answer: String,
    text: String,
}

/// Agents and questions, ready to be asked.
pub(super) struct Agents {
    registry: Registry,
    questions: Vec<Question>,
}

impl Agents {
    pub(super) fn read() -> Result<Self, String> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/agents");
        let mut registry = Registry::new();
        for entry in std::fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))? {
            let path = entry.map_err(|error| format!("{folder}: {error}"))?.path();
            let failed = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
            let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
            // YAML holds JSON too.
            let documents: Vec<Value> = serde_saphyr::from_str(&text).map_err(|error| failed(&error))?;
            for document in documents {
                let spec = AgentSpec::from_document(&document, "", &Namespace::default());
                registry.apply(Committed::Agent(agent(spec.map_err(|error| failed(&error))?)), Timestamp(0));
            }
        }
        let mut agents = Self { registry, questions: Vec::new() };
        let mut counts: BTreeMap<Style, usize> = BTreeMap::new();
        for line in QUESTIONS.lines().filter(|line| !line.starts_with('#')) {
            let question = agents.question(line, &mut counts).ok_or_else(|| format!("agents.txt: {line}"))?;
            agents.questions.push(question);
        }
        Ok(agents)
    }

    fn question(&self, line: &str, counts: &mut BTreeMap<Style, usize>) -> Option<Question> {
        let (mark, rest) = line.split_once(' ')?;
        let (answer, text) = rest.split_once(' ')?;
        self.registry.get(&Namespace::default(), answer)?;
        let style = Style::of_mark(mark)?;
        Some(Question { style, half: half_of(style, counts), answer: answer.to_owned(), text: text.to_owned() })
    }

    fn rank(&self, question: &Question, ranking: AgentRanking) -> Option<usize> {
        let query = SearchQuery { query: question.text.clone(), limit: RANKS, ranking, ..SearchQuery::default() };
        let hits = self.registry.search(&query).ok()?.hits;
        hits.iter().position(|hit| hit.agent.spec.id.as_str() == question.answer).map(|place| place + 1)
    }

    fn scores(&self, half: Half, ranking: AgentRanking) -> BTreeMap<Style, Score> {
        let mut scores: BTreeMap<Style, Score> = BTreeMap::new();
        for question in self.questions.iter().filter(|question| question.half == half) {
            scores.entry(question.style).or_default().add(self.rank(question, ranking));
        }
        scores
    }

    fn sides(&self, half: Half) -> Sides {
        let rankings = [AgentRanking::WORDS_ALONE, AgentRanking::TABLE_ALONE, AgentRanking::default()];
        Sides(rankings.map(|ranking| self.scores(half, ranking)))
    }

    /// Prints the figures. Returns whether both together find the most of the held-out half.
    pub(super) fn print(&self) -> bool {
        println!("\n# Agents: {} of them, {} questions", self.registry.len(), self.questions.len());
        for half in [Half::Tuning, Half::HeldOut] {
            print_sides(half, &self.sides(half));
        }
        self.sides(Half::HeldOut).hybrid_is_best()
    }

    /// Looks for better weights on the tuning half.
    pub(super) fn tune(&self) {
        let value = |ranking| {
            let scores = self.scores(Half::Tuning, ranking);
            scores.values().map(|score| score.recall_5() + score.mrr()).sum::<f64>() / (2 * scores.len().max(1)) as f64
        };
        println!("agents, now: {:.4}", value(AgentRanking::default()));
        let mut found: Vec<(f64, AgentRanking)> = Vec::new();
        for semantic in [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] {
            for lexical_floor in [0.01, 0.2, 0.3, 0.4, 0.5, 0.6] {
                for similarity_floor in [0.01, 0.3, 0.4, 0.5, 0.6] {
                    let lexical = 1.0 - semantic;
                    let ranking = AgentRanking { lexical, semantic, lexical_floor, similarity_floor };
                    found.push((value(ranking), ranking));
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        for (value, ranking) in found.iter().take(10) {
            println!("{value:.4} {ranking:?}");
        }
    }

    /// The questions of the tuning half whose answer is not first.
    pub(super) fn print_misses(&self) {
        for question in self.questions.iter().filter(|question| question.half == Half::Tuning) {
            let rank = self.rank(question, AgentRanking::default());
            if rank == Some(1) {
                continue;
            }
            println!("\n{} rank {rank:?}: {} ({})", question.style.name(), question.text, question.answer);
            let query = SearchQuery { query: question.text.clone(), limit: 2, ..SearchQuery::default() };
            for hit in self.registry.search(&query).map(|page| page.hits).unwrap_or_default() {
                println!("  {:.3} {} ({})", hit.score, hit.agent.spec.id, hit.reason);
            }
        }
    }
}

fn agent(spec: AgentSpec) -> Arc<Agent> {
    let time = Timestamp(0);
    let updated_by = Actor::new("eval");
    Arc::new(Agent { spec, revision: 1, created_at: time, updated_at: time, deployed_at: time, updated_by })
}

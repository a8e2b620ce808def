//! How well the search for agents finds the one that is meant, among those of `examples/agents`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use a2a_core::agent::{Agent, AgentSpec};
use a2a_core::change::Committed;
use a2a_core::embedding::ModelVector;
use a2a_core::ids::{Actor, Namespace};
use a2a_core::registry::{AgentRanking, Registry, SearchQuery, agent_passage, agent_passage_hash};
use a2a_core::time::Timestamp;
use a2a_model::Model;
use serde_json::Value;

use super::{Half, RANKS, Score, Sides, Style, half_of, print_columns, print_sides};

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
    /// What a model makes of the questions.
    meanings: HashMap<String, Arc<ModelVector>>,
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
        let mut agents = Self { registry, questions: Vec::new(), meanings: HashMap::new() };
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

    /// Has a model read all agents and questions.
    pub(super) fn read_by(&mut self, model: &Model) -> Result<(), String> {
        for agent in self.registry.live().cloned().collect::<Vec<_>>() {
            let passage = agent_passage(&agent.spec);
            let vector = model.embed(&passage)?;
            self.registry.set_model_vector(&agent.key(), &agent_passage_hash(&passage), &vector);
        }
        for question in &self.questions {
            self.meanings.insert(question.text.clone(), Arc::new(model.embed(&question.text)?));
        }
        Ok(())
    }

    fn rank(&self, question: &Question, ranking: AgentRanking) -> Option<usize> {
        let meaning = self.meanings.get(&question.text).cloned();
        let query =
            SearchQuery { query: question.text.clone(), limit: RANKS, ranking, meaning, ..SearchQuery::default() };
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

    /// Prints what the model alone finds, words with the table, and words with the model. Returns whether the model finds
    /// more of the held-out half than the table.
    pub(super) fn print_model(&self) -> bool {
        println!("\n# Agents by the model: {} of them, {} questions", self.registry.len(), self.questions.len());
        let by_table = AgentRanking { model: 0.0, ..AgentRanking::default() };
        let sides = |half| [AgentRanking::MODEL_ALONE, by_table, AgentRanking::default()].map(|r| self.scores(half, r));
        for half in [Half::Tuning, Half::HeldOut] {
            print_columns(half, ["model alone", "words and table", "words and model"], &Sides(sides(half)));
        }
        let [_, table, model] = sides(Half::HeldOut);
        value(&model) > value(&table)
    }

    /// Looks for better weights of the model on the tuning half.
    pub(super) fn tune_model(&self) {
        let mut found: Vec<(f64, AgentRanking)> = Vec::new();
        for model in [0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 3.0] {
            for model_floor in [0.01, 0.3, 0.4, 0.5, 0.6, 0.7] {
                let ranking = AgentRanking { model, model_floor, ..AgentRanking::default() };
                found.push((value(&self.scores(Half::Tuning, ranking)), ranking));
            }
        }
        print_best(found);
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
        let of = |ranking| value(&self.scores(Half::Tuning, ranking));
        println!("agents, now: {:.4}", of(AgentRanking::default()));
        let mut found: Vec<(f64, AgentRanking)> = Vec::new();
        for semantic in [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] {
            for lexical_floor in [0.01, 0.2, 0.3, 0.4, 0.5, 0.6] {
                for similarity_floor in [0.01, 0.3, 0.4, 0.5, 0.6] {
                    let lexical = 1.0 - semantic;
                    let ranking =
                        AgentRanking { lexical, semantic, lexical_floor, similarity_floor, ..AgentRanking::default() };
                    found.push((of(ranking), ranking));
                }
            }
        }
        print_best(found);
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

/// The mean over the styles of recall@5 and of the mean reciprocal rank: each style counts the same.
fn value(scores: &BTreeMap<Style, Score>) -> f64 {
    scores.values().map(|score| score.recall_5() + score.mrr()).sum::<f64>() / (2 * scores.len().max(1)) as f64
}

fn print_best(mut found: Vec<(f64, AgentRanking)>) {
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    for (value, ranking) in found.iter().take(10) {
        println!("{value:.4} {ranking:?}");
    }
}

fn agent(spec: AgentSpec) -> Arc<Agent> {
    let time = Timestamp(0);
    let updated_by = Actor::new("eval");
    Arc::new(Agent { spec, revision: 1, created_at: time, updated_at: time, deployed_at: time, updated_by })
}

//! `cargo xtask eval`: how well recall and the search for agents find what they are asked for.
//!
//! Questions with known answers stand in `crates/xtask/eval`, in five styles; a question is in the tuning half or in the
//! held-out half by its place in its style. Weights are chosen on the tuning half alone (`--tune`), and what counts is the
//! held-out half.

mod agents;
mod corpus;
mod distractors;
mod tune;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::embedding::ModelVector;
use a2a_core::memory::recall::{CommittedMemory, MemoryIndex, Ranking, RecallQuery, passage};
use a2a_model::{Model, ModelFolder};

use agents::Agents;
use corpus::{Corpus, Question, Style};

/// The halves of the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Tuning,
    HeldOut,
}

/// What is measured of a list of ranks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Score {
    questions: f64,
    in_5: f64,
    in_10: f64,
    reciprocal: f64,
}

impl Score {
    fn add(&mut self, rank: Option<usize>) {
        self.questions += 1.0;
        let Some(rank) = rank else { return };
        self.in_5 += f64::from(u8::from(rank <= 5));
        self.in_10 += f64::from(u8::from(rank <= 10));
        self.reciprocal += 1.0 / rank as f64;
    }

    fn recall_5(&self) -> f64 {
        self.in_5 / self.questions
    }

    fn recall_10(&self) -> f64 {
        self.in_10 / self.questions
    }

    fn mrr(&self) -> f64 {
        self.reciprocal / self.questions
    }
}

/// Memories and questions, ready to be asked.
pub(crate) struct Bench {
    index: MemoryIndex,
    corpus: Corpus,
    /// What a model makes of the questions.
    meanings: HashMap<String, Arc<ModelVector>>,
}

/// How far down an answer counts for the mean reciprocal rank.
const RANKS: usize = 50;

impl Bench {
    fn new() -> Result<Self, String> {
        let corpus = Corpus::read()?;
        let mut index = MemoryIndex::new();
        for memory in &corpus.memories {
            index.apply(CommittedMemory::Memory(memory.clone()), corpus.now);
        }
        Ok(Self { index, corpus, meanings: HashMap::new() })
    }

    /// Has a model read all memories and questions.
    fn read_by(&mut self, model: &Model, name: &str) -> Result<(), String> {
        let start = Instant::now();
        for memory in &self.corpus.memories {
            self.index.set_model_vector(memory.id.as_str(), &model.embed(passage(&memory.spec))?);
        }
        let (memories, start) = (start.elapsed(), Instant::now());
        for question in &self.corpus.questions {
            self.meanings.insert(question.text.clone(), Arc::new(model.embed(&question.text)?));
        }
        let mean = |took: Duration, count: usize| took.as_secs_f64() * 1_000.0 / count.max(1) as f64;
        let (memories, questions) =
            (mean(memories, self.corpus.memories.len()), mean(start.elapsed(), self.corpus.questions.len()));
        println!("# Model {}: {memories:.1} ms per memory, {questions:.1} ms per question", name);
        Ok(())
    }

    fn rank(&self, question: &Question, ranking: Ranking) -> Option<usize> {
        let query = RecallQuery {
            query: question.text.clone(),
            limit: RANKS,
            now: self.corpus.now,
            ranking,
            meaning: self.meanings.get(&question.text).cloned(),
            ..RecallQuery::default()
        };
        let page = self.index.recall(&query).ok()?;
        page.hits.iter().position(|hit| hit.memory.id == question.answer).map(|place| place + 1)
    }

    fn scores(&self, half: Half, ranking: Ranking) -> BTreeMap<Style, Score> {
        let mut scores: BTreeMap<Style, Score> = BTreeMap::new();
        for question in self.corpus.questions.iter().filter(|question| question.half == half) {
            scores.entry(question.style).or_default().add(self.rank(question, ranking));
        }
        scores
    }
}

/// The half that the next question of a style belongs to: they take turns.
fn half_of(style: Style, counts: &mut BTreeMap<Style, usize>) -> Half {
    let count = counts.entry(style).or_default();
    *count += 1;
    if count.is_multiple_of(2) { Half::Tuning } else { Half::HeldOut }
}

/// What words alone, the table alone and both together reach, in each style.
struct Sides([BTreeMap<Style, Score>; 3]);

impl Sides {
    /// In recall@5 and in the mean reciprocal rank of each style, a tie being no defeat where nothing is left to gain.
    fn hybrid_is_best(&self) -> bool {
        let [words, table, hybrid] = &self.0;
        [words, table].into_iter().all(|alone| {
            hybrid.iter().all(|(style, score)| {
                alone.get(style).is_none_or(|alone| score.recall_5() >= alone.recall_5() && score.mrr() >= alone.mrr())
            })
        })
    }
}

/// Prints what a model alone reaches, the table with words, and the model with words.
fn run_model(bench: &Bench) -> bool {
    let by_table = Ranking { model: 0.0, ..Ranking::default() };
    let mut is_better = true;
    for half in [Half::Tuning, Half::HeldOut] {
        let sides = [Ranking::MODEL_ALONE, by_table, Ranking::default()].map(|ranking| bench.scores(half, ranking));
        let columns = ["model alone", "words and table", "words and model"];
        print_columns(half, columns, &Sides(sides.clone()));
        let value = |scores: &BTreeMap<Style, Score>| scores.values().map(|s| s.recall_5() + s.mrr()).sum::<f64>();
        let [_, table, model] = &sides;
        is_better &= half == Half::Tuning || value(model) > value(table);
    }
    println!("\nthe model is better than the table on the held-out half: {}", if is_better { "yes" } else { "NO" });
    is_better
}

/// Prints the figures of words alone, the table alone and both together; fails when both together are not the best.
pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let model = args.iter().position(|arg| arg == "--model");
    let folder = model.and_then(|at| args.get(at + 1));
    let is_known = |(at, arg): (usize, &String)| {
        ["--tune", "--misses", "--model"].contains(&arg.as_str()) || model.is_some_and(|model| model + 1 == at)
    };
    if let Some((_, unknown)) = args.iter().enumerate().find(|(at, arg)| !is_known((*at, *arg))) {
        return Err(format!("`{unknown}` is not an option of eval; there are --tune, --misses and --model FOLDER"));
    }
    if !a2a_core::embedding::is_available() {
        return Err("a2a-core was built without its table; build it with the feature `embedding`".to_owned());
    }
    let (mut bench, mut agents) = (Bench::new()?, Agents::read()?);
    if model.is_some() {
        let folder = ModelFolder::open(Path::new(folder.ok_or("--model needs the folder of a model")?))?;
        let model = Model::load(&folder)?;
        bench.read_by(&model, folder.name())?;
        agents.read_by(&model)?;
        if args.iter().any(|arg| arg == "--tune") {
            tune::run_model(&bench);
            agents.tune_model();
            return Ok(true);
        }
        return Ok(run_model(&bench) & agents.print_model());
    }
    if args.iter().any(|arg| arg == "--tune") {
        tune::run(&bench);
        agents.tune();
        return Ok(true);
    }
    if args.iter().any(|arg| arg == "--misses") {
        print_misses(&bench);
        agents.print_misses();
        return Ok(true);
    }
    println!("# Recall: {} memories, {} questions", bench.corpus.memories.len(), bench.corpus.questions.len());
    let sides = |half| {
        let rankings = [Ranking::WORDS_ALONE, Ranking::TABLE_ALONE, Ranking::default()];
        Sides(rankings.map(|ranking| bench.scores(half, ranking)))
    };
    for half in [Half::Tuning, Half::HeldOut] {
        print_sides(half, &sides(half));
    }
    let best = sides(Half::HeldOut).hybrid_is_best() & agents.print();
    println!("\nboth together are the best of the held-out half in every style: {}", if best { "yes" } else { "NO" });
    Ok(best)
}

fn print_sides(half: Half, sides: &Sides) {
    print_columns(half, ["words", "table", "both"], sides);
}

fn print_columns(half: Half, columns: [&str; 3], Sides([words, table, hybrid]): &Sides) {
    println!(
        "\n## {}, recall@5, recall@10 and MRR\n",
        if half == Half::Tuning { "tuning half" } else { "held-out half" }
    );
    let [first, second, third] = columns;
    println!("| style      | questions | {first:20} | {second:20} | {third:20} |");
    println!("|------------|-----------|----------------------|----------------------|----------------------|");
    let mut sums = [Score::default(); 3];
    for (style, hybrid) in hybrid {
        let (Some(words), Some(table)) = (words.get(style), table.get(style)) else { continue };
        println!("{}", line(style.name(), [words, table, hybrid]));
        for (sum, score) in sums.iter_mut().zip([words, table, hybrid]) {
            sum.questions += score.questions;
            sum.in_5 += score.in_5;
            sum.in_10 += score.in_10;
            sum.reciprocal += score.reciprocal;
        }
    }
    let [words, table, hybrid] = &sums;
    println!("{}", line("all", [words, table, hybrid]));
}

fn line(name: &str, scores: [&Score; 3]) -> String {
    let cell = |score: &Score| format!("{:.3} {:.3} {:.3}", score.recall_5(), score.recall_10(), score.mrr());
    let [words, table, hybrid] = scores;
    format!("| {name:10} | {:9} | {:20} | {:20} | {:20} |", hybrid.questions, cell(words), cell(table), cell(hybrid))
}

/// The questions of the tuning half whose answer is not first, for those who look for better ideas.
fn print_misses(bench: &Bench) {
    for question in bench.corpus.questions.iter().filter(|question| question.half == Half::Tuning) {
        let rank = bench.rank(question, Ranking::default());
        if rank == Some(1) {
            continue;
        }
        let query =
            RecallQuery { query: question.text.clone(), limit: 2, now: bench.corpus.now, ..RecallQuery::default() };
        println!("\n{} rank {rank:?}: {}", question.style.name(), question.text);
        if let Some(answer) = bench.index.get(question.answer.as_str()) {
            println!("  wanted: {}", answer.spec.content);
        }
        for hit in bench.index.recall(&query).map(|page| page.hits).unwrap_or_default() {
            println!("  {:.3} {} ({})", hit.score, hit.memory.spec.content, hit.reason);
        }
    }
}

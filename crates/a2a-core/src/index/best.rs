//! Keeps the best documents of a ranking.

use std::cmp::Ordering;

use super::Doc;

/// The best documents so far, at most a few times as many as are wanted. Equal scores are in the order of ids.
pub(crate) struct Best<'s, I> {
    id: I,
    after: Option<(f32, &'s str)>,
    count: usize,
    /// What scores less cannot be among the best any more.
    pub(crate) floor: f32,
    found: Vec<(f32, Doc)>,
}

impl<'s, I: Fn(Doc) -> Option<&'s str> + Copy> Best<'s, I> {
    /// Keeps `count` documents, those behind `after` if it is given. `id` tells the id of a document.
    pub(crate) fn new(id: I, after: Option<(f32, &'s str)>, count: usize) -> Self {
        Self { id, after, count, floor: f32::MIN, found: Vec::new() }
    }

    /// Takes a document whose score is not below the floor.
    pub(crate) fn offer(&mut self, score: f32, doc: Doc) {
        if let Some((last_score, last_id)) = self.after {
            let comes_after = score < last_score || (score == last_score && (self.id)(doc) > Some(last_id));
            if !comes_after {
                return;
            }
        }
        self.found.push((score, doc));
        if self.found.len() >= (4 * self.count).max(256) {
            self.cut();
        }
    }

    /// The higher score first, then by id.
    fn order(&self) -> impl Fn(&(f32, Doc), &(f32, Doc)) -> Ordering + use<'s, I> {
        let id = self.id;
        move |a, b| b.0.total_cmp(&a.0).then_with(|| id(a.1).cmp(&id(b.1)))
    }

    /// Drops what is not among the best so far, and raises the floor.
    pub(crate) fn cut(&mut self) {
        if self.found.len() <= self.count {
            return;
        }
        let order = self.order();
        let (_, last, _) = self.found.select_nth_unstable_by(self.count - 1, order);
        self.floor = last.0;
        self.found.truncate(self.count);
    }

    /// The kept documents, the best first.
    pub(crate) fn into_sorted(mut self) -> Vec<(f32, Doc)> {
        self.cut();
        let order = self.order();
        self.found.sort_unstable_by(order);
        self.found
    }
}

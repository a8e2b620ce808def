//! The checks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::time::Duration;

use super::{Anomaly, FinalState, FinalValue, Op, OpKind, Outcome};

/// Compares the logs with each other and with the final state and returns every anomaly, sorted and without repeats.
///
/// A read is stale when it began more than `bound` after the process that wrote was told of the commit. Time and
/// memory grow with the number of operations times their logarithm, and with the length of the lists that were read.
#[must_use]
pub fn check(ops: &[Op], final_state: &FinalState, bound: Duration) -> Vec<Anomaly> {
    let mut keys: BTreeMap<&str, KeyLog<'_>> = BTreeMap::new();
    for key in final_state.keys() {
        keys.entry(key).or_default();
    }
    for op in ops {
        let log = keys.entry(&op.key).or_default();
        match &op.kind {
            OpKind::Write { value, expected_revision, outcome } => {
                log.writes.push(Write { op, value, expected: *expected_revision, outcome: *outcome })
            }
            OpKind::Read { revision, values } => log.reads.push(Read { op, revision: *revision, values }),
        }
    }
    let nothing = FinalValue::default();
    let bound_ns = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    let mut anomalies = BTreeSet::new();
    for (key, log) in &keys {
        KeyCheck::new(key, log, final_state.get(*key).unwrap_or(&nothing), bound_ns, &mut anomalies).run();
    }
    anomalies.into_iter().collect()
}

#[derive(Default)]
struct KeyLog<'a> {
    writes: Vec<Write<'a>>,
    reads: Vec<Read<'a>>,
}

#[derive(Clone, Copy)]
struct Write<'a> {
    op: &'a Op,
    value: &'a str,
    expected: u64,
    outcome: Outcome,
}

impl Write<'_> {
    fn committed(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Committed { revision } => Some(revision),
            _ => None,
        }
    }
}

struct Read<'a> {
    op: &'a Op,
    revision: u64,
    values: &'a [String],
}

struct KeyCheck<'a> {
    key: &'a str,
    log: &'a KeyLog<'a>,
    last: &'a FinalValue,
    /// The place of each value in the final list.
    places: HashMap<&'a str, usize>,
    /// A value may have been tried more than once, each time with an outcome of its own.
    writes: HashMap<&'a str, Vec<Write<'a>>>,
    bound_ns: u64,
    found: &'a mut BTreeSet<Anomaly>,
}

impl<'a> KeyCheck<'a> {
    fn new(
        key: &'a str,
        log: &'a KeyLog<'a>,
        last: &'a FinalValue,
        bound_ns: u64,
        found: &'a mut BTreeSet<Anomaly>,
    ) -> Self {
        let places = last.values.iter().enumerate().map(|(place, value)| (value.as_str(), place)).collect();
        let mut writes: HashMap<&str, Vec<Write<'_>>> = HashMap::new();
        for write in &log.writes {
            writes.entry(write.value).or_default().push(*write);
        }
        Self { key, log, last, places, writes, bound_ns, found }
    }

    fn run(mut self) {
        self.doubles(&self.last.values, "final state");
        for value in &self.last.values {
            if !self.may_be_there(value, u64::MAX) {
                self.phantom(value, "final state");
            }
        }
        self.committed_writes();
        for read in &self.log.reads {
            self.list_of(read);
        }
        self.same_revision_same_list();
        self.freshness();
        self.revisions_of_each_process();
    }

    fn key(&self) -> String {
        self.key.to_owned()
    }

    fn phantom(&mut self, value: &str, seen_by: &str) {
        self.found.insert(Anomaly::Phantom { key: self.key(), value: value.to_owned(), seen_by: seen_by.to_owned() });
    }

    /// Whether a value may have been seen at this time: one of its writes had begun and was not reported as not done.
    fn may_be_there(&self, value: &str, seen_ns: u64) -> bool {
        self.writes.get(value).into_iter().flatten().any(|write| {
            matches!(write.outcome, Outcome::Committed { .. } | Outcome::Unknown) && write.op.start_ns <= seen_ns
        })
    }

    fn doubles(&mut self, values: &[String], seen_by: &str) {
        let mut seen = HashSet::new();
        for value in values {
            if !seen.insert(value) {
                self.found.insert(Anomaly::AppliedTwice {
                    key: self.key.to_owned(),
                    value: value.clone(),
                    seen_by: seen_by.to_owned(),
                });
            }
        }
    }

    fn committed_writes(&mut self) {
        let mut by_expected: HashMap<u64, &str> = HashMap::new();
        let mut by_made: HashMap<u64, &str> = HashMap::new();
        for write in &self.log.writes {
            let Some(made) = write.committed() else { continue };
            if !self.places.contains_key(write.value) {
                self.found.insert(Anomaly::LostWrite {
                    key: self.key(),
                    value: write.value.to_owned(),
                    process: write.op.process.clone(),
                    revision: made,
                });
            }
            if made <= write.expected || made > self.last.revision {
                self.found.insert(Anomaly::WrongRevision {
                    key: self.key(),
                    value: write.value.to_owned(),
                    expected: write.expected,
                    made,
                });
            }
            for (revision, winners) in [(write.expected, &mut by_expected), (made, &mut by_made)] {
                let first = *winners.entry(revision).or_insert(write.value);
                if first != write.value {
                    self.found.insert(Anomaly::LostUpdate {
                        key: self.key.to_owned(),
                        first: first.to_owned(),
                        second: write.value.to_owned(),
                        revision,
                    });
                }
            }
        }
    }

    /// What one read shows, apart from how fresh it is.
    fn list_of(&mut self, read: &Read<'_>) {
        let differs = first_difference(read.values, &self.last.values);
        let checked_from = match differs {
            // A prefix of the final list holds nothing that is wrong in itself but values from the future.
            None => read.values.len(),
            Some(at) => at,
        };
        for value in &read.values[..checked_from] {
            if !self.may_be_there(value, read.op.end_ns) {
                self.phantom(value, &read.op.process);
            }
        }
        let Some(at) = differs else { return };
        self.doubles(read.values, &read.op.process);
        let mut explained = false;
        for value in &read.values[checked_from..] {
            if !self.may_be_there(value, read.op.end_ns) {
                explained = true;
                self.phantom(value, &read.op.process);
            } else if !self.places.contains_key(value.as_str()) {
                explained = true;
                let committed = self.writes[value.as_str()].iter().any(|write| write.committed().is_some());
                // What was committed and is gone has been reported as lost.
                if !committed {
                    self.found.insert(Anomaly::DirtyRead {
                        key: self.key(),
                        value: value.clone(),
                        process: read.op.process.clone(),
                    });
                }
            }
        }
        let mut seen = HashSet::new();
        explained |= !read.values.iter().all(|value| seen.insert(value));
        if !explained {
            self.found.insert(Anomaly::OrderViolation { key: self.key(), process: read.op.process.clone(), at });
        }
    }

    fn same_revision_same_list(&mut self) {
        let mut lists: HashMap<u64, &[String]> = HashMap::new();
        for read in &self.log.reads {
            let first = *lists.entry(read.revision).or_insert(read.values);
            if first != read.values {
                self.found.insert(Anomaly::RevisionAmbiguous {
                    key: self.key(),
                    revision: read.revision,
                    process: read.op.process.clone(),
                });
            }
        }
    }

    /// Stale reads, and reads that miss the process's own writes. Of the values that a read misses the one that is
    /// last in the final list is named.
    fn freshness(&mut self) {
        let log = self.log;
        let committed: Vec<Write<'a>> =
            log.writes.iter().filter(|write| write.committed().is_some()).copied().collect();
        let known = Known::new(&committed, &self.places);
        let mut own: HashMap<&str, Vec<Write<'a>>> = HashMap::new();
        for write in &committed {
            own.entry(&write.op.process).or_default().push(*write);
        }
        let own: HashMap<&str, Known<'_>> =
            own.iter().map(|(process, writes)| (*process, Known::new(writes, &self.places))).collect();
        for read in &log.reads {
            if let Some(write) = read.op.start_ns.checked_sub(self.bound_ns).and_then(|time| known.newest_before(time))
                && self.misses(read, write)
            {
                self.found.insert(Anomaly::StaleRead {
                    key: self.key(),
                    value: write.value.to_owned(),
                    process: read.op.process.clone(),
                    late_by: Duration::from_nanos(read.op.start_ns - write.op.end_ns),
                });
            }
            let of_process = own.get(read.op.process.as_str());
            if let Some(write) = of_process.and_then(|known| known.newest_before(read.op.start_ns))
                && self.misses(read, write)
            {
                self.found.insert(Anomaly::OwnWriteUnseen {
                    key: self.key(),
                    value: write.value.to_owned(),
                    process: read.op.process.clone(),
                });
            }
        }
    }

    fn misses(&self, read: &Read<'_>, write: &Write<'_>) -> bool {
        // In a list that is a prefix of the final one the value is at its final place; in any other list it is searched.
        let at_place = self.places.get(write.value).and_then(|place| read.values.get(*place));
        at_place.is_none_or(|value| value != write.value) && !read.values.iter().any(|value| value == write.value)
    }

    /// What a process has seen when it calls must not be newer than what it is then shown.
    fn revisions_of_each_process(&mut self) {
        // A conflict names the database's revision, which the process's own memory may be behind of; it is no read.
        let mut seen: HashMap<&str, Vec<(u64, u64, u64, bool)>> = HashMap::new();
        for read in &self.log.reads {
            let op = read.op;
            seen.entry(&op.process).or_default().push((op.start_ns, op.end_ns, read.revision, true));
        }
        for write in &self.log.writes {
            if let Some(made) = write.committed() {
                let op = write.op;
                seen.entry(&op.process).or_default().push((op.start_ns, op.end_ns, made, false));
            }
        }
        for (process, mut seen) in seen {
            seen.sort_unstable();
            // Operations of one process may overlap; only what had ended before a call counts for it.
            let mut open: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
            let mut newest = 0;
            for (start, end, revision, is_read) in seen {
                while let Some(Reverse((ended, ended_revision))) = open.peek().copied()
                    && ended < start
                {
                    open.pop();
                    newest = newest.max(ended_revision);
                }
                if revision < newest && is_read {
                    self.found.insert(Anomaly::RevisionWentBack {
                        key: self.key.to_owned(),
                        process: process.to_owned(),
                        from: newest,
                        to: revision,
                    });
                }
                open.push(Reverse((end, revision)));
            }
        }
    }
}

/// Committed writes by the time of their acknowledgement, for the question what must be visible at a time.
struct Known<'a> {
    /// Each entry holds, of all writes acknowledged until its time, the one that is last in the final list.
    newest: Vec<(u64, Write<'a>)>,
}

impl<'a> Known<'a> {
    fn new(writes: &[Write<'a>], places: &HashMap<&'a str, usize>) -> Self {
        // What is not in the final state is reported as lost and not searched in every read.
        let mut writes: Vec<(u64, usize, Write<'a>)> =
            writes.iter().filter_map(|write| Some((write.op.end_ns, *places.get(write.value)?, *write))).collect();
        writes.sort_unstable_by_key(|(end, place, _)| (*end, *place));
        let mut newest: Vec<(u64, Write<'a>)> = Vec::with_capacity(writes.len());
        let mut newest_place = None;
        for (end, place, write) in writes {
            if newest_place.is_none_or(|before| place > before) {
                newest_place = Some(place);
                newest.push((end, write));
            }
        }
        Self { newest }
    }

    fn newest_before(&self, time: u64) -> Option<&Write<'a>> {
        let count = self.newest.partition_point(|(end, _)| *end < time);
        Some(&self.newest.get(count.checked_sub(1)?)?.1)
    }
}

/// The first place where a list differs from being a prefix of another.
fn first_difference(list: &[String], whole: &[String]) -> Option<usize> {
    let same = list.iter().zip(whole).take_while(|(a, b)| a == b).count();
    (same < list.len()).then_some(same)
}

#[cfg(test)]
mod tests;

//! Work on many documents by several threads, whose results are taken over in the order of the documents.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads would keep a small machine from anything else while a process starts.
const THREADS_MAX: usize = 2;

/// Has each part read by one of the threads, and each result added in the order of the parts, one after the other, by
/// whichever thread has the next one. It returns when all are added.
pub(crate) fn in_order<Part: Sync, Read: Send>(
    parts: &[Part],
    read: impl Fn(&Part) -> Read + Sync,
    add: impl Fn(Read) + Sync,
) {
    let claimed = AtomicUsize::new(0);
    // What is read, and how much of it has been added. Nobody is kept waiting long: a part is small.
    let done: Mutex<(usize, BTreeMap<usize, Read>)> = Mutex::new((0, BTreeMap::new()));
    let work = || {
        loop {
            let number = claimed.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(number) else { return };
            let result = read(part);
            let mut done = done.lock();
            let (next, waiting) = &mut *done;
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(next) {
                add(result);
                *next += 1;
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(parts.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_parts_each_once() {
        let parts: Vec<usize> = (0..500).collect();
        let added = Mutex::new(Vec::new());
        let read = |part: &usize| {
            // Parts take different times, so that they are ready in another order.
            (0..(part * 7 % 13) * 500).fold(0usize, |sum, n| std::hint::black_box(sum + n));
            *part
        };
        in_order(&parts, read, |part| added.lock().push(part));
        assert_eq!(added.into_inner(), parts);
        in_order(&[] as &[usize], read, |_| unreachable!("there is nothing to read"));
    }
}

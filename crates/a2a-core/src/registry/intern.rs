//! Lets equal values share one allocation for as long as someone uses them.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Values in use, each with the number of its users.
#[derive(Debug)]
pub(super) struct Pool<T> {
    users: HashMap<T, usize, RandomState>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { users: HashMap::default() }
    }
}

impl<T: Hash + Eq + Clone> Pool<T> {
    /// The value that is shared by those who use one equal to `value`.
    pub(super) fn shared(&self, value: &T) -> Option<&T> {
        self.users.get_key_value(value).map(|(shared, _)| shared)
    }

    /// Counts one more user.
    pub(super) fn acquire(&mut self, value: &T) {
        if let Some(users) = self.users.get_mut(value) {
            *users += 1;
        } else {
            self.users.insert(value.clone(), 1);
        }
    }

    /// Counts one user less, and lets go of the value with the last.
    pub(super) fn release(&mut self, value: &T) {
        if let Some(users) = self.users.get_mut(value) {
            *users -= 1;
            if *users == 0 {
                self.users.remove(value);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }
}

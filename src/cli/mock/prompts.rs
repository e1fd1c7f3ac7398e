//! The providers' prompt caches: prompts seen before cost less.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;

/// Most remembered prefixes; the oldest is forgotten.
const MOST: usize = 4_096;

/// Remembers hashes of prefixes.
#[derive(Debug, Default)]
pub(super) struct Prompts(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    set: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Prompts {
    /// Whether this credential sent this prefix to this model before; remembers it.
    pub(super) fn seen(&self, credential: &str, model: &str, prefix: &str) -> bool {
        let mut hasher = blake3::Hasher::new();
        for part in [credential, model, prefix] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let hash = *hasher.finalize().as_bytes();
        let mut remembered = self.0.lock();
        if !remembered.set.insert(hash) {
            return true;
        }
        remembered.order.push_back(hash);
        if remembered.order.len() > MOST
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.set.remove(&oldest);
        }
        false
    }

    pub(super) fn clear(&self) {
        *self.0.lock() = Remembered::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_by_credential_and_forgets_the_oldest() {
        let prompts = Prompts::default();
        assert!(!prompts.seen("a", "m", "p"));
        assert!(prompts.seen("a", "m", "p"));
        assert!(!prompts.seen("b", "m", "p"));
        for n in 0..MOST {
            prompts.seen("c", "m", &n.to_string());
        }
        assert!(!prompts.seen("a", "m", "p"));
    }
}

//! Backoff per object: exponential, with jitter, forgotten on success.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

/// First delay.
pub const BASE: Duration = Duration::from_millis(250);

/// Longest delay.
pub const CAP: Duration = Duration::from_secs(120);

/// Counts failures by key. Memory alone: a restart begins anew, which is right.
#[derive(Debug)]
pub struct Backoff<K> {
    attempts: Mutex<HashMap<K, u32>>,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self { attempts: Mutex::new(HashMap::new()) }
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// Records a failure and tells how long to wait.
    pub fn failed(&self, key: K) -> Duration {
        let mut attempts = self.attempts.lock();
        let count = attempts.entry(key).or_insert(0);
        let delay = delay(*count, rand::random::<f64>());
        *count = count.saturating_add(1);
        delay
    }

    /// Forgets the failures of a key.
    pub fn succeeded(&self, key: &K) {
        self.attempts.lock().remove(key);
    }
}

/// The delay after `attempt` earlier failures; `jitter` in 0..1 takes away up to a fifth.
#[must_use]
pub fn delay(attempt: u32, jitter: f64) -> Duration {
    let full = BASE.saturating_mul(2_u32.saturating_pow(attempt.min(16))).min(CAP);
    full.mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_is_capped() {
        assert_eq!(delay(0, 0.0), BASE);
        assert_eq!(delay(3, 0.0), BASE * 8);
        assert_eq!(delay(40, 0.0), CAP);
        assert!(delay(40, 1.0) >= CAP.mul_f64(0.79));
    }

    #[test]
    fn success_starts_anew() {
        let backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed("a");
        }
        backoff.succeeded(&"a");
        assert!(backoff.failed("a") <= BASE);
    }
}

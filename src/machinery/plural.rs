//! Counts in front of nouns.

use std::fmt::Display;

/// A count with what is counted: `one` after a 1, and `many` after everything else.
#[must_use]
pub fn pluralize(count: impl Display, one: &str, many: &str) -> String {
    let count = count.to_string();
    let noun = if count == "1" { one } else { many };
    format!("{count} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        for (count, want) in [(0, "0 replicas"), (1, "1 replica"), (2, "2 replicas"), (11, "11 replicas")] {
            assert_eq!(pluralize(count, "replica", "replicas"), want);
        }
    }

    #[test]
    fn the_verb_may_go_with_it() {
        assert_eq!(pluralize(1_usize, "node is not ready", "nodes are not ready"), "1 node is not ready");
        assert_eq!(pluralize(3_i64, "node is not ready", "nodes are not ready"), "3 nodes are not ready");
    }
}

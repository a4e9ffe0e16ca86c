//! Divides replicas by weight.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Divides `replicas` among named parties by weight, after Webster (Sainte-Laguë): one at a time to the party with the
/// highest weight / (2 × replicas so far + 1). A tie goes to the party with fewer replicas, then by name: ascending or
/// descending as the object's uid says, so that small remainders of many objects do not all land in one place.
///
/// The result is sorted by name; the division of an object does not change while replicas and weights do not.
#[must_use]
pub fn divide(replicas: i64, weights: &[(&str, i64)], uid: Option<&str>) -> Vec<(String, i64)> {
    let descending = uid.is_some_and(|uid| !uid.is_empty() && fnv1a(uid) & 1 == 1);
    let weights: Vec<_> = weights.iter().filter(|(_, weight)| *weight > 0).collect();
    let replicas = replicas.max(0);
    let total: i128 = weights.iter().map(|(_, weight)| i128::from(*weight)).sum();
    let count = i128::try_from(weights.len()).unwrap_or(i128::MAX);
    let mut heap: BinaryHeap<Party<'_>> = weights
        .iter()
        .map(|(name, weight)| {
            // Nobody ends up further below the exact quota than half the number of parties: that much is certain, and
            // only the rest is handed out one by one.
            let certain = (i128::from(replicas) * i128::from(*weight) / total - count).max(0);
            Party { name, weight: *weight, seats: i64::try_from(certain).unwrap_or(0), descending }
        })
        .collect();
    let handed_out: i64 = heap.iter().map(|party| party.seats).sum();
    for _ in handed_out..replicas {
        let Some(mut party) = heap.pop() else { break };
        party.seats += 1;
        heap.push(party);
    }
    let mut result: Vec<_> = heap.into_iter().map(|party| (party.name.to_owned(), party.seats)).collect();
    result.sort();
    result
}

struct Party<'a> {
    name: &'a str,
    weight: i64,
    seats: i64,
    descending: bool,
}

impl Ord for Party<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // weight / (2 seats + 1), compared without dividing.
        let mine = i128::from(self.weight) * (2 * i128::from(other.seats) + 1);
        let theirs = i128::from(other.weight) * (2 * i128::from(self.seats) + 1);
        let by_name = self.name.cmp(other.name);
        mine.cmp(&theirs)
            .then_with(|| other.seats.cmp(&self.seats))
            .then_with(|| if self.descending { by_name } else { by_name.reverse() })
    }
}

impl PartialOrd for Party<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Party<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Party<'_> {}

/// FNV-1a, 32 bits: the hash that decides ties must be the same in every implementation of the API.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seats(replicas: i64, weights: &[(&str, i64)], uid: Option<&str>) -> Vec<i64> {
        divide(replicas, weights, uid).into_iter().map(|(_, seats)| seats).collect()
    }

    #[test]
    fn table() {
        for (replicas, weights, expected) in [
            (9, vec![("a", 1), ("b", 2)], vec![3, 6]),
            (9, vec![("a", 1), ("b", 3)], vec![2, 7]),
            (3, vec![("a", 1), ("b", 1), ("c", 1)], vec![1, 1, 1]),
            (4, vec![("a", 1), ("b", 1), ("c", 1)], vec![2, 1, 1]),
            (2, vec![("a", 1), ("b", 1), ("c", 1)], vec![1, 1, 0]),
            (0, vec![("a", 1), ("b", 1)], vec![0, 0]),
            (5, vec![("a", 0), ("b", 1)], vec![5]),
            (5, vec![], vec![]),
            (100, vec![("a", i64::MAX), ("b", i64::MAX)], vec![50, 50]),
            (-1, vec![("a", 1)], vec![0]),
            (2_147_483_647, vec![("a", 1), ("b", 2)], vec![715_827_882, 1_431_655_765]),
        ] {
            assert_eq!(seats(replicas, &weights, None), expected, "{replicas} {weights:?}");
        }
    }

    #[test]
    fn ties_follow_the_uid() {
        // Hash of "a" is 0xe40c292c (even), of "b" 0xe70c2de5 (odd).
        assert_eq!(fnv1a("a"), 0xe40c_292c);
        assert_eq!(fnv1a("b"), 0xe70c_2de5);
        assert_eq!(seats(1, &[("x", 1), ("y", 1)], Some("a")), [1, 0]);
        assert_eq!(seats(1, &[("x", 1), ("y", 1)], Some("b")), [0, 1]);
    }

    proptest! {
        #[test]
        fn all_replicas_are_placed_and_no_quota_is_missed(
            replicas in 0i64..500,
            weights in proptest::collection::vec(1i64..50, 1..8),
            uid in "[a-f0-9]{8}",
        ) {
            let names: Vec<String> = (0..weights.len()).map(|i| format!("c{i}")).collect();
            let parties: Vec<(&str, i64)> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            let result = divide(replicas, &parties, Some(&uid));
            prop_assert_eq!(result.iter().map(|(_, seats)| seats).sum::<i64>(), replicas);
            // Order of the input does not matter.
            let mut reversed = parties.clone();
            reversed.reverse();
            prop_assert_eq!(&divide(replicas, &reversed, Some(&uid)), &result);
            // Who weighs more never gets less.
            for (a, wa) in &parties { for (b, wb) in &parties {
                let of = |name: &str| result.iter().find(|(n, _)| n == name).map_or(0, |(_, seats)| *seats);
                if wa > wb { prop_assert!(of(a) >= of(b)); }
                if wa == wb { prop_assert!((of(a) - of(b)).abs() <= 1); }
            }}
        }

        /// The short cut changes nothing: the same as handing out every replica one by one.
        #[test]
        fn same_as_one_by_one(
            replicas in 0i64..400,
            weights in proptest::collection::vec(1i64..1000, 1..10),
        ) {
            let names: Vec<String> = (0..weights.len()).map(|i| format!("c{i}")).collect();
            let mut seats = vec![0i64; weights.len()];
            for _ in 0..replicas {
                let best = (0..seats.len()).max_by(|&a, &b| {
                    let party = |i: usize| Party { name: &names[i], weight: weights[i], seats: seats[i], descending: false };
                    party(a).cmp(&party(b))
                }).unwrap();
                seats[best] += 1;
            }
            let parties: Vec<(&str, i64)> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            prop_assert_eq!(divide(replicas, &parties, None).into_iter().map(|(_, s)| s).collect::<Vec<_>>(), seats);
        }

        #[test]
        fn one_more_replica_takes_none_away(
            replicas in 0i64..300,
            weights in proptest::collection::vec(1i64..50, 1..8),
        ) {
            let names: Vec<String> = (0..weights.len()).map(|i| format!("c{i}")).collect();
            let parties: Vec<(&str, i64)> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            let (fewer, more) = (divide(replicas, &parties, None), divide(replicas + 1, &parties, None));
            for ((_, a), (_, b)) in fewer.iter().zip(&more) {
                prop_assert!(b >= a);
            }
        }
    }
}

//! Which instances this replica owns. Pure.
//!
//! One predicate decides, and what is kept for an instance is built from it: what is known of the host cluster and whose
//! objects the controllers work on ([`super::host_cache`]), which planes are connected and cached ([`super::planes`]), and
//! which Lease a replica holds. With the default of one shard the leader owns every instance. A PermissionBinding may mean
//! several instances, and is worked on by every replica.

use std::fmt;

use sha2::{Digest, Sha256};

use super::planes::InstanceKey;

/// The share of all instances that a replica owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

/// Why there is no such shard.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
#[error("shard {index} of {count}: the index must be less than the number of shards")]
pub struct InvalidShard {
    index: u32,
    count: u32,
}

impl Shard {
    /// The shard with this index, counted from 0, of so many.
    ///
    /// # Errors
    /// There are not that many shards.
    pub fn new(index: u32, count: u32) -> Result<Self, InvalidShard> {
        if index < count { Ok(Self { index, count }) } else { Err(InvalidShard { index, count }) }
    }

    /// Whether this replica owns an instance. Every instance is owned by exactly one shard, and the same one after a
    /// restart.
    #[must_use]
    pub fn owns(&self, instance: &InstanceKey) -> bool {
        if self.count == 1 {
            return true;
        }
        let hash = Sha256::digest(instance.to_string().as_bytes());
        let number = hash.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        number % self.count == self.index
    }

    /// Name of the Lease for which the replicas of this shard compete.
    #[must_use]
    pub fn lease_name(&self) -> String {
        if self.count == 1 { "airdock-controller".to_owned() } else { format!("airdock-controller-{}", self.index) }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.index, self.count)
    }
}

/// One of two shards, an instance of the namespace `team` that it owns, and one that it does not.
#[cfg(test)]
pub(crate) fn one_of_two() -> (Shard, String, String) {
    let shard = Shard { index: 0, count: 2 };
    let first = |is_owned: bool| {
        let key = |n| InstanceKey { namespace: "team".into(), name: format!("fleet-{n}") };
        let mut found = (0..20).map(key).filter(|key| shard.owns(key) == is_owned);
        found.next().map(|key| key.name).unwrap_or_default()
    };
    (shard, first(true), first(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances() -> Vec<InstanceKey> {
        (0..200).map(|n| InstanceKey { namespace: format!("team-{}", n % 7), name: format!("fleet-{n}") }).collect()
    }

    #[test]
    fn every_instance_has_one_owner() {
        let shards: Vec<Shard> = (0..3).map(|index| Shard::new(index, 3).unwrap()).collect();
        for instance in instances() {
            let owners = shards.iter().filter(|shard| shard.owns(&instance)).count();
            assert_eq!(owners, 1, "{instance}");
        }
        for shard in &shards {
            let owned = instances().iter().filter(|instance| shard.owns(instance)).count();
            assert!((40..=95).contains(&owned), "shard {shard} owns {owned} of 200");
        }
    }

    #[test]
    fn a_single_shard_owns_all_under_the_known_lease() {
        assert!(instances().iter().all(|instance| Shard::default().owns(instance)));
        assert_eq!(Shard::default().lease_name(), "airdock-controller");
        assert_eq!(Shard::new(1, 2).unwrap().lease_name(), "airdock-controller-1");
        assert_eq!(Shard::new(2, 2), Err(InvalidShard { index: 2, count: 2 }));
    }
}

//! What came of placing something: the clusters, and why not the others.

use std::collections::BTreeMap;
use std::fmt;

use crate::karmada::binding::TargetCluster;

/// Where something was placed, and where not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placed {
    /// The clusters, sorted by name.
    pub targets: Vec<TargetCluster>,
    /// The others.
    pub excluded: Vec<Excluded>,
}

/// A cluster that something was not placed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// Name of the cluster.
    pub cluster: String,
    /// Why, as a predicate of the cluster ("does not …").
    pub why: String,
}

/// Why something was placed nowhere.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum FitError {
    /// No cluster fits.
    #[error("0/{} clusters are available: {}{}", .0.len(), Grouped(.0), remedy(.0))]
    NoClusterFit(Vec<Excluded>),
}

impl FitError {
    /// Reason of the `Scheduled` condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoClusterFit(_) => "NoClusterFit",
        }
    }
}

fn remedy(excluded: &[Excluded]) -> &'static str {
    if excluded.is_empty() { "; join one" } else { "; change the placement or the clusters" }
}

/// The first names of a list, and whether there are more.
pub(super) fn first_of<N: AsRef<str>>(names: &[N]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    shown.join(", ") + more
}

/// Exclusions by reason, so that a hundred clusters make one readable line.
struct Grouped<'a>(&'a [Excluded]);

impl fmt::Display for Grouped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no cluster has joined");
        }
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for excluded in self.0 {
            reasons.entry(&excluded.why).or_default().push(&excluded.cluster);
        }
        for (n, (why, clusters)) in reasons.iter().enumerate() {
            let comma = if n > 0 { "; " } else { "" };
            write!(f, "{comma}{} {why} ({})", clusters.len(), first_of(clusters))?;
        }
        Ok(())
    }
}

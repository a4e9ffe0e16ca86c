//! Where objects go: which policy claims an object, which clusters fit it, and how its replicas spread. Pure.
//!
//! The rules are those of Karmada 1.18, so that an application lands in the same clusters under both profiles. Every
//! function is total: what cannot be decided is a [`FitError`] with the reason of the `Scheduled` condition.

mod claim;
mod cluster;
mod place;
mod result;
mod selector;
mod taints;
mod weights;

pub use claim::{Claim, Policy, claim};
pub use cluster::{ClusterView, Health};
pub use place::{Previous, Request, is_reached, place};
pub use result::{Excluded, FitError, Placed};
pub use selector::{AffinityMismatch, Rank, affinity_matches, affinity_mismatch, rank, selected_by};
pub use taints::{NOT_READY_TAINT, UNREACHABLE_TAINT};
pub use weights::divide;

//! What Go programs take from apimachinery: conditions, comparison, quantities, rules for names, versions of objects, hashes, what
//! an error means. Pure.

pub mod conditions;
pub mod contains;
pub mod error;
pub mod hash;
pub mod names;
pub mod object_version;
pub mod plural;
pub mod quantity;

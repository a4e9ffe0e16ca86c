//! What Go programs take from apimachinery: conditions, comparison, quantities, rules for names, versions of objects, what an
//! error means. Pure.

pub mod conditions;
pub mod contains;
pub mod error;
pub mod names;
pub mod object_version;
pub mod quantity;

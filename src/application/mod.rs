//! From a `MultiCloudApp` to what its plane needs: templates, a policy that places them, and policies that make them
//! differ. Pure: the controller, `airdock plan` and `airdock status` call the same functions.
//!
//! [`validate`] makes an [`Application`] of a spec, [`plan`] a [`Plan`] of an application, and [`preview`] carries a plan
//! out on paper.

pub mod affinity;
pub mod differences;
#[cfg(test)]
mod fixtures;
pub mod kinds;
pub mod left_out;
pub mod model;
pub mod plan;
pub mod preview;
pub mod selectors;
pub mod validate;
pub mod workload;

pub use model::{Application, FieldError, Identity, Plan, Served, Template, Tenancy};

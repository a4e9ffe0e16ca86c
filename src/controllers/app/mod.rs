//! `MultiCloudApp`: from an app to templates and policies in the plane, and from the plane's bindings back to
//! the app's status.

pub mod differences;
pub mod error;
pub mod kinds;
pub mod plan;
pub mod status;
pub mod validate;
pub mod workload;

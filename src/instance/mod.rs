//! What an instance consists of: its keys, its objects in the host cluster and in its plane, the bundle of definitions. Pure.

pub mod bundle;
pub mod keys;
pub mod plane;
mod render;

pub use render::{Rendered, render};

use crate::chart::ChartError;
use crate::machinery::error::{Class, Classified};
use crate::pki::PkiError;

use bundle::BundleError;

/// Why there are no manifests of an instance.
#[derive(thiserror::Error, Debug)]
pub enum ManifestError {
    /// The spec cannot be rendered.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// A certificate cannot be described.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The bundle of definitions cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl Classified for ManifestError {
    fn class(&self) -> Class {
        match self {
            Self::Chart(_) => Class::Invalid,
            Self::Pki(_) => Class::Retry,
            Self::Bundle(error) => error.class(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Chart(ChartError::Invalid { .. }) => "InvalidSpec",
            Self::Chart(_) => "ChartBroken",
            Self::Pki(_) => "CertificatesFailed",
            Self::Bundle(error) => error.reason(),
        }
    }
}

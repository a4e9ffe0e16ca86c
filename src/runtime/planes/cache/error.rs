//! Why a plane's cache has no answer.

use super::LIST_TIMEOUT;
use crate::machinery::error::{Class, Classified};

/// Why a lookup has no answer.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum CacheError {
    /// The plane has no such kind, or none yet.
    #[error("the plane does not serve {kind} of {api_version}")]
    NotServed {
        /// API version.
        api_version: String,
        /// Kind.
        kind: String,
    },
    /// The kind was not listed in time.
    #[error("{kind} of the plane could not be listed within {} s", LIST_TIMEOUT.as_secs())]
    NotListed {
        /// Kind.
        kind: String,
    },
    /// The plane does not answer.
    #[error("the plane does not answer: {0}")]
    Away(String),
    /// An object is not what its kind should be.
    #[error("{kind} {name} of the plane cannot be read: {problem}; correct or delete it")]
    Unreadable {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Classified for CacheError {
    fn class(&self) -> Class {
        Class::Retry
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotServed { .. } => "KindNotServed",
            Self::NotListed { .. } | Self::Away(_) => "PlaneUnreachable",
            Self::Unreadable { .. } => "ObjectUnreadable",
        }
    }
}

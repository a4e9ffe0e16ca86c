//! Errors of the instance controller, each with what it means for the next attempt.

use crate::chart::ChartError;
use crate::controllers::host_error::HOST_CLUSTER_FAILED;
use crate::instance::ManifestError;
use crate::instance::bundle::BundleError;
use crate::machinery::conditions::Verdict;
use crate::machinery::error::{Class, Classified, chain};
use crate::pki::PkiError;
use crate::runtime::apply::ApplyError;

/// Why an instance was not brought further.
#[derive(thiserror::Error, Debug)]
pub enum InstanceError {
    /// What the instance consists of cannot be made out.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A name is taken.
    #[error(
        "{kind} {name} exists already and does not belong to this instance: delete it, or give the instance another \
         name"
    )]
    Taken {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API server of the host cluster finds an object invalid.
    #[error("the host cluster refuses {what}: {message}; correct the field of the spec that it comes from")]
    Refused {
        /// Kind and name.
        what: String,
        /// What the API server says.
        message: String,
    },
    /// An object of the host cluster was not written.
    #[error("host cluster")]
    Host(#[source] ApplyError),
    /// An object of the host cluster was not read.
    #[error("read {what} of the host cluster")]
    Read {
        /// What was read.
        what: &'static str,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// An object of the host cluster is not what its kind should be.
    #[error("{kind} {name} of the host cluster cannot be read: {problem}; correct or delete it")]
    Unreadable {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An object inside the plane was not read or written.
    #[error("prepare the plane: {what}")]
    Plane {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The status was not written.
    #[error("write the status")]
    Status(#[source] kube::Error),
}

impl From<ChartError> for InstanceError {
    fn from(error: ChartError) -> Self {
        Self::Manifest(error.into())
    }
}

impl From<PkiError> for InstanceError {
    fn from(error: PkiError) -> Self {
        Self::Manifest(error.into())
    }
}

impl From<BundleError> for InstanceError {
    fn from(error: BundleError) -> Self {
        Self::Manifest(error.into())
    }
}

impl InstanceError {
    /// An object of the host cluster was not written.
    pub fn host(error: ApplyError) -> Self {
        match error {
            ApplyError::NotOurs { kind, name } => Self::Taken { kind, name },
            ApplyError::Api { kind, name, source: kube::Error::Api(status), .. } if status.code == 422 => {
                Self::Refused { what: format!("{kind} {name}"), message: status.message.clone() }
            }
            other => Self::Host(other),
        }
    }

    /// What people read.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let (reason, message) = (self.reason(), chain(self));
        match self {
            // Tried again by itself, but no progress is possible until somebody acts.
            Self::Taken { .. } => Verdict::Stalled { reason, message },
            _ if self.class() == Class::Invalid => Verdict::Stalled { reason, message },
            _ => Verdict::NotReady { reason, message },
        }
    }
}

impl Classified for InstanceError {
    fn class(&self) -> Class {
        match self {
            Self::Manifest(error) => error.class(),
            Self::Refused { .. } => Class::Invalid,
            Self::Taken { .. } => Class::Blocked,
            Self::Host(_) | Self::Read { .. } | Self::Unreadable { .. } | Self::Plane { .. } | Self::Status(_) => {
                Class::Retry
            }
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Manifest(error) => error.reason(),
            Self::Taken { .. } => "NameTaken",
            Self::Refused { .. } => "Refused",
            Self::Host(_) | Self::Read { .. } => HOST_CLUSTER_FAILED,
            Self::Unreadable { .. } => "ObjectUnreadable",
            Self::Plane { .. } => "PlaneFailed",
            Self::Status(_) => "StatusFailed",
        }
    }
}

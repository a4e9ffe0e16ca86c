//! Why an app could not be brought on its way.

use crate::application::model::{FieldError, render_field_errors};
use crate::controllers::host_error::HostError;
use crate::machinery::conditions::Verdict;
use crate::machinery::error::{Class, Classified};
use crate::runtime::apply::ApplyError;
use crate::runtime::instance_ref::InstanceRefError;
use crate::runtime::planes::cache::CacheError;

/// Why an app could not be brought on its way.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// The spec cannot be carried out.
    #[error("{}", render_field_errors(.0))]
    Invalid(Vec<FieldError>),
    /// The instance, or its plane, cannot be used.
    #[error(transparent)]
    Instance(#[from] InstanceRefError),
    /// The plane does not know a kind.
    #[error("kind {kind} of {api_version} is not served by the plane; apply its CustomResourceDefinition there first")]
    KindNotServed {
        /// API version of the kind.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// The object belongs to another app.
    #[error("{object} in namespace {namespace} belongs to {owner}; give one of the two another name")]
    Claimed {
        /// Kind and name of the object.
        object: String,
        /// Namespace in the plane.
        namespace: String,
        /// The other app.
        owner: String,
    },
    /// The object is there already, and nobody gave it to Airdock.
    #[error(
        "{object} exists in namespace {namespace} of the plane and is not managed by this app; delete it there, or \
         give it another name"
    )]
    Exists {
        /// Kind and name of the object.
        object: String,
        /// Namespace in the plane.
        namespace: String,
    },
    /// The app's namespace is going away.
    #[error("namespace {0} of the plane is being deleted; it is made again once it is gone")]
    NamespaceEnding(String),
    /// The plane finds an object invalid.
    #[error("the plane refuses an object")]
    Refused(#[source] ApplyError),
    /// A write failed.
    #[error(transparent)]
    Write(ApplyError),
    /// A read from the plane failed.
    #[error("read {what} from the plane")]
    Read {
        /// What was read.
        what: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// What the plane holds is not known.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A request to the host cluster failed.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl From<ApplyError> for Error {
    fn from(error: ApplyError) -> Self {
        if error.is_invalid() { Self::Refused(error) } else { Self::Write(error) }
    }
}

impl From<FieldError> for Error {
    fn from(error: FieldError) -> Self {
        Self::Invalid(vec![error])
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Invalid(_) | Self::Refused(_) => Class::Invalid,
            Self::KindNotServed { .. } | Self::Claimed { .. } | Self::Exists { .. } | Self::NamespaceEnding(_) => {
                Class::Blocked
            }
            Self::Instance(error) => error.class(),
            Self::Cache(error) => error.class(),
            Self::Host(error) => error.class(),
            Self::Write(_) | Self::Read { .. } => Class::Retry,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "InvalidSpec",
            Self::Instance(error) => error.reason(),
            Self::Cache(error) => error.reason(),
            Self::KindNotServed { .. } => "KindNotServed",
            Self::Claimed { .. } => "ObjectClaimed",
            Self::Exists { .. } => "ObjectExists",
            Self::NamespaceEnding(_) => "NamespaceEnding",
            Self::Refused(_) => "ObjectRefused",
            Self::Write(_) => "PlaneWriteFailed",
            Self::Read { .. } => "PlaneUnreachable",
            Self::Host(error) => error.reason(),
        }
    }
}

impl Error {
    /// What the conditions say. A name that is taken needs somebody to choose, though it is looked at again.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match Verdict::of_error(self) {
            Verdict::NotReady { reason, message } if matches!(self, Self::Claimed { .. } | Self::Exists { .. }) => {
                Verdict::Stalled { reason, message }
            }
            other => other,
        }
    }
}

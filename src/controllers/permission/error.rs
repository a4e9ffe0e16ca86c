//! What can go wrong with a permission, and what that means for the next attempt.

use crate::application::model::FieldError;
use crate::controllers::host_error::HostError;
use crate::machinery::error::{Class, Classified};
use crate::runtime::apply::ApplyError;
use crate::runtime::instance_ref::InstanceRefError;
use crate::runtime::planes::cache::CacheError;

/// Why a binding as a whole cannot be carried out.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// A field of the spec cannot be carried out.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// No instance is meant.
    #[error(
        "spec.scope.instances: no KarmadaInstance of namespace {namespace} matches, or none that allows this namespace"
    )]
    NoInstance {
        /// Where it was looked for.
        namespace: String,
    },
    /// Some of the instances failed; the others are served.
    #[error("{message}")]
    Instances {
        /// What to do.
        class: Class,
        /// Reason of the first failure.
        reason: &'static str,
        /// The first failure, and how many more there are.
        message: String,
    },
    /// A request to the host cluster failed.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Invalid(_) => Class::Invalid,
            Self::NoInstance { .. } => Class::Blocked,
            Self::Instances { class, .. } => *class,
            Self::Host(error) => error.class(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "InvalidSpec",
            Self::NoInstance { .. } => "InstanceNotSelected",
            Self::Instances { reason, .. } => reason,
            Self::Host(error) => error.reason(),
        }
    }
}

/// Why one instance is not served. The others do not mind.
#[derive(thiserror::Error, Debug)]
pub enum InstanceError {
    /// It, or its plane, cannot be used.
    #[error(transparent)]
    Instance(#[from] InstanceRefError),
    /// It is of another namespace, and more than its namesake is asked for.
    #[error(
        "KarmadaInstance {instance} is of another namespace, so only its namespace {namespace:?} may be bound: spec.scope.namespaces must be [{namespace}]"
    )]
    Elsewhere {
        /// Namespace and name.
        instance: String,
        /// The only namespace that may be bound.
        namespace: String,
    },
    /// Its plane cannot be read.
    #[error("read {what} in the plane")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// The failure.
        #[source]
        source: kube::Error,
    },
    /// What its plane holds is not known.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Its plane cannot be written.
    #[error("write in the plane")]
    Write(#[source] ApplyError),
    /// Its plane takes connections, and does not answer.
    #[error("plane did not answer within {0} s")]
    Silent(u64),
    /// An object cannot be put into JSON.
    #[error("serialize an object")]
    Serialize(#[source] serde_json::Error),
}

impl Classified for InstanceError {
    fn class(&self) -> Class {
        match self {
            Self::Instance(error) => error.class(),
            Self::Cache(error) => error.class(),
            Self::Elsewhere { .. } => Class::Blocked,
            Self::Read { .. } | Self::Write(_) | Self::Silent(_) | Self::Serialize(_) => Class::Retry,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Instance(error) => error.reason(),
            Self::Elsewhere { .. } => "NamespaceNotAllowed",
            Self::Read { .. } | Self::Silent(_) => "PlaneUnreachable",
            Self::Cache(error) => error.reason(),
            Self::Write(_) | Self::Serialize(_) => "PlaneWriteFailed",
        }
    }
}

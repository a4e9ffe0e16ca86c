//! What can go wrong with a permission, and what that means for the next attempt.

use crate::controllers::watch::Unreadable;
use crate::runtime::apply::ApplyError;
use crate::runtime::error::{Class, Classified};
use crate::runtime::planes::cache::CacheError;

/// Why a binding as a whole cannot be carried out.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// A field of the spec cannot be carried out.
    #[error("{field}: {value:?} {remedy}")]
    Spec {
        /// Path of the field.
        field: String,
        /// Its value.
        value: String,
        /// What is wrong with it, and what to do.
        remedy: &'static str,
    },
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
    /// Something could not be written in the host cluster.
    #[error("{what}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The failure.
        #[source]
        source: kube::Error,
    },
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Spec { .. } => Class::Invalid,
            Self::NoInstance { .. } => Class::Blocked,
            Self::Instances { class, .. } => *class,
            Self::Host { .. } => Class::Retry,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Spec { .. } => "InvalidSpec",
            Self::NoInstance { .. } => "NoInstance",
            Self::Instances { reason, .. } => reason,
            Self::Host { .. } => "HostWriteFailed",
        }
    }
}

/// Why one instance is not served. The others do not mind.
#[derive(thiserror::Error, Debug)]
pub enum InstanceError {
    /// It does not exist.
    #[error("KarmadaInstance {0} does not exist")]
    Missing(String),
    /// It is there, and says what this version does not know.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It is of another namespace, and does not allow this one.
    #[error(
        "KarmadaInstance {instance} does not allow namespace {namespace}: its owner must add it to spec.tenancy.allowedNamespaces"
    )]
    NotAllowed {
        /// Namespace and name.
        instance: String,
        /// The namespace that is not listed.
        namespace: String,
    },
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
    /// Its plane is not there yet.
    #[error("KarmadaInstance {instance} is not ready: {message}")]
    NotReady {
        /// Namespace and name.
        instance: String,
        /// What it says of itself.
        message: String,
    },
    /// It is ready, and its plane is about to be connected.
    #[error("connecting to the plane of KarmadaInstance {0}")]
    Connecting(String),
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
            Self::Missing(_)
            | Self::Unreadable(_)
            | Self::NotAllowed { .. }
            | Self::Elsewhere { .. }
            | Self::NotReady { .. } => Class::Blocked,
            Self::Cache(error) => error.class(),
            Self::Connecting(_) | Self::Read { .. } | Self::Write(_) | Self::Silent(_) | Self::Serialize(_) => {
                Class::Retry
            }
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "InstanceMissing",
            Self::Unreadable(_) => "InstanceUnreadable",
            Self::NotAllowed { .. } | Self::Elsewhere { .. } => "NotAllowed",
            Self::NotReady { .. } | Self::Connecting(_) => "InstanceNotReady",
            Self::Read { .. } | Self::Silent(_) => "PlaneUnreachable",
            Self::Cache(error) => error.reason(),
            Self::Write(_) | Self::Serialize(_) => "PlaneWriteFailed",
        }
    }
}

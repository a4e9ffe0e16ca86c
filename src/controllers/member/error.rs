//! What can go wrong with a membership, and what that means for the next attempt.

use crate::application::model::FieldError;
use crate::controllers::host_error::HostError;
use crate::machinery::error::{Class, Classified};
use crate::runtime::apply::ApplyError;
use crate::runtime::client::ClientError;
use crate::runtime::instance_ref::InstanceRefError;
use crate::runtime::kubeconfig::KubeconfigError;
use crate::runtime::planes::cache::CacheError;

/// Why a member is not joined, or not gone.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// A field of the spec cannot be carried out.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// The referenced Secret does not exist.
    #[error(
        "spec.kubeconfigSecretRef: Secret {name:?} does not exist in namespace {namespace}: create it with a kubeconfig under the key {key:?}"
    )]
    SecretMissing {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// Key that is looked for.
        key: String,
    },
    /// The referenced Secret lacks the key.
    #[error("spec.kubeconfigSecretRef: Secret {name:?} has no key {key:?}: add it, or name another key")]
    KeyMissing {
        /// Name of the Secret.
        name: String,
        /// Key that is looked for.
        key: String,
    },
    /// The kubeconfig is not one that may be used.
    #[error("Secret {secret:?}")]
    Kubeconfig {
        /// Name of the Secret.
        secret: String,
        /// Field and remedy.
        #[source]
        source: KubeconfigError,
    },
    /// Its certificates do not make a client.
    #[error("Secret {secret:?}")]
    Client {
        /// Name of the Secret.
        secret: String,
        /// What is wrong.
        #[source]
        source: ClientError,
    },
    /// The instance, or its plane, cannot be used.
    #[error(transparent)]
    Instance(#[from] InstanceRefError),
    /// The instance is going.
    #[error("KarmadaInstance {instance} is being deleted: nothing joins it any more")]
    InstanceDeleting {
        /// Namespace and name.
        instance: String,
    },
    /// The plane does not answer.
    #[error("plane of KarmadaInstance {instance} does not answer")]
    Plane {
        /// Namespace and name.
        instance: String,
        /// The failure.
        #[source]
        source: kube::Error,
    },
    /// What the plane holds is not known.
    #[error("KarmadaInstance {instance}")]
    PlaneCache {
        /// Namespace and name.
        instance: String,
        /// The failure.
        #[source]
        source: CacheError,
    },
    /// The name is another's.
    #[error(
        "spec.clusterName: {name:?} is taken in KarmadaInstance {instance} by {holder}: choose another name, or delete that one"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Namespace and name of the instance.
        instance: String,
        /// Who has it.
        holder: String,
    },
    /// The same cluster is a member already.
    #[error(
        "the kubeconfig leads to cluster {id}, which is joined to KarmadaInstance {instance} as {other:?} already: delete one of the two"
    )]
    AlreadyJoined {
        /// Identity of the cluster.
        id: String,
        /// Namespace and name of the instance.
        instance: String,
        /// Name under which it is joined.
        other: String,
    },
    /// The kubeconfig leads elsewhere than before.
    #[error(
        "the kubeconfig leads to cluster {found}, but {expected} was joined under this name: restore the kubeconfig, or delete this object and create another"
    )]
    AnotherCluster {
        /// Identity that was joined.
        expected: String,
        /// Identity that the kubeconfig leads to.
        found: String,
    },
    /// The member does not answer.
    #[error("member at {endpoint} cannot be reached")]
    MemberUnreachable {
        /// Its address.
        endpoint: String,
        /// The failure.
        #[source]
        source: kube::Error,
    },
    /// The member takes the connection, and does not answer.
    #[error("member at {endpoint} did not answer within {seconds} s")]
    MemberSilent {
        /// Its address.
        endpoint: String,
        /// How long it was given.
        seconds: u64,
    },
    /// The member does not accept the credentials, or they may not do what is needed.
    #[error("member at {endpoint} refuses the credentials of Secret {secret:?}, which need administrator's rights")]
    CredentialsRefused {
        /// Its address.
        endpoint: String,
        /// Name of the Secret.
        secret: String,
        /// The answer.
        #[source]
        source: kube::Error,
    },
    /// The namespace of Airdock's identity in the member is being deleted; it is made again once it is gone.
    #[error("namespace karmada-cluster of the member is being deleted")]
    MemberNamespaceEnding,
    /// Something could not be written in the member.
    #[error("write Airdock's identity in the member")]
    MemberWrite(#[source] ApplyError),
    /// Something could not be written in the plane.
    #[error("register the member in the plane")]
    PlaneWrite(#[source] ApplyError),
    /// A request to the host cluster failed.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Invalid(_) | Self::Kubeconfig { .. } | Self::Client { .. } | Self::AnotherCluster { .. } => {
                Class::Invalid
            }
            Self::SecretMissing { .. }
            | Self::KeyMissing { .. }
            | Self::InstanceDeleting { .. }
            | Self::NameTaken { .. }
            | Self::AlreadyJoined { .. } => Class::Blocked,
            Self::PlaneWrite(source) if source.is_invalid() => Class::Invalid,
            Self::Instance(error) => error.class(),
            Self::Plane { .. }
            | Self::PlaneCache { .. }
            | Self::MemberSilent { .. }
            | Self::MemberUnreachable { .. }
            | Self::CredentialsRefused { .. }
            | Self::MemberNamespaceEnding
            | Self::MemberWrite(_)
            | Self::PlaneWrite(_) => Class::Retry,
            Self::Host(error) => error.class(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "InvalidSpec",
            Self::SecretMissing { .. } | Self::KeyMissing { .. } => "SecretMissing",
            Self::Kubeconfig { .. } | Self::Client { .. } => "InvalidKubeconfig",
            Self::Instance(error) => error.reason(),
            Self::InstanceDeleting { .. } => "InstanceDeleting",
            Self::Plane { .. } => "PlaneUnreachable",
            Self::PlaneCache { source, .. } => source.reason(),
            Self::NameTaken { .. } => "NameTaken",
            Self::AlreadyJoined { .. } => "AlreadyJoined",
            Self::AnotherCluster { .. } => "AnotherCluster",
            Self::MemberUnreachable { .. } | Self::MemberSilent { .. } => "MemberUnreachable",
            Self::CredentialsRefused { .. } => "CredentialsRefused",
            Self::MemberNamespaceEnding => "AwaitingNamespace",
            Self::MemberWrite(_) => "MemberWriteFailed",
            Self::PlaneWrite(_) => "PlaneWriteFailed",
            Self::Host(error) => error.reason(),
        }
    }
}

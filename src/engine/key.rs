//! Names of things.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::karmada::{Cluster, names};
use crate::machinery::names::group;

/// Defines types for texts that must not be taken for one another. Copies share one text.
macro_rules! shared_text {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: Into<Arc<str>>> From<T> for $name {
            fn from(text: T) -> Self {
                Self(text.into())
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        // Maps are looked up by what other objects name.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                *self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

shared_text! {
    /// Name of a member cluster: that of its Cluster in the plane.
    ClusterName;
    /// Name of a namespace.
    NamespaceName;
    /// Uid of an object, which no other object of its name has.
    Uid;
    /// Identity of a plane: the uid of its namespace kube-system.
    PlaneId;
}

impl ClusterName {
    /// The name of a cluster.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        cluster.metadata.name.as_deref().unwrap_or_default().into()
    }
}

impl Uid {
    /// The uid of an object; empty when it has none.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        metadata.uid.as_deref().unwrap_or_default().into()
    }
}

/// A kind by API version and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindKey {
    /// API version, for example `apps/v1`.
    pub api_version: String,
    /// Kind, for example `Deployment`.
    pub kind: String,
}

impl KindKey {
    /// A kind.
    #[must_use]
    pub fn new(api_version: &str, kind: &str) -> Arc<Self> {
        Arc::new(Self { api_version: api_version.to_owned(), kind: kind.to_owned() })
    }

    /// Its group; empty for the core group.
    #[must_use]
    pub fn group(&self) -> &str {
        group(&self.api_version)
    }

    /// Whether it is another version of the same kind: the same objects, served once more.
    #[must_use]
    pub fn is_other_version_of(&self, other: &Self) -> bool {
        self.kind == other.kind && self.api_version != other.api_version && self.group() == other.group()
    }

    /// Whether it is `v1` `Namespace`.
    #[must_use]
    pub fn is_namespace(&self) -> bool {
        self.api_version == "v1" && self.kind == "Namespace"
    }
}

impl fmt::Display for KindKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version, self.kind)
    }
}

/// An object, the same in the plane and in every member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Arc<KindKey>,
    /// Its namespace; nothing for cluster-scoped kinds.
    pub namespace: Option<NamespaceName>,
    /// Its name.
    pub name: String,
}

/// A shared [`ObjectKey`].
pub type Key = Arc<ObjectKey>;

impl ObjectKey {
    /// The key of an object of a kind.
    #[must_use]
    pub fn of(kind: &Arc<KindKey>, object: &Value) -> Key {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        Arc::new(Self {
            kind: kind.clone(),
            namespace: text("/metadata/namespace").map(NamespaceName::from),
            name: text("/metadata/name").unwrap_or_default().to_owned(),
        })
    }

    /// Key of a namespace.
    #[must_use]
    pub fn of_namespace(name: &str) -> Key {
        Arc::new(Self { kind: KindKey::new("v1", "Namespace"), namespace: None, name: name.to_owned() })
    }

    /// Name of the object's binding.
    #[must_use]
    pub fn binding_name(&self) -> String {
        names::binding_name(&self.kind.kind, &self.name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.kind, self.name),
            None => write!(f, "{} {}", self.kind.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let is = |a: &str, b: &str| KindKey::new(a, "K").is_other_version_of(&KindKey::new(b, "K"));
        assert!(is("autoscaling/v1", "autoscaling/v2"));
        assert!(!is("autoscaling/v2", "autoscaling/v2") && !is("other/v1", "autoscaling/v2") && !is("v1", "apps/v1"));
        assert!(!KindKey::new("apps/v1", "K").is_other_version_of(&KindKey::new("apps/v2", "L")));
    }
}

//! Names of things.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::karmada::names;

/// A member cluster by name.
pub type ClusterName = Arc<str>;

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

    /// Whether it is another version of the same kind: the same objects, served once more.
    #[must_use]
    pub fn is_other_version_of(&self, other: &Self) -> bool {
        let group = |api_version: &str| api_version.rsplit_once('/').map(|(group, _)| group.to_owned());
        self.kind == other.kind
            && self.api_version != other.api_version
            && group(&self.api_version) == group(&other.api_version)
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
    pub namespace: Option<String>,
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
            namespace: text("/metadata/namespace").map(str::to_owned),
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

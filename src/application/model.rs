//! What an application consists of, between its spec and its plane.

use std::collections::BTreeMap;
use std::fmt;

use kube::ResourceExt;
use serde_json::Value;

use crate::api::app::{Difference, InventoryEntry, MultiCloudApp};
use crate::karmada::policy::ResourceSelector;
use crate::karmada::{OverridePolicy, PropagationPolicy};
use crate::machinery::names;

/// How many field errors of a spec are shown at once.
const FIELD_ERRORS_SHOWN: usize = 5;

/// A namespace of the host cluster. The application's namespace in its plane may have another name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNamespace(String);

impl HostNamespace {
    /// The namespace of an application's object.
    #[must_use]
    pub fn of(app: &MultiCloudApp) -> Self {
        Self(app.namespace().unwrap_or_default())
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An application whose spec can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    /// Name of the `MultiCloudApp`.
    pub name: String,
    /// Namespace of the `MultiCloudApp`, in the host cluster.
    pub host_namespace: HostNamespace,
    /// Namespace of the application in the plane and the members.
    pub namespace: String,
    /// Its objects, in the order in which they were given.
    pub templates: Vec<Template>,
}

impl Application {
    /// An application by its names alone, whatever its spec says: enough to find what it has in its plane.
    #[must_use]
    pub fn without_templates(app: &MultiCloudApp) -> Self {
        let host_namespace = HostNamespace::of(app);
        Self {
            name: app.name_any(),
            namespace: app.spec.namespace.clone().unwrap_or_else(|| host_namespace.to_string()),
            host_namespace,
            templates: Vec::new(),
        }
    }
}

/// One object of an application.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The component that it belongs to.
    pub component: String,
    /// Its API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The object as it goes into the plane: with namespace and labels, without what a server fills in.
    pub object: Value,
}

impl Template {
    /// What names it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { api_version: self.api_version.clone(), kind: self.kind.clone(), name: self.name.clone() }
    }

    /// Whether a difference is for its component.
    #[must_use]
    pub fn is_meant_by(&self, difference: &Difference) -> bool {
        difference.components.is_empty() || difference.components.contains(&self.component)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// An object of an application's namespace by what names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// API version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl Identity {
    fn group(&self) -> &str {
        names::group(&self.api_version)
    }

    /// Whether it is the same object, in whichever version.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.group() == other.group() && self.kind == other.kind && self.name == other.name
    }
}

impl From<&InventoryEntry> for Identity {
    fn from(entry: &InventoryEntry) -> Self {
        Self { api_version: entry.api_version.clone(), kind: entry.kind.clone(), name: entry.name.clone() }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A field of a spec that cannot be carried out.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The field, as a path from the top of the object.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl FieldError {
    /// An error of a field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// An error of a field's value: the remedy says what is wrong with it, and what to do.
    pub fn of_value(field: impl Into<String>, value: &str, remedy: &str) -> Self {
        Self::new(field, format!("{value:?} {remedy}"))
    }
}

/// Field errors as one text: the first few, and how many more there are.
#[must_use]
pub fn render_field_errors(errors: &[FieldError]) -> String {
    let mut text = errors.iter().take(FIELD_ERRORS_SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if errors.len() > FIELD_ERRORS_SHOWN {
        text.push_str(&format!("; and {} more", errors.len() - FIELD_ERRORS_SHOWN));
    }
    text
}

/// Whose instance an application uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenancy {
    /// The instance is of the application's own namespace.
    Owner,
    /// The instance is of another namespace, which consents.
    CrossNamespace,
}

impl Tenancy {
    /// Whose instance it is, by the namespaces of the instance and of the application.
    #[must_use]
    pub fn of(instance_namespace: &str, app_namespace: &str) -> Self {
        if instance_namespace == app_namespace { Self::Owner } else { Self::CrossNamespace }
    }
}

/// What a plane serves of the kinds that an application uses, by API version and kind: whether each is namespaced, or
/// nothing when it is not served.
pub type Served = BTreeMap<(String, String), Option<bool>>;

/// What an application needs in its plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its namespace; made when it is missing.
    pub namespace: Value,
    /// What differs where, one policy for each template that differs anywhere.
    pub overrides: Vec<OverridePolicy>,
    /// Where the templates go.
    pub propagation: PropagationPolicy,
    /// The objects themselves.
    pub templates: Vec<Template>,
}

impl Plan {
    /// The plan, with objects still placed that are not wanted any more. They are deleted only when the new ones are
    /// there, and must not be dropped from the clusters before.
    #[must_use]
    pub fn keeping<'a>(mut self, stale: impl IntoIterator<Item = &'a Identity>) -> Self {
        let namespace = self.propagation.metadata.namespace.clone();
        let selectors = &mut self.propagation.spec.propagation.resource_selectors;
        selectors.extend(stale.into_iter().map(|identity| ResourceSelector {
            api_version: identity.api_version.clone(),
            kind: identity.kind.clone(),
            namespace: namespace.clone(),
            name: Some(identity.name.clone()),
            label_selector: None,
        }));
        self
    }
}

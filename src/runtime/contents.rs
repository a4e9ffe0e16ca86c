//! What a namespace holds beside what every cluster puts there, for whoever is about to delete it. IO, no writes.
//!
//! A namespace takes along all that is in it, of every kind. So all namespaced kinds are listed, as metadata, and what
//! cannot be listed counts as not known.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, PartialObjectMeta};
use kube::core::ApiResource;
use kube::core::discovery::v2::APIGroupDiscoveryList;

use crate::machinery::names;

use super::guarded::{Guarded, PAGE};

/// How many kinds are listed at once.
const CONCURRENT_LISTS: usize = 8;

/// What stands against deleting a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Nothing.
    Empty,
    /// Objects of the asker's own, such as this one, and no others.
    Own(String),
    /// An object that is not the asker's.
    Holds(String),
    /// It is not known what is in it, and why.
    Unknown(String),
}

/// Looks into a namespace; `is_own` tells which objects are the asker's. Not counted are those that are being deleted, that go
/// with an object of the same namespace, or that every cluster puts into each namespace.
///
/// # Errors
/// The API server refused, or did not answer.
pub async fn contents(
    client: &Client,
    namespace: &str,
    is_own: impl Fn(&ApiResource, &ObjectMeta) -> bool,
) -> Result<Contents, kube::Error> {
    let (core, groups) =
        tokio::try_join!(client.list_core_api_versions_aggregated(), client.list_api_groups_aggregated())?;
    let kinds = Kinds::of([core, groups]);
    if let Some(stale) = kinds.stale.first() {
        return Ok(Contents::Unknown(format!("the kinds of {stale} are not known, as its server does not answer")));
    }
    let looks: Vec<_> =
        kinds.listed.iter().map(|resource| of_kind(client, resource, namespace, &kinds, &is_own)).collect();
    let mut looks = futures::stream::iter(looks).buffer_unordered(CONCURRENT_LISTS);
    let mut contents = Contents::Empty;
    while let Some(found) = looks.try_next().await? {
        match found {
            Contents::Empty => {}
            Contents::Own(_) => contents = found,
            Contents::Holds(_) | Contents::Unknown(_) => return Ok(found),
        }
    }
    Ok(contents)
}

/// What is in a namespace of one kind.
async fn of_kind(
    client: &Client,
    resource: &ApiResource,
    namespace: &str,
    kinds: &Kinds,
    is_own: &impl Fn(&ApiResource, &ObjectMeta) -> bool,
) -> Result<Contents, kube::Error> {
    let mut contents = Contents::Empty;
    let api = Api::<Guarded<PartialObjectMeta<DynamicObject>>>::namespaced_with(client.clone(), namespace, resource);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&params).await {
            Ok(page) => page,
            // Its definition went meanwhile.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => return Ok(Contents::Empty),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 410 | 500 | 503) => {
                return Ok(Contents::Unknown(format!("{} cannot be listed: {}", resource.kind, status.message)));
            }
            Err(error) => return Err(error),
        };
        for object in &page.items {
            let metadata = kube::Resource::meta(object);
            if !kinds.counts(resource, metadata) {
                continue;
            }
            let name = format!("{} {namespace}/{}", resource.kind, metadata.name.as_deref().unwrap_or_default());
            if !is_own(resource, metadata) {
                return Ok(Contents::Holds(name));
            }
            contents = Contents::Own(name);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(contents),
        }
    }
}

/// The namespaced kinds of a cluster.
#[derive(Debug, Default)]
struct Kinds {
    /// Those that can be listed and deleted, each in one version.
    listed: Vec<ApiResource>,
    /// All of them, by group and kind.
    known: BTreeSet<(String, String)>,
    /// Groups that did not tell.
    stale: Vec<String>,
}

impl Kinds {
    fn of(lists: impl IntoIterator<Item = APIGroupDiscoveryList>) -> Self {
        let mut kinds = Self::default();
        for group in lists.into_iter().flat_map(|list| list.items) {
            let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
            for version in group.versions {
                let number = version.version.unwrap_or_default();
                let api_version = if name.is_empty() { number.clone() } else { format!("{name}/{number}") };
                // Servers of metrics store nothing.
                if version.freshness.as_deref() == Some("Stale") && !name.ends_with("metrics.k8s.io") {
                    kinds.stale.push(api_version.clone());
                }
                for resource in version.resources {
                    let kind = resource.response_kind.and_then(|kind| kind.kind).unwrap_or_default();
                    let plural = resource.resource.unwrap_or_default();
                    if resource.scope.as_deref() != Some("Namespaced") || kind.is_empty() || plural.is_empty() {
                        continue;
                    }
                    let can = |verb: &str| resource.verbs.iter().any(|known| known == verb);
                    // The versions of a kind serve the same objects.
                    if kinds.known.insert((name.clone(), kind.clone())) && can("list") && can("delete") {
                        let (group, version, api_version) = (name.clone(), number.clone(), api_version.clone());
                        kinds.listed.push(ApiResource { group, version, api_version, kind, plural });
                    }
                }
            }
        }
        kinds
    }

    /// Whether an object stands against deleting its namespace.
    fn counts(&self, resource: &ApiResource, object: &ObjectMeta) -> bool {
        let name = object.name.as_deref().unwrap_or_default();
        let is_default = match (resource.group.as_str(), resource.kind.as_str()) {
            ("", "ConfigMap") => name == "kube-root-ca.crt",
            ("", "ServiceAccount") => name == "default",
            ("" | "events.k8s.io", "Event") => true,
            _ => false,
        };
        !is_default && object.deletion_timestamp.is_none() && !self.is_dependent(object)
    }

    /// Whether an object goes with another one of its namespace, which is looked at by itself: pods of a Deployment, for
    /// example, that are still ending.
    fn is_dependent(&self, object: &ObjectMeta) -> bool {
        let owners = object.owner_references.as_deref().unwrap_or_default();
        let is_namespaced = |api_version: &str, kind: &str| {
            let group = names::group(api_version);
            self.known.contains(&(group.to_owned(), kind.to_owned()))
        };
        !owners.is_empty() && owners.iter().all(|owner| is_namespaced(&owner.api_version, &owner.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn kinds(freshness: &str) -> Kinds {
        let kind = |plural: &str, kind: &str, scope: &str, verbs: &[&str]| json!({"resource": plural, "responseKind": {"group": "", "version": "", "kind": kind}, "scope": scope, "verbs": verbs});
        let all = ["list", "delete"];
        let list = |group: &str, versions: Value| {
            from_value(json!({"items": [{"metadata": {"name": group}, "versions": versions}]})).unwrap()
        };
        Kinds::of([
            list(
                "",
                json!([{"version": "v1", "resources": [
                    kind("configmaps", "ConfigMap", "Namespaced", &all), kind("nodes", "Node", "Cluster", &all),
                    kind("bindings", "Binding", "Namespaced", &["create"])]}]),
            ),
            list(
                "apps",
                json!([
                    {"version": "v1", "resources": [kind("replicasets", "ReplicaSet", "Namespaced", &all)]},
                    {"version": "v1beta1", "freshness": freshness, "resources": [kind("replicasets", "ReplicaSet", "Namespaced", &all)]}]),
            ),
            list("metrics.k8s.io", json!([{"version": "v1", "freshness": "Stale"}])),
        ])
    }

    #[test]
    fn each_namespaced_kind_is_listed_once() {
        let found = kinds("Current");
        let listed: Vec<_> = found.listed.iter().map(|r| format!("{} {}", r.api_version, r.plural)).collect();
        assert_eq!(listed, ["v1 configmaps", "apps/v1 replicasets"]);
        assert!(found.stale.is_empty(), "{:?}", found.stale);
        assert_eq!(kinds("Stale").stale, ["apps/v1beta1"]);
    }

    #[test]
    fn what_stands_against_deleting_a_namespace() {
        let resource = |group: &str, kind: &str| ApiResource {
            group: group.into(),
            version: "v1".into(),
            api_version: String::new(),
            kind: kind.into(),
            plural: String::new(),
        };
        let owner =
            |api_version: &str, kind: &str| json!({"apiVersion": api_version, "kind": kind, "name": "o", "uid": "u"});
        for (case, group, kind, object, counts) in [
            ("somebody's", "", "ConfigMap", json!({"name": "theirs"}), true),
            ("every cluster's", "", "ConfigMap", json!({"name": "kube-root-ca.crt"}), false),
            ("every namespace's", "", "ServiceAccount", json!({"name": "default"}), false),
            ("somebody's account", "", "ServiceAccount", json!({"name": "builder"}), true),
            ("an event", "events.k8s.io", "Event", json!({"name": "e"}), false),
            ("ending", "", "Pod", json!({"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}), false),
            (
                "a Deployment's pod",
                "",
                "Pod",
                json!({"name": "p", "ownerReferences": [owner("apps/v1", "ReplicaSet")]}),
                false,
            ),
            ("a node's pod", "", "Pod", json!({"name": "p", "ownerReferences": [owner("v1", "Node")]}), true),
            (
                "of two owners",
                "",
                "Pod",
                json!({"name": "p", "ownerReferences": [owner("apps/v1", "ReplicaSet"), owner("x/v1", "Y")]}),
                true,
            ),
        ] {
            let object: ObjectMeta = from_value(object).unwrap();
            assert_eq!(kinds("Current").counts(&resource(group, kind), &object), counts, "{case}");
        }
    }
}

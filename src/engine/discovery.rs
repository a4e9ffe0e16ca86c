//! Which kinds a cluster serves.

use std::collections::HashMap;
use std::sync::Arc;

use kube::Client;
use kube::core::ApiResource;
use kube::core::discovery::v2::APIGroupDiscoveryList;

use super::key::KindKey;
use crate::karmada::cluster::{ApiEnablement, ApiResourceName};
use crate::machinery::names::group;

/// The kinds that a cluster serves.
#[derive(Debug, Default)]
pub struct Served {
    /// By kind: how it is requested, and whether it is namespaced.
    pub kinds: HashMap<Arc<KindKey>, (ApiResource, bool)>,
    /// The same as it is reported.
    pub enablements: Vec<ApiEnablement>,
    /// Groups that did not tell, because the server behind them does not answer.
    pub stale: Vec<String>,
}

impl Served {
    /// Whether a cluster is certain to have no objects of a kind: it serves no version of it, and its group tells.
    #[must_use]
    pub fn lacks(&self, kind: &KindKey) -> bool {
        !self.kinds.keys().any(|served| **served == *kind || served.is_other_version_of(kind))
            && !self.stale.iter().any(|stale| group(stale) == kind.group())
    }

    /// Those kinds that a cluster is certain to have no objects of.
    #[must_use]
    pub fn lacking(&self, kinds: &[Arc<KindKey>]) -> Vec<Arc<KindKey>> {
        kinds.iter().filter(|kind| self.lacks(kind)).cloned().collect()
    }
}

/// Asks a cluster which kinds it serves: two requests.
pub async fn discover(client: &Client) -> Result<Served, kube::Error> {
    let (core, groups) =
        tokio::try_join!(client.list_core_api_versions_aggregated(), client.list_api_groups_aggregated())?;
    Ok(served([core, groups]))
}

fn served(lists: impl IntoIterator<Item = APIGroupDiscoveryList>) -> Served {
    let mut served = Served::default();
    for group in lists.into_iter().flat_map(|list| list.items) {
        let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
        for version in group.versions {
            let number = version.version.unwrap_or_default();
            let api_version = if name.is_empty() { number.clone() } else { format!("{name}/{number}") };
            if version.freshness.as_deref() == Some("Stale") {
                served.stale.push(api_version.clone());
            }
            let mut resources = Vec::new();
            for resource in version.resources {
                let kind = resource.response_kind.and_then(|kind| kind.kind).unwrap_or_default();
                let plural = resource.resource.unwrap_or_default();
                if kind.is_empty() || plural.is_empty() {
                    continue;
                }
                resources.push(ApiResourceName { name: plural.clone(), kind: kind.clone() });
                let requested = ApiResource {
                    group: name.clone(),
                    version: number.clone(),
                    api_version: api_version.clone(),
                    kind: kind.clone(),
                    plural,
                };
                // Only kinds that can be watched and written are of use.
                let can = |verb: &str| resource.verbs.iter().any(|known| known == verb);
                if ["watch", "update", "patch"].into_iter().all(can) {
                    let namespaced = resource.scope.as_deref() == Some("Namespaced");
                    served.kinds.entry(KindKey::new(&api_version, &kind)).or_insert((requested, namespaced));
                }
            }
            resources.sort_by(|a, b| a.name.cmp(&b.name));
            served.enablements.push(ApiEnablement { group_version: api_version, resources });
        }
    }
    served.enablements.sort_by(|a, b| a.group_version.cmp(&b.group_version));
    served
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn kinds_and_groups() {
        let list: APIGroupDiscoveryList = from_value(json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
                {"resource": "deployments", "responseKind": {"group": "", "version": "", "kind": "Deployment"},
                 "scope": "Namespaced", "verbs": ["watch", "patch", "update", "create"]}]}]},
            {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1", "freshness": "Stale", "resources": [
                {"resource": "pods", "responseKind": {"group": "", "version": "", "kind": "PodMetrics"}, "scope": "Namespaced", "verbs": ["get"]}]}]}
        ]}))
        .unwrap();
        let served = served([list]);
        let (resource, namespaced) = &served.kinds[&KindKey::new("apps/v1", "Deployment")];
        assert_eq!((resource.plural.as_str(), *namespaced), ("deployments", true));
        assert_eq!(served.kinds.len(), 1);
        assert_eq!(served.stale, ["metrics.k8s.io/v1"]);
        assert_eq!(served.enablements[1].resources[0].kind, "PodMetrics");
        for (api_version, kind, lacks) in [
            ("apps/v1", "Deployment", false),
            ("apps/v1beta1", "Deployment", false),
            ("apps/v1", "StatefulSet", true),
            ("example.io/v1", "Deployment", true),
            ("v1", "Deployment", true),
            ("metrics.k8s.io/v1beta1", "NodeMetrics", false),
        ] {
            assert_eq!(served.lacks(&KindKey::new(api_version, kind)), lacks, "{api_version} {kind}");
        }
    }
}

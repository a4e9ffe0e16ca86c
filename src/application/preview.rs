//! Where an app would land, and what each cluster would get: the plan of the controller, carried out by the
//! engine's own functions, with no cluster at all. Pure.

use serde::Serialize;
use serde_json::Value;

use crate::api::app::{Difference, MultiCloudApp};
use crate::distribute::{Rules, distribute};
use crate::interpret;
use crate::karmada::Cluster;
use crate::machinery::plural::pluralize;
use crate::overrides::Override;
use crate::placement::{self, ClusterView, affinity_mismatch};

use super::affinity::selects;
use super::left_out::why_left_out;
use super::model::{Application, FieldError, Plan, Template};
use super::plan::plan;
use super::selectors::{UnmatchedSelector, unmatched};
use super::workload;

/// What would become of an app.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Name of the app.
    pub app: String,
    /// Its namespace in the plane and the members.
    pub namespace: String,
    /// The clusters that get something of it, by name.
    pub clusters: Vec<Place>,
    /// What does not go to a cluster, and why.
    pub left_out: Vec<LeftOut>,
    /// Entries of selectors that select no cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<UnmatchedSelector>,
}

/// What one cluster would get.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Name of the cluster.
    pub name: String,
    /// Who runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Its region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The objects, in the order of the spec.
    pub objects: Vec<Object>,
}

/// An object as a cluster would get it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// The component that it belongs to.
    pub component: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its replicas there, when it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i64>,
    /// What differs there, in a few words each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// The object.
    pub manifest: Value,
}

/// What does not go to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Name of the cluster.
    pub cluster: String,
    /// Kind and name of the object; absent when none of the app goes there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Why not.
    pub why: String,
}

/// Plans an app for some clusters, and carries the plan out on paper.
///
/// # Errors
/// What cannot be carried out in these clusters.
pub fn preview(
    app: &MultiCloudApp,
    application: &Application,
    clusters: &[Cluster],
) -> Result<(Plan, Preview), FieldError> {
    let plan = plan(app, application, clusters)?;
    let views: Vec<ClusterView> = clusters.iter().map(view).collect();
    let overrides: Vec<Override<'_>> = plan.overrides.iter().map(Override::from).collect();
    let policies = [placement::Policy::from(&plan.propagation)];
    let rules = Rules { policies: &policies, overrides: &overrides, clusters: &views };
    let mut places: Vec<Place> = Vec::new();
    let mut left_out: Vec<LeftOut> = Vec::new();
    for template in &plan.templates {
        let Some(distribution) = distribute(&template.object, &rules, &[]) else { continue };
        for (name, manifest) in distribution.manifests {
            let manifest =
                manifest.map_err(|error| FieldError::new(format!("{template} in {name}"), error.to_string()))?;
            let Some(cluster) = clusters.iter().find(|cluster| cluster.metadata.name.as_ref() == Some(&name)) else {
                continue;
            };
            let object = Object {
                component: template.component.clone(),
                kind: template.kind.clone(),
                name: template.name.clone(),
                replicas: interpret::replicas(&manifest),
                differences: render_differences(app, template, cluster),
                manifest,
            };
            match places.iter_mut().find(|place| place.name == name) {
                Some(place) => place.objects.push(object),
                None => places.push(Place {
                    name,
                    provider: cluster.spec.provider.clone(),
                    region: cluster.spec.region.clone(),
                    objects: vec![object],
                }),
            }
        }
        left_out.extend(distribution.binding.excluded.into_iter().map(|excluded| LeftOut {
            why: not_selected(&plan, &views, &excluded.cluster).unwrap_or(excluded.why),
            cluster: excluded.cluster,
            object: Some(template.to_string()),
        }));
    }
    places.sort_by(|a, b| a.name.cmp(&b.name));
    let preview = Preview {
        app: application.name.clone(),
        namespace: application.namespace.clone(),
        left_out: summed(left_out, &places),
        clusters: places,
        unmatched: unmatched(app, clusters),
    };
    Ok((plan, preview))
}

/// Why the placement does not select a cluster.
fn not_selected(plan: &Plan, clusters: &[ClusterView], name: &str) -> Option<String> {
    let affinity = plan.propagation.spec.propagation.placement.cluster_affinity.as_ref()?;
    let cluster = clusters.iter().find(|cluster| cluster.name == name)?;
    affinity_mismatch(affinity, cluster).map(|mismatch| why_left_out(&mismatch, cluster))
}

/// A cluster without a status is one that is to join: taken for ready.
fn view(cluster: &Cluster) -> ClusterView {
    let mut view = ClusterView::of_cluster(cluster);
    if cluster.status.is_none() {
        view.health = placement::Health::Ready;
    }
    view
}

/// A cluster that gets nothing at all is named once.
fn summed(left_out: Vec<LeftOut>, places: &[Place]) -> Vec<LeftOut> {
    let mut summed: Vec<LeftOut> = Vec::new();
    for mut left in left_out {
        if !places.iter().any(|place| place.name == left.cluster) {
            left.object = None;
        }
        if !summed.contains(&left) {
            summed.push(left);
        }
    }
    summed.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    summed
}

fn render_differences(app: &MultiCloudApp, template: &Template, cluster: &Cluster) -> Vec<String> {
    let mut texts = Vec::new();
    let matching = app.spec.differences.iter().filter(|difference| selects(&difference.matches, cluster));
    for difference in matching.filter(|difference| template.is_meant_by(difference)) {
        let Difference { matches: _, components: _, image_registry, replicas, env, patches } = difference;
        if workload::pod_spec(&template.api_version, &template.kind).is_some() {
            texts.extend(image_registry.as_ref().map(|registry| format!("images from {registry}")));
            if !env.is_empty() {
                texts.push(format!("env {}", env.keys().cloned().collect::<Vec<_>>().join(" ")));
            }
        }
        if workload::has_replicas(&template.api_version, &template.kind) {
            texts.extend(replicas.map(render_replicas));
        }
        let mine = patches.iter().filter(|patch| patch.kind == template.kind && patch.name == template.name);
        let paths: Vec<&str> = mine.flat_map(|patch| &patch.operations).map(|o| o.path.as_str()).collect();
        if !paths.is_empty() {
            texts.push(format!("patched {}", paths.join(" ")));
        }
    }
    texts
}

fn render_replicas(replicas: i32) -> String {
    pluralize(replicas, "replica", "replicas")
}

/// What differs for an app in a cluster, all its objects together, in a few words each.
#[must_use]
pub fn differences_in(app: &MultiCloudApp, cluster: &Cluster) -> Vec<String> {
    let mut texts = Vec::new();
    for difference in app.spec.differences.iter().filter(|difference| selects(&difference.matches, cluster)) {
        let Difference { matches: _, components, image_registry, replicas, env, patches } = difference;
        let of = if components.is_empty() { String::new() } else { format!("{}: ", components.join(" ")) };
        texts.extend(image_registry.as_ref().map(|registry| format!("{of}images from {registry}")));
        texts.extend(replicas.map(|replicas| format!("{of}{}", render_replicas(replicas))));
        if !env.is_empty() {
            texts.push(format!("{of}env {}", env.keys().cloned().collect::<Vec<_>>().join(" ")));
        }
        texts.extend(patches.iter().map(|patch| format!("{} {} patched", patch.kind, patch.name)));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    use super::super::differences::in_cluster;
    use super::super::fixtures::{self, cluster};
    use super::super::model::Tenancy;
    use super::super::validate::validate;

    fn app(mode: Value, differences: Value) -> MultiCloudApp {
        let manifests = json!([
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
             "spec": {"replicas": 4, "template": {"spec": {
                "containers": [{"name": "c", "image": "nginx", "env": [{"name": "A", "value": "1"}]}]}}}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"k": "v"}},
        ]);
        fixtures::app(manifests, json!({"replicas": mode}), differences)
    }

    fn fleet() -> Vec<Cluster> {
        vec![
            cluster("us", json!({"region": "us"})),
            cluster("eu", json!({"region": "eu"})),
            cluster("lab", json!({"region": "eu", "taints": [{"key": "lab", "effect": "NoSchedule"}]})),
        ]
    }

    fn seen(app: &MultiCloudApp) -> Preview {
        preview(app, &validate(app, Tenancy::Owner).unwrap(), &fleet()).unwrap().1
    }

    #[test]
    fn the_engine_gives_each_cluster_what_the_differences_say() {
        let patch = json!([{"kind": "ConfigMap", "name": "conf", "operations": [{"op": "replace", "path": "/data/k", "value": "w"}]}]);
        let app = app(
            json!({}),
            json!([
                {"imageRegistry": "all.example/proxy", "env": {"B": "2"}},
                {"match": {"regions": ["eu"]}, "imageRegistry": "eu.example", "replicas": 1, "env": {"C": "3"}, "patches": patch},
            ]),
        );
        let preview = seen(&app);
        let application = validate(&app, Tenancy::Owner).unwrap();
        assert_eq!(preview.clusters.iter().map(|place| place.name.as_str()).collect::<Vec<_>>(), ["eu", "us"]);
        for place in &preview.clusters {
            let cluster = fleet().into_iter().find(|c| c.metadata.name.as_ref() == Some(&place.name)).unwrap();
            for (object, template) in place.objects.iter().zip(&application.templates) {
                let want = in_cluster(template, &app.spec.differences, &cluster).unwrap();
                assert_eq!(object.manifest, want, "{template} in {}", place.name);
            }
        }
        let eu = &preview.clusters[0].objects;
        assert_eq!(eu[0].replicas, Some(1));
        assert_eq!(
            eu[0].differences,
            ["images from all.example/proxy", "env B", "images from eu.example", "env C", "1 replica"]
        );
        assert_eq!(eu[1].differences, ["patched /data/k"]);
        assert_eq!(preview.left_out.len(), 1, "the tainted cluster is named once: {:?}", preview.left_out);
        assert_eq!((preview.left_out[0].cluster.as_str(), &preview.left_out[0].object), ("lab", &None));
    }

    #[test]
    fn replicas_are_divided() {
        let app = app(
            json!({"mode": "Weighted", "weights": [{"clusters": ["eu"], "weight": 3}, {"regions": ["us"], "weight": 1}]}),
            json!([]),
        );
        let replicas: Vec<_> =
            seen(&app).clusters.iter().map(|place| (place.name.clone(), place.objects[0].replicas)).collect();
        assert_eq!(replicas, [("eu".to_owned(), Some(3)), ("us".to_owned(), Some(1))]);
    }
}

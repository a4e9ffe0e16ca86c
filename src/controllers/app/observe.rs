//! Everything that an app has in its plane, as it is now. IO, no writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::Value;

use crate::api::app::{InventoryEntry, MultiCloudApp};
use crate::api::{APP_LABEL, APP_NAMESPACE_LABEL};
use crate::application::kinds::{check_served, missing_kind};
use crate::application::model::{Application, Identity, Served, Template};
use crate::application::plan::policy_name;
use crate::karmada::names::binding_name;
use crate::karmada::{Cluster, OverridePolicy, PropagationPolicy, ResourceBinding};
use crate::runtime::planes::cache::CacheError;

use super::error::Error;
use super::ownership::{Claims, Ownership};
use super::plane_client::{PlaneClient, each};

/// An object of an app, or the place where it will be.
#[derive(Clone, Debug)]
pub struct ObservedTemplate {
    /// What names it.
    pub identity: Identity,
    /// Where objects of its kind are.
    pub resource: ApiResource,
    /// The object, when it is there.
    pub object: Option<DynamicObject>,
    /// Where it was placed, when it was.
    pub binding: Option<ResourceBinding>,
    /// Why its binding, which is there, tells nothing.
    pub unreadable: Option<String>,
}

/// What a plane holds of an app.
#[derive(Debug)]
pub struct ObservedApp {
    /// The application, less what belongs to somebody else.
    pub application: Application,
    /// Why something was left out.
    pub refused: Option<Error>,
    /// The members.
    pub clusters: Vec<Cluster>,
    /// The app's namespace.
    pub namespace: Option<DynamicObject>,
    /// The app's policy.
    pub propagation: Option<DynamicObject>,
    /// The override policies that carry the app's labels.
    pub overrides: Vec<DynamicObject>,
    /// The templates of `application`, in its order.
    pub templates: Vec<ObservedTemplate>,
    /// Objects that the app had, and should have no more.
    pub stale: Vec<ObservedTemplate>,
    /// Objects of others that the app wants, or wanted when they were last seen: it may inherit them at any moment.
    pub awaited: Vec<Identity>,
}

/// Label selector for everything of an app.
#[must_use]
pub fn labels(app: &MultiCloudApp) -> String {
    format!("{APP_LABEL}={},{APP_NAMESPACE_LABEL}={}", app.name_any(), app.namespace().unwrap_or_default())
}

/// Where objects are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// In the cache; what is missing there, in the plane.
    Cache,
    /// In the plane: what is about to be let go must not be missed.
    Plane,
}

/// Reads what the plane holds of an app whose spec is in order.
pub async fn observe(
    plane_client: &Arc<PlaneClient>,
    claims: &Claims<'_>,
    application: Application,
) -> Result<ObservedApp, Error> {
    let application = &application;
    let served = served(plane_client, application).await?;
    check_served(application, &served)?;
    if let Some((api_version, kind)) = missing_kind(application, &served) {
        return Err(Error::KindNotServed { api_version: api_version.to_owned(), kind: kind.to_owned() });
    }
    let wanted: Vec<Identity> = application.templates.iter().map(Template::identity).collect();
    let namespace = &application.namespace;
    let policy = policy_name(application);
    let (namespaces, policies, overriding) =
        (resource::<Namespace>(), resource::<PropagationPolicy>(), resource::<OverridePolicy>());
    let is_own = |policy: &DynamicObject| policy.namespace().as_ref() == Some(namespace) && claims.is_ours(policy);
    plane_client.check().await?;
    let (clusters, live_namespace, propagation, overrides, templates) = tokio::try_join!(
        plane_client.find_typed::<Cluster>(),
        plane_client.find(&namespaces, None, namespace),
        plane_client.find(&policies, Some(namespace), &policy),
        plane_client.find_all(&overriding, is_own),
        read(plane_client, Source::Cache, namespace, wanted.clone()),
    )?;
    if let Some(policy) = &propagation {
        claims.check(policy)?;
    }
    let known = known(claims, propagation.as_ref());
    let past: Vec<Identity> =
        known.into_iter().filter(|identity| !wanted.iter().any(|wanted| wanted.same(identity))).collect();
    let mut stale = read(plane_client, Source::Plane, namespace, past).await?;
    let mut awaited = Vec::new();
    stale.retain(|live| match live.object.as_ref().map(|object| claims.ownership(object)) {
        Some(Ownership::Ours) => true,
        Some(Ownership::Theirs(..)) if claims.awaits(&live.identity) => {
            awaited.push(live.identity.clone());
            false
        }
        _ => false,
    });
    let mut observed = ObservedApp {
        application: Application { templates: Vec::new(), ..application.clone() },
        refused: None,
        clusters,
        namespace: live_namespace,
        propagation,
        overrides,
        templates: Vec::new(),
        stale,
        awaited,
    };
    // What belongs to somebody else is left out of everything, policies included.
    for (template, live) in application.templates.iter().zip(templates) {
        match live.object.as_ref().map_or(Ok(()), |object| claims.check(object)) {
            Ok(()) => {
                observed.application.templates.push(template.clone());
                observed.templates.push(live);
            }
            Err(error) => {
                if matches!(error, Error::Claimed { .. }) {
                    observed.awaited.push(template.identity());
                }
                observed.refused = observed.refused.or(Some(error));
            }
        }
    }
    Ok(observed)
}

/// Reads what the plane still holds of an app that is to go, whatever its spec says.
pub async fn remains(
    plane_client: &Arc<PlaneClient>,
    claims: &Claims<'_>,
    application: Application,
) -> Result<ObservedApp, Error> {
    let app = claims.app;
    let namespace = &application.namespace;
    let policy = policy_name(&application);
    let (policies, overriding, labels) = (resource::<PropagationPolicy>(), resource::<OverridePolicy>(), labels(app));
    let (propagation, mut overrides) = tokio::try_join!(
        plane_client.get(&policies, Some(namespace), &policy),
        plane_client.list(&overriding, namespace, &labels),
    )?;
    let propagation = propagation.filter(|policy| claims.is_ours(policy));
    overrides.retain(|policy| claims.is_ours(policy));
    let known = known(claims, propagation.as_ref()).into_iter().collect();
    let mut stale = read(plane_client, Source::Plane, namespace, known).await?;
    // What was another's is of no concern, unless it was inherited meanwhile.
    let is_ours = |live: &ObservedTemplate| live.object.as_ref().is_some_and(|object| claims.is_ours(object));
    stale.retain(|live| is_ours(live) || !claims.awaits(&live.identity));
    Ok(ObservedApp {
        refused: None,
        clusters: Vec::new(),
        namespace: None,
        propagation,
        overrides,
        templates: Vec::new(),
        stale,
        awaited: Vec::new(),
        application,
    })
}

async fn served(plane_client: &PlaneClient, application: &Application) -> Result<Served, Error> {
    let kinds: BTreeSet<(String, String)> =
        application.templates.iter().map(|t| (t.api_version.clone(), t.kind.clone())).collect();
    let looks = kinds.into_iter().map(|(api_version, kind)| async move {
        let served = plane_client.kind(&api_version, &kind).await?;
        Ok(((api_version, kind), served.map(|kind| kind.namespaced)))
    });
    Ok(each(looks.collect()).await?.into_iter().collect())
}

/// Reads objects and their bindings. Kinds that are not served have no objects. A binding that cannot be read, for what a
/// member put into its status, costs its own object no more than the status.
async fn read(
    plane_client: &PlaneClient,
    source: Source,
    namespace: &str,
    identities: Vec<Identity>,
) -> Result<Vec<ObservedTemplate>, Error> {
    let reads = identities.into_iter().map(|identity| async move {
        let mut kind = plane_client.kind(&identity.api_version, &identity.kind).await?;
        if kind.is_none() && source == Source::Plane {
            kind = plane_client.kind_otherwise(&identity.api_version, &identity.kind).await?;
        }
        let Some(kind) = kind else { return Ok(None) };
        let binding_name = binding_name(&identity.kind, &identity.name);
        let (resource, name) = (&kind.resource, &identity.name);
        let (object, binding) = match source {
            Source::Cache => tokio::try_join!(
                plane_client.find(resource, Some(namespace), name),
                unless_unreadable(plane_client.find_cached(namespace, &binding_name)),
            )?,
            Source::Plane => tokio::try_join!(
                plane_client.get(resource, Some(namespace), name),
                unless_unreadable(plane_client.get_typed(namespace, &binding_name)),
            )?,
        };
        let (binding, unreadable): (Option<ResourceBinding>, _) = match binding {
            Ok(binding) => (binding, None),
            Err(problem) => (None, Some(problem)),
        };
        let binding = binding.filter(|binding| {
            let of = &binding.spec.binding.resource;
            of.kind == identity.kind && of.name == identity.name
        });
        Ok(Some(ObservedTemplate { identity, resource: kind.resource, object, binding, unreadable }))
    });
    Ok(each(reads.collect()).await?.into_iter().flatten().collect())
}

/// What was found, or why it cannot be read.
async fn unless_unreadable<K>(
    found: impl Future<Output = Result<Option<K>, Error>>,
) -> Result<Result<Option<K>, String>, Error> {
    match found.await {
        Ok(found) => Ok(Ok(found)),
        Err(Error::Cache(error @ CacheError::Unreadable { .. })) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// The objects that an app is known to have had: those in its status, and those in its policy, which is written
/// before them and so names them even when the process was killed before the status was.
fn known(claims: &Claims<'_>, propagation: Option<&DynamicObject>) -> BTreeSet<Identity> {
    let listed = claims.inventory().iter().filter(|entry| !is_policy(entry)).map(Identity::from);
    let selectors = propagation
        .filter(|policy| claims.is_ours(policy))
        .and_then(|policy| policy.data.pointer("/spec/resourceSelectors"))
        .and_then(Value::as_array);
    let selected = selectors.into_iter().flatten().filter_map(|selector| {
        let text = |key: &str| selector.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Identity { api_version: text("apiVersion")?, kind: text("kind")?, name: text("name")? })
    });
    listed.chain(selected).collect()
}

fn is_policy(entry: &InventoryEntry) -> bool {
    entry.api_version.starts_with("policy.karmada.io/")
}

/// Where objects of a type of ours are.
#[must_use]
pub fn resource<K: kube::Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

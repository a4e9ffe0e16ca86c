//! Watches in the plane: clusters, policies, bindings, namespaces and credentials always; templates by kind, for as long
//! as a policy selects or a binding names the kind.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, ListParams};
use kube::core::ApiResource;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::discovery::discover;
use super::index::{DeletedObject, PolicyKey, Requeues};
use super::key::{ClusterName, Key, KindKey, ObjectKey};
use super::model::{Binding, Template, text, version};
use super::policy;
use super::schedule::binding_key;
use super::watch::{News, follow};
use super::{Credential, Engine};
use crate::karmada::{
    CLUSTER_NAMESPACE, Cluster, ClusterOverridePolicy, ClusterPropagationPolicy, ClusterResourceBinding,
    OverridePolicy, PropagationPolicy, ResourceBinding,
};
use crate::machinery::error::chain;
use crate::runtime::guarded::omitted;
use crate::runtime::metrics::KindLabel;
use crate::runtime::status::StatusWriter;

/// How long a kind is watched after its last use.
const LINGER: Duration = Duration::from_secs(60);

/// How soon a kind that is selected but not served is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Watches that must be complete before anything is decided.
pub(super) const MIRRORS: usize = 9;

/// Starts the watches that always run.
pub(super) fn start(engine: &Arc<Engine>, tasks: &mut JoinSet<()>) {
    let e = engine;
    tasks.spawn(clusters(e.clone()));
    tasks.spawn(policies::<PropagationPolicy>(e.clone(), true));
    tasks.spawn(policies::<ClusterPropagationPolicy>(e.clone(), false));
    tasks.spawn(overrides::<OverridePolicy>(e.clone(), true));
    tasks.spawn(overrides::<ClusterOverridePolicy>(e.clone(), false));
    tasks.spawn(bindings::<ResourceBinding>(e.clone(), true));
    tasks.spawn(bindings::<ClusterResourceBinding>(e.clone(), false));
    tasks.spawn(namespaces(e.clone()));
    tasks.spawn(credentials(e.clone()));
}

/// What a watch does with its objects.
struct Mirror<K> {
    /// What an object is known by; nothing for those that do not matter.
    key: fn(&Value) -> Option<K>,
    /// An object is there, or changed; the flag tells whether it was listed.
    put: Box<dyn Fn(K, Value, bool) + Send + Sync>,
    /// An object is gone; with its uid and version if the watch reported it.
    remove: Box<dyn Fn(&K, DeletedObject<'_>) + Send + Sync>,
    /// Everything that is known.
    known: Box<dyn Fn() -> Vec<K> + Send + Sync>,
}

async fn mirror<K>(engine: &Engine, resource: ApiResource, namespace: Option<&str>, mirror: Mirror<K>)
where
    K: Eq + Hash + Send,
{
    // What is not listed is gone, except what came into being since the list was asked for.
    let mut unseen: HashSet<K> = HashSet::new();
    let mut first = true;
    let kind = resource.kind.clone();
    let count = |object: &Value| {
        if let Some(problem) = omitted(object) {
            let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
            tracing::warn!(kind, namespace, name, problem, "object cannot be read");
            engine.unreadable.get_or_create(&KindLabel { kind: kind.clone() }).inc();
        }
    };
    follow(engine.rest.client().clone(), resource, namespace, None, |news| match news {
        News::Begin => unseen = (mirror.known)().into_iter().collect(),
        News::Listed(object) => {
            count(&object);
            if let Some(key) = (mirror.key)(&object) {
                unseen.remove(&key);
                (mirror.put)(key, object, true);
            }
        }
        News::Complete => {
            for key in unseen.drain() {
                (mirror.remove)(&key, None);
            }
            if std::mem::take(&mut first) {
                engine.mirrored();
            }
        }
        News::Changed(object) => {
            count(&object);
            if let Some(key) = (mirror.key)(&object) {
                (mirror.put)(key, object, false);
            }
        }
        News::Gone(object) => {
            if let Some(key) = (mirror.key)(&object) {
                (mirror.remove)(&key, Some((&text(&object, "/metadata/uid"), version(&object))));
            }
        }
    })
    .await;
}

fn parsed<T: DeserializeOwned>(object: Value) -> Option<T> {
    let (kind, name) = (text(&object, "/kind"), text(&object, "/metadata/name"));
    // One object that is not understood must not stop the others.
    serde_json::from_value(object)
        .inspect_err(|error| {
            tracing::warn!(error = chain(error), kind, name, "object is not understood; it is passed over")
        })
        .ok()
}

async fn clusters(engine: Arc<Engine>) {
    let (put, remove, known) = (engine.clone(), engine.clone(), engine.clone());
    let rules = Mirror::<ClusterName> {
        key: |object| Some(text(object, "/metadata/name").into()),
        put: Box::new(move |name, object, relist| {
            if let Some(cluster) = parsed::<Cluster>(object) {
                put.change(|index| index.put_cluster(cluster, relist));
                put.connection_changed(&name);
            }
        }),
        remove: Box::new(move |name, deleted| remove.change(|index| index.remove_cluster(name, deleted))),
        known: Box::new(move || known.index().clusters.keys().cloned().collect()),
    };
    mirror(&engine, ApiResource::erase::<Cluster>(&()), None, rules).await;
}

fn policy_key(object: &Value) -> Option<PolicyKey> {
    let namespace = Some(text(object, "/metadata/namespace")).filter(|namespace| !namespace.is_empty());
    Some((namespace, text(object, "/metadata/name")))
}

/// Tells, by an event, why a policy is not acted on.
fn warn(events: &StatusWriter, resource: &ApiResource, object: &Value, why: String) {
    let about = policy::reference(resource, object);
    let (namespace, name) = (about.namespace.as_deref(), about.name.as_deref());
    tracing::warn!(kind = resource.kind, namespace, name, why, "policy is not understood; nothing follows from it");
    let events = events.clone();
    tokio::spawn(async move { events.warn_about(&about, policy::UNREADABLE, &why).await });
}

async fn policies<K: Resource<DynamicType = ()>>(engine: Arc<Engine>, namespaced: bool) {
    let (put, remove, known) = (engine.clone(), engine.clone(), engine.clone());
    let (resource, events) = (ApiResource::erase::<K>(&()), StatusWriter::new(engine.rest.client().clone(), "engine"));
    let rules = Mirror::<PolicyKey> {
        key: policy_key,
        put: Box::new(move |key, mut object, _| {
            if let Some(keep) = policy::finalizers_to_keep(&object) {
                tokio::spawn(policy::release(put.rest.clone(), resource.clone(), object.clone(), keep));
            }
            // A policy that is being deleted has no say any more.
            if object.pointer("/metadata/deletionTimestamp").is_some() {
                put.change(|index| index.set_policy(key, None));
                return;
            }
            match policy::propagation(&mut object) {
                Ok(spec) => put.change(|index| index.set_policy(key, Some(spec))),
                // One that is not understood is not one that is gone: what it placed must not be removed.
                Err(why) => {
                    warn(&events, &resource, &object, why);
                    put.change(|index| {
                        index.mark_policy_unreadable(key);
                        Requeues::default()
                    });
                }
            }
        }),
        remove: Box::new(move |key, _| remove.change(|index| index.set_policy(key.clone(), None))),
        known: Box::new(move || known.index().policy_keys(namespaced)),
    };
    mirror(&engine, ApiResource::erase::<K>(&()), None, rules).await;
}

async fn overrides<K: Resource<DynamicType = ()>>(engine: Arc<Engine>, namespaced: bool) {
    let (put, remove, known) = (engine.clone(), engine.clone(), engine.clone());
    let (resource, events) = (ApiResource::erase::<K>(&()), StatusWriter::new(engine.rest.client().clone(), "engine"));
    let rules = Mirror::<PolicyKey> {
        key: policy_key,
        put: Box::new(move |key, mut object, _| {
            let spec = policy::overriding(&mut object);
            if let Some(why) = &spec.unreadable {
                warn(&events, &resource, &object, format!("spec: {why}; objects that it selects are not written"));
            }
            put.change(|index| index.set_override(key, Some(spec)));
        }),
        remove: Box::new(move |key, _| remove.change(|index| index.set_override(key.clone(), None))),
        known: Box::new(move || known.index().override_keys(namespaced)),
    };
    mirror(&engine, ApiResource::erase::<K>(&()), None, rules).await;
}

async fn bindings<K: Resource<DynamicType = ()>>(engine: Arc<Engine>, namespaced: bool) {
    let (put, remove, known) = (engine.clone(), engine.clone(), engine.clone());
    let rules = Mirror::<Key> {
        key: binding_key,
        put: Box::new(move |key, object, relist| match Binding::of(object) {
            Ok(binding) => put.change(|index| index.put_binding(key, binding, relist)),
            Err(error) => {
                tracing::warn!(object = %key, error = chain(&error), "binding is not understood; it is passed over")
            }
        }),
        remove: Box::new(move |key, deleted| remove.change(|index| index.remove_binding(key, deleted))),
        known: Box::new(move || known.index().binding_keys(namespaced)),
    };
    mirror(&engine, ApiResource::erase::<K>(&()), None, rules).await;
}

async fn namespaces(engine: Arc<Engine>) {
    let (put, remove, known) = (engine.clone(), engine.clone(), engine.clone());
    let rules = Mirror::<String> {
        key: |object| Some(text(object, "/metadata/name")),
        put: Box::new(move |_, object, _| put.change(|index| index.put_namespace(object))),
        remove: Box::new(move |name, _| remove.change(|index| index.remove_namespace(name))),
        known: Box::new(move || known.index().namespace_names()),
    };
    mirror(&engine, ApiResource::erase::<Namespace>(&()), None, rules).await;
}

/// Tokens and CAs of members. A change ends the connections that were made with the old ones.
async fn credentials(engine: Arc<Engine>) {
    let (put, remove, known) = (engine.clone(), engine.clone(), engine.clone());
    let rules = Mirror::<String> {
        key: |object| Some(text(object, "/metadata/name")),
        put: Box::new(move |name, object, _| put.set_credential(&name, Some(credential(&object)))),
        remove: Box::new(move |name, _| remove.set_credential(name, None)),
        known: Box::new(move || known.credential_names()),
    };
    mirror(&engine, ApiResource::erase::<Secret>(&()), Some(CLUSTER_NAMESPACE), rules).await;
}

/// What a Secret holds that `karmadactl join` or a MemberClusterJoin wrote.
pub(super) fn credential(secret: &Value) -> Credential {
    let get = |key: &str| {
        let encoded = secret.pointer("/data")?.get(key)?.as_str()?;
        STANDARD.decode(encoded).ok().filter(|bytes| !bytes.is_empty())
    };
    Credential { token: get("token").and_then(|bytes| String::from_utf8(bytes).ok()), ca: get("caBundle") }
}

/// Watches templates of the kinds that are in use, one watch a kind.
pub(super) async fn follow_templates(engine: Arc<Engine>) {
    let mut changes = engine.kinds.subscribe();
    let mut watches: HashMap<Arc<KindKey>, tokio::task::AbortHandle> = HashMap::new();
    let mut unused: HashMap<Arc<KindKey>, Instant> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        changes.borrow_and_update();
        let wanted = engine.index().plane_kinds();
        unused.retain(|kind, _| !wanted.contains(kind));
        let new: Vec<_> = wanted.iter().filter(|kind| !watches.contains_key(*kind)).collect();
        let mut unserved = Vec::new();
        if new.iter().any(|kind| engine.plane_resource(kind).is_none()) {
            match discover(engine.rest.client()).await {
                Ok(served) => {
                    unserved = new.iter().filter(|kind| served.lacks(kind)).map(|kind| (*kind).clone()).collect();
                    engine.set_plane_served(served.kinds);
                }
                Err(error) => tracing::debug!(error = chain(&error), "kinds of the plane are not known"),
            }
        }
        let mut missing = false;
        for kind in new {
            let Some(resource) = engine.plane_resource(kind) else {
                tracing::debug!(%kind, "kind is selected but not served by the plane");
                missing = true;
                if unserved.contains(kind) && !engine.index().is_synced(kind) && !is_defined(&engine, kind).await {
                    tracing::info!(%kind, "kind is not defined in the plane: it has no objects");
                    engine.change(|index| index.kind_synced(kind));
                }
                continue;
            };
            watches.insert(kind.clone(), tasks.spawn(templates(engine.clone(), kind.clone(), resource)));
        }
        for kind in watches.keys().filter(|kind| !wanted.contains(*kind)) {
            unused.entry(kind.clone()).or_insert_with(Instant::now);
        }
        for (kind, _) in unused.extract_if(|_, since| since.elapsed() >= LINGER) {
            if let Some(watch) = watches.remove(&kind) {
                watch.abort();
                engine.index().forget_kind(&kind);
            }
        }
        let look_again = match (missing, unused.is_empty()) {
            (true, _) => LOOK_AGAIN,
            (false, true) => Duration::from_secs(3600),
            (false, false) => LINGER,
        };
        tokio::select! {
            _ = changes.changed() => {}
            () = sleep(look_again) => {}
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
        // A burst of bindings brings one kind.
        sleep(Duration::from_millis(5)).await;
    }
}

/// A definition, as far as it names its kind.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = CustomResourceDefinition)]
struct Definition {
    metadata: ObjectMeta,
    spec: DefinitionSpec,
}

#[derive(Clone, Debug, Deserialize)]
struct DefinitionSpec {
    group: String,
    names: DefinitionNames,
}

#[derive(Clone, Debug, Deserialize)]
struct DefinitionNames {
    kind: String,
}

/// Whether a kind that is not served has a definition: then it is about to be served, and its templates are still there.
async fn is_defined(engine: &Engine, kind: &KindKey) -> bool {
    let group = kind.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let definitions: Api<Definition> = Api::all(engine.rest.client().clone());
    match definitions.list(&ListParams::default()).await {
        Ok(list) => list.items.iter().any(|found| found.spec.group == group && found.spec.names.kind == kind.kind),
        Err(error) => {
            tracing::debug!(%kind, error = chain(&error), "definitions were not read");
            true
        }
    }
}

async fn templates(engine: Arc<Engine>, kind: Arc<KindKey>, resource: ApiResource) {
    let mut unseen: HashSet<Key> = HashSet::new();
    let put = |key: Key, object: Value, relist: bool| match omitted(&object) {
        None => engine.change(|index| index.put_template(key, Template::of(object), relist)),
        Some(problem) => {
            tracing::warn!(object = %key, problem, "template cannot be read; what is in members of it stays");
            engine.unreadable.get_or_create(&KindLabel { kind: kind.kind.clone() }).inc();
            engine.index().mark_template_unreadable(key);
        }
    };
    follow(engine.rest.client().clone(), resource, None, None, |news| match news {
        News::Begin => unseen = engine.index().template_keys(&kind).into_iter().collect(),
        News::Listed(object) => {
            let key = ObjectKey::of(&kind, &object);
            unseen.remove(&key);
            put(key, object, true);
        }
        News::Complete => engine.change(|index| {
            let mut requeues = Requeues::default();
            for key in unseen.drain() {
                requeues.merge(index.remove_template(&key, None));
            }
            requeues.merge(index.kind_synced(&kind));
            requeues
        }),
        News::Changed(object) => {
            let key = ObjectKey::of(&kind, &object);
            put(key, object, false);
        }
        News::Gone(object) => {
            let key = ObjectKey::of(&kind, &object);
            let deleted = (text(&object, "/metadata/uid"), version(&object));
            engine.change(|index| index.remove_template(&key, Some((&deleted.0, deleted.1))));
        }
    })
    .await;
}

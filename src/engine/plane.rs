//! What is always watched in the plane: clusters, policies, bindings, namespaces and credentials.

use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Resource;
use kube::core::ApiResource;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinSet;

use super::Engine;
use super::connection::credential;
use super::index::PolicyKey;
use super::key::{ClusterName, Key, NamespaceName};
use super::mirror::{Mirror, Source};
use super::model::{Binding, identity, text};
use super::policy;
use super::schedule::binding_key;
use super::watch::{WhenUnserved, mirror_json};
use crate::karmada::compatibility::{Kind, refusal_among};
use crate::karmada::{
    CLUSTER_NAMESPACE, CLUSTER_POLICY_PERMANENT_ID_LABEL, Cluster, ClusterOverridePolicy, ClusterPropagationPolicy,
    ClusterResourceBinding, OverridePolicy, POLICY_PERMANENT_ID_LABEL, PropagationPolicy, ResourceBinding,
};
use crate::machinery::error::chain;
use crate::runtime::guarded::omitted;
use crate::runtime::status::StatusWriter;

/// Watches that must be complete before anything is decided.
pub(super) const INITIAL_WATCHES: usize = 9;

/// Starts the watches that always run.
pub(super) fn start(engine: &Arc<Engine>, tasks: &mut JoinSet<()>) {
    let e = engine;
    follow::<Cluster, _>(e, tasks, None, Clusters(e.clone()));
    follow::<PropagationPolicy, _>(e, tasks, None, Policies::<PropagationPolicy>::of(e, true));
    follow::<ClusterPropagationPolicy, _>(e, tasks, None, Policies::<ClusterPropagationPolicy>::of(e, false));
    follow::<OverridePolicy, _>(e, tasks, None, Overrides(Policies::<OverridePolicy>::of(e, true)));
    follow::<ClusterOverridePolicy, _>(e, tasks, None, Overrides(Policies::<ClusterOverridePolicy>::of(e, false)));
    follow::<ResourceBinding, _>(e, tasks, None, Bindings { engine: e.clone(), namespaced: true });
    follow::<ClusterResourceBinding, _>(e, tasks, None, Bindings { engine: e.clone(), namespaced: false });
    follow::<Namespace, _>(e, tasks, None, Namespaces(e.clone()));
    follow::<Secret, _>(e, tasks, Some(CLUSTER_NAMESPACE), CredentialSecrets(e.clone()));
}

/// Starts a watch of a kind that Karmada's API or Kubernetes always serves.
fn follow<K, M>(engine: &Arc<Engine>, tasks: &mut JoinSet<()>, namespace: Option<&'static str>, mirror: M)
where
    K: Resource<DynamicType = ()>,
    M: Mirror<Object = Value> + 'static,
    M::Key: 'static,
{
    let resource = ApiResource::erase::<K>(&());
    let mirror = Awaited { engine: engine.clone(), kind: resource.kind.clone(), is_awaited: true, mirror };
    let rest = engine.rest.clone();
    tasks.spawn(async move { mirror_json(&rest, resource, namespace, None, WhenUnserved::TryAgain, mirror).await });
}

/// A mirror that the engine waits for at its start.
struct Awaited<M> {
    engine: Arc<Engine>,
    kind: String,
    is_awaited: bool,
    mirror: M,
}

impl<M: Mirror<Object = Value>> Mirror for Awaited<M> {
    type Object = Value;
    type Key = M::Key;

    fn key(&self, object: &Value) -> Option<M::Key> {
        self.mirror.key(object)
    }

    fn known(&self) -> Vec<M::Key> {
        self.mirror.known()
    }

    fn apply(&mut self, key: M::Key, object: Value, source: Source) {
        if let Some(problem) = omitted(&object) {
            let (namespace, name) = (text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
            tracing::warn!(kind = self.kind, namespace, name, problem, "object cannot be read");
            self.engine.count_unreadable(&self.kind);
        }
        self.mirror.apply(key, object, source);
    }

    fn delete(&mut self, key: &M::Key, last: Option<&Value>) {
        self.mirror.delete(key, last);
    }

    fn synced(&mut self) {
        self.mirror.synced();
        if std::mem::take(&mut self.is_awaited) {
            self.engine.initial_watch_synced();
        }
    }
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

struct Clusters(Arc<Engine>);

impl Mirror for Clusters {
    type Object = Value;
    type Key = ClusterName;

    fn key(&self, object: &Value) -> Option<ClusterName> {
        Some(text(object, "/metadata/name").into())
    }

    fn known(&self) -> Vec<ClusterName> {
        self.0.index().clusters.keys().cloned().collect()
    }

    fn apply(&mut self, name: ClusterName, object: Value, source: Source) {
        self.0.set_refused(&name, refused_connection(&object));
        if let Some(cluster) = parsed::<Cluster>(object) {
            self.0.change(|index| index.put_cluster(cluster, source.is_list()));
            self.0.connection_changed(&name);
        }
    }

    fn delete(&mut self, name: &ClusterName, last: Option<&Value>) {
        self.0.change(|index| index.remove_cluster(name, last.map(identity)));
        if !self.0.index().clusters.contains_key(name) {
            self.0.set_refused(name, None);
        }
    }
}

/// Why a member must not be connected to: its Cluster asks for a way there that is not carried out.
fn refused_connection(cluster: &Value) -> Option<String> {
    const WAY: [&str; 3] = ["spec.insecureSkipTLSVerification", "spec.proxyURL", "spec.proxyHeader"];
    refusal_among(Kind::Cluster, &WAY, cluster)
}

fn policy_key(object: &Value) -> PolicyKey {
    let namespace = Some(text(object, "/metadata/namespace")).filter(|namespace| !namespace.is_empty());
    (namespace.map(NamespaceName::from), text(object, "/metadata/name"))
}

/// Tells, by an event, why a policy is not acted on.
fn warn(events: &StatusWriter, resource: &ApiResource, object: &Value, why: String) {
    let about = policy::reference(resource, object);
    let (namespace, name) = (about.namespace.as_deref(), about.name.as_deref());
    tracing::warn!(kind = resource.kind, namespace, name, why, "policy is not understood; nothing follows from it");
    let events = events.clone();
    tokio::spawn(async move { events.warn_about(&about, policy::POLICY_UNSUPPORTED, &why).await });
}

/// Propagation policies of one kind.
struct Policies<K> {
    engine: Arc<Engine>,
    namespaced: bool,
    resource: ApiResource,
    events: StatusWriter,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()>> Policies<K> {
    fn of(engine: &Arc<Engine>, namespaced: bool) -> Self {
        let events = StatusWriter::new(engine.rest.client().clone(), "engine");
        Self { engine: engine.clone(), namespaced, resource: ApiResource::erase::<K>(&()), events, kind: PhantomData }
    }
}

impl<K> Mirror for Policies<K> {
    type Object = Value;
    type Key = PolicyKey;

    fn key(&self, object: &Value) -> Option<PolicyKey> {
        Some(policy_key(object))
    }

    fn known(&self) -> Vec<PolicyKey> {
        self.engine.index().policy_keys(self.namespaced)
    }

    fn apply(&mut self, key: PolicyKey, mut object: Value, _: Source) {
        let Self { engine, resource, events, .. } = &*self;
        if let Some(keep) = policy::finalizers_to_keep(&object) {
            let operations = policy::release(&keep);
            tokio::spawn(policy::patch(engine.rest.clone(), resource.clone(), object.clone(), operations));
        }
        // A policy that is being deleted has no say any more.
        if object.pointer("/metadata/deletionTimestamp").is_some() {
            engine.change(|index| index.set_policy(key, None));
            return;
        }
        let label = if self.namespaced { POLICY_PERMANENT_ID_LABEL } else { CLUSTER_POLICY_PERMANENT_ID_LABEL };
        let (id, is_new) = policy::permanent_id(label, &object);
        if is_new {
            let operations = policy::identify(label, &object, &id);
            tokio::spawn(policy::patch(engine.rest.clone(), resource.clone(), object.clone(), operations));
        }
        engine.change(|index| index.set_permanent_id(key.clone(), Some(&id)));
        match policy::propagation(&mut object) {
            Ok(spec) => engine.change(|index| index.set_policy(key, Some(spec))),
            // One that is not understood is not one that is gone: what it placed must not be removed.
            Err(why) => {
                warn(events, resource, &object, why.clone());
                engine.change(|index| index.mark_policy_unreadable(key, why));
            }
        }
    }

    fn delete(&mut self, key: &PolicyKey, _: Option<&Value>) {
        self.engine.change(|index| index.set_permanent_id(key.clone(), None));
        self.engine.change(|index| index.set_policy(key.clone(), None));
    }
}

/// Override policies of one kind.
struct Overrides<K>(Policies<K>);

impl<K> Mirror for Overrides<K> {
    type Object = Value;
    type Key = PolicyKey;

    fn key(&self, object: &Value) -> Option<PolicyKey> {
        Some(policy_key(object))
    }

    fn known(&self) -> Vec<PolicyKey> {
        self.0.engine.index().override_keys(self.0.namespaced)
    }

    fn apply(&mut self, key: PolicyKey, mut object: Value, _: Source) {
        let Policies { engine, resource, events, .. } = &self.0;
        let spec = policy::overriding(&mut object);
        if let Some(why) = &spec.unreadable {
            warn(events, resource, &object, format!("spec: {why}; objects that it selects are not written"));
        }
        engine.change(|index| index.set_override(key, Some(spec)));
    }

    fn delete(&mut self, key: &PolicyKey, _: Option<&Value>) {
        self.0.engine.change(|index| index.set_override(key.clone(), None));
    }
}

/// Bindings of one scope.
struct Bindings {
    engine: Arc<Engine>,
    namespaced: bool,
}

impl Mirror for Bindings {
    type Object = Value;
    type Key = Key;

    fn key(&self, object: &Value) -> Option<Key> {
        binding_key(object)
    }

    fn known(&self) -> Vec<Key> {
        self.engine.index().binding_keys(self.namespaced)
    }

    fn apply(&mut self, key: Key, object: Value, source: Source) {
        match Binding::of(object) {
            Ok(binding) => self.engine.change(|index| index.put_binding(key, binding, source.is_list())),
            Err(error) => {
                tracing::warn!(object = %key, error = chain(&error), "binding is not understood; it is passed over")
            }
        }
    }

    fn delete(&mut self, key: &Key, last: Option<&Value>) {
        self.engine.change(|index| index.remove_binding(key, last.map(identity)));
    }
}

struct Namespaces(Arc<Engine>);

impl Mirror for Namespaces {
    type Object = Value;
    type Key = String;

    fn key(&self, object: &Value) -> Option<String> {
        Some(text(object, "/metadata/name"))
    }

    fn known(&self) -> Vec<String> {
        self.0.index().namespace_names()
    }

    fn apply(&mut self, _: String, object: Value, _: Source) {
        self.0.change(|index| index.put_namespace(object));
    }

    fn delete(&mut self, name: &String, _: Option<&Value>) {
        self.0.change(|index| index.remove_namespace(name));
    }
}

/// Tokens and authorities of members. A change ends the connections that were made with the old ones.
struct CredentialSecrets(Arc<Engine>);

impl Mirror for CredentialSecrets {
    type Object = Value;
    type Key = String;

    fn key(&self, object: &Value) -> Option<String> {
        Some(text(object, "/metadata/name"))
    }

    fn known(&self) -> Vec<String> {
        self.0.credential_names()
    }

    fn apply(&mut self, name: String, object: Value, _: Source) {
        self.0.set_credential(&name, Some(credential(&object)));
    }

    fn delete(&mut self, name: &String, _: Option<&Value>) {
        self.0.set_credential(name, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_way_to_a_member_that_is_not_carried_out_is_named() {
        for (spec, field) in [
            (json!({"insecureSkipTLSVerification": false, "proxyURL": "", "proxyHeader": {}, "zone": "a"}), None),
            (json!({"insecureSkipTLSVerification": true}), Some("spec.insecureSkipTLSVerification")),
            (json!({"proxyURL": "http://proxy"}), Some("spec.proxyURL")),
            (json!({"proxyHeader": {"X": "y"}}), Some("spec.proxyHeader")),
        ] {
            let refused = refused_connection(&json!({ "spec": spec }));
            assert_eq!(refused.is_some(), field.is_some(), "{spec}");
            assert!(refused.unwrap_or_default().contains(field.unwrap_or_default()), "{spec}");
        }
    }
}

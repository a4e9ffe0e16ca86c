//! Templates: one watch for each kind of the plane that a policy selects or a binding names.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, ListParams};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Engine;
use super::discovery::discover;
use super::key::{Key, KindKey, ObjectKey};
use super::kinds::{KindWatches, LINGER};
use super::mirror::{Mirror, Source};
use super::model::{Template, identity};
use super::watch::mirror_json;
use crate::machinery::error::chain;
use crate::runtime::guarded::omitted;

/// How soon a kind that is selected but not served is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Watches templates of the kinds that are in use, one watch a kind.
pub(super) async fn follow_templates(engine: Arc<Engine>) {
    let mut changes = engine.kinds.subscribe();
    let mut watches = KindWatches::default();
    loop {
        changes.borrow_and_update();
        let wanted = engine.index().plane_kinds();
        for kind in watches.end_unused(&wanted, Instant::now()) {
            engine.index().forget_kind(&kind);
        }
        let missing = start_watches(&engine, &mut watches, wanted.iter()).await;
        let look_again = match (missing, watches.has_unused()) {
            (true, _) => LOOK_AGAIN,
            (false, false) => Duration::from_secs(3600),
            (false, true) => LINGER,
        };
        tokio::select! {
            _ = changes.changed() => {}
            () = sleep(look_again) => {}
            () = watches.ended() => {}
        }
        // A burst of bindings brings one kind.
        sleep(Duration::from_millis(5)).await;
    }
}

/// Starts the watches of kinds that have none. Returns whether some of them are not served.
async fn start_watches<'a>(
    engine: &Arc<Engine>,
    watches: &mut KindWatches,
    wanted: impl Iterator<Item = &'a Arc<KindKey>>,
) -> bool {
    let new: Vec<_> = wanted.filter(|kind| !watches.contains(kind)).collect();
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
            if unserved.contains(kind) && !engine.index().is_synced(kind) && !is_defined(engine, kind).await {
                tracing::info!(%kind, "kind is not defined in the plane: it has no objects");
                engine.change(|index| index.kind_synced(kind));
            }
            continue;
        };
        let mirror = Templates { engine: engine.clone(), kind: kind.clone() };
        let rest = engine.rest.clone();
        watches.start(kind, async move { mirror_json(&rest, resource, None, None, mirror).await });
    }
    missing
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

/// Templates of one kind.
struct Templates {
    engine: Arc<Engine>,
    kind: Arc<KindKey>,
}

impl Mirror for Templates {
    type Object = Value;
    type Key = Key;

    fn key(&self, object: &Value) -> Option<Key> {
        Some(ObjectKey::of(&self.kind, object))
    }

    fn known(&self) -> Vec<Key> {
        self.engine.index().template_keys(&self.kind)
    }

    fn apply(&mut self, key: Key, object: Value, source: Source) {
        match omitted(&object) {
            None => {
                let template = Template::of(object);
                self.engine.change(|index| index.put_template(key, template, source.is_list()));
            }
            Some(problem) => {
                tracing::warn!(object = %key, problem, "template cannot be read; what is in members of it stays");
                self.engine.count_unreadable(&self.kind.kind);
                self.engine.index().mark_template_unreadable(key);
            }
        }
    }

    fn delete(&mut self, key: &Key, last: Option<&Value>) {
        let deleted = last.map(identity);
        self.engine.change(|index| index.remove_template(key, deleted));
    }

    fn synced(&mut self) {
        self.engine.change(|index| index.kind_synced(&self.kind));
    }
}

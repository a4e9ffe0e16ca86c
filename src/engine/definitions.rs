//! Definitions of the plane: kinds that are not served may be about to be.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, ListParams};
use serde::Deserialize;

use super::Engine;
use super::key::KindKey;
use crate::machinery::error::chain;

/// Kinds that are not served have no objects, unless they have a definition: then they are about to be served, and their
/// templates are still there.
pub(super) async fn mark_undefined(engine: &Engine, mut lacking: Vec<Arc<KindKey>>) {
    {
        let index = engine.index();
        lacking.retain(|kind| !index.is_synced(kind));
    }
    if lacking.is_empty() {
        return;
    }
    let definitions: Api<Definition> = Api::all(engine.rest.client().clone());
    let defined: HashSet<(String, String)> = match definitions.list(&ListParams::default()).await {
        Ok(list) => list.items.into_iter().map(|found| (found.spec.group, found.spec.names.kind)).collect(),
        Err(error) => {
            tracing::debug!(error = chain(&error), "definitions were not read");
            return;
        }
    };
    lacking.retain(|kind| !defined.contains(&(kind.group().to_owned(), kind.kind.clone())));
    tracing::info!(
        kinds = lacking.len(),
        first = lacking.first().map(ToString::to_string),
        "kinds are not defined in the plane: they have no objects"
    );
    engine.change(|index| index.kinds_synced(&lacking.into_iter().collect()));
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

//! Writes to templates which policy claims them. Users and dashboards look there; no decision of the engine does.

use std::sync::Arc;

use serde_json::Value;

use super::Engine;
use super::claim_metadata::{ClaimMetadata, ClaimPatch};
use super::desired::repair_backoff;
use super::key::{Key, Uid};
use super::model::Template;
use super::queue::WorkResult;
use super::report::{STATUS_DEBOUNCE, gives_way};
use super::rest::{Target, is_refused};
use super::schedule::plan;
use crate::machinery::error::{chain, is_conflict};

/// Writes to a template which policy claims it, or that none does. IO.
pub(super) async fn run(engine: Arc<Engine>, key: Key) -> WorkResult {
    if gives_way(&engine, &key) {
        return WorkResult::RequeueAfter(STATUS_DEBOUNCE);
    }
    let (inputs, repair) = {
        let index = engine.index();
        if !index.lacks_claim(&key) {
            return WorkResult::Done;
        }
        (index.schedule_inputs(&key), index.claim_repair(&key))
    };
    let (Some(template), Some(claim)) = (&inputs.template, plan(&inputs).claim) else { return WorkResult::Done };
    let fingerprint = claim.fingerprint();
    if !template.lacks_claim(fingerprint) {
        return WorkResult::Done;
    }
    let repair = repair.filter(|repair| repair.wanted == fingerprint);
    let wait = repair.map(|repair| repair_backoff(repair.count, repair.at, engine.now())).unwrap_or_default();
    if !wait.is_zero() {
        return WorkResult::RequeueAfter(wait);
    }
    match write(&engine, &key, &template.uid, &claim).await {
        Ok(Some(object)) => {
            let now = engine.now();
            if engine.index().count_claim_repair(&key, fingerprint, now) {
                tracing::info!(object = %key, "found with a wrong claim; repaired");
            }
            engine.change(|index| index.put_template(key, Template::of(object), false));
            WorkResult::Done
        }
        Ok(None) => WorkResult::Done,
        Err(error) => failed(&key, &error),
    }
}

/// Writes a claim; answers with the template as it is then, if its kind is served.
async fn write(engine: &Engine, key: &Key, uid: &Uid, claim: &ClaimMetadata) -> Result<Option<Value>, kube::Error> {
    let Some(resource) = engine.plane_resource(&key.kind) else { return Ok(None) };
    let target = Target { resource: &resource, namespace: key.namespace.as_deref(), name: &key.name };
    let mut written = None;
    for patch in claim.patches(&key.kind, uid) {
        written = Some(match patch {
            ClaimPatch::Object(patch) => engine.rest.merge(&target, &patch).await?,
            ClaimPatch::Status(patch) => engine.rest.merge_status(&target, &patch).await?,
        });
    }
    Ok(written)
}

fn failed(key: &Key, error: &kube::Error) -> WorkResult {
    match error {
        // It is gone; the watch is about to tell.
        kube::Error::Api(status) if status.code == 404 => WorkResult::Done,
        error if is_conflict(error) => WorkResult::Failed,
        error => {
            let error_text = chain(error);
            tracing::warn!(object = %key, error = error_text, "claim was not written to the template; trying again");
            if is_refused(error) { WorkResult::Stuck } else { WorkResult::Failed }
        }
    }
}

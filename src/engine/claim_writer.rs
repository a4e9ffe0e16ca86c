//! Writes to templates which policy claims them. Users and dashboards look there; no decision of the engine does.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Engine;
use super::claim_metadata::{ClaimMetadata, ClaimPatch};
use super::desired::repair_backoff;
use super::key::{Key, Uid};
use super::queue::WorkResult;
use super::report::{STATUS_DEBOUNCE, gives_way};
use super::rest::{Target, is_refused};
use super::schedule::plan;
use crate::machinery::error::{chain, is_conflict};

/// How long the API server may take for a write. Webhooks of the plane that hang must not keep the few workers from others.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// What the API server tells of a right that nobody granted.
const NO_PERMISSION: &str = "cannot patch resource";

/// Writes to a template which policy claims it, or that none does. IO.
pub(super) async fn run(engine: Arc<Engine>, key: Key) -> WorkResult {
    if gives_way(&engine, &key) {
        return WorkResult::RequeueAfter(STATUS_DEBOUNCE);
    }
    let Some(inputs) = engine.index().claim_inputs(&key) else { return WorkResult::Done };
    let (Some(template), Some(claim)) = (&inputs.schedule.template, plan(&inputs.schedule).claim) else {
        return WorkResult::Done;
    };
    let fingerprint = claim.fingerprint();
    if !template.lacks_claim(fingerprint) {
        return WorkResult::Done;
    }
    let repair = inputs.repair.filter(|repair| repair.wanted == fingerprint);
    let wait = repair.map(|repair| repair_backoff(repair.count, repair.at, engine.now())).unwrap_or_default();
    if !wait.is_zero() {
        return WorkResult::RequeueAfter(wait);
    }
    match write(&engine, &key, &template.uid, &claim).await {
        Ok(Some(object)) => {
            let now = engine.now();
            if engine.index().count_claim_repair(&inputs, fingerprint, now) {
                tracing::info!(object = %key, "found with a wrong claim; repaired");
            }
            engine.put_template(&key, object, false);
            WorkResult::Done
        }
        Ok(None) => WorkResult::Done,
        Err(error) => failed(&engine, &key, fingerprint, &error),
    }
}

/// Writes a claim; answers with the template as it is then, if its kind is served.
async fn write(engine: &Engine, key: &Key, uid: &Uid, claim: &ClaimMetadata) -> Result<Option<Value>, kube::Error> {
    let Some(resource) = engine.plane_resource(&key.kind) else { return Ok(None) };
    let target = Target { resource: &resource, namespace: key.namespace.as_deref(), name: &key.name };
    let rest = engine.rest.within(WRITE_TIMEOUT);
    let mut written = None;
    for patch in claim.patches(&key.kind, uid) {
        written = Some(match patch {
            ClaimPatch::Object(patch) => rest.merge(&target, &patch).await?,
            ClaimPatch::Status(patch) => rest.merge_status(&target, &patch).await?,
        });
    }
    Ok(written)
}

fn failed(engine: &Engine, key: &Key, claim: u64, error: &kube::Error) -> WorkResult {
    let result = after_failure(error);
    match (status_code(error), result) {
        (Some(404), _) => {}
        (Some(403), WorkResult::Done) => {
            if engine.index().claim_forbidden(key, claim) {
                let error = chain(error);
                tracing::warn!(object = %key, error, "claim may not be written to the template; trying again when it changes");
            }
        }
        _ if is_conflict(error) => {}
        _ => {
            let error = chain(error);
            tracing::warn!(object = %key, error, "claim was not written to the template; trying again");
        }
    }
    result
}

fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// What follows when a claim was not written. Pure.
fn after_failure(error: &kube::Error) -> WorkResult {
    match error {
        // It is gone; the watch is about to tell.
        kube::Error::Api(status) if status.code == 404 => WorkResult::Done,
        // The engine's role lacks the right: it is about to be repaired.
        kube::Error::Api(status) if status.code == 403 && status.message.contains(NO_PERMISSION) => WorkResult::Stuck,
        // A role that grants more than the engine has, or an object that a webhook guards. There may be thousands of them,
        // and nothing but a change of the object or of its claim is a reason to ask again.
        kube::Error::Api(status) if status.code == 403 => WorkResult::Done,
        error if is_refused(error) => WorkResult::Stuck,
        _ => WorkResult::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn what_is_forbidden_is_not_tried_again_and_again() {
        let escalates =
            "roles \"r\" is forbidden: user \"e\" is attempting to grant RBAC permissions not currently held";
        let lacks = "roles \"r\" is forbidden: User \"e\" cannot patch resource \"roles\" in API group \"g\"";
        for (code, message, wanted) in [
            (403, escalates, WorkResult::Done),
            (403, "admission webhook \"w\" denied the request", WorkResult::Done),
            (403, lacks, WorkResult::Stuck),
            (404, "", WorkResult::Done),
            (409, "", WorkResult::Failed),
            (422, "", WorkResult::Stuck),
            (500, "failed calling webhook \"w\": context deadline exceeded", WorkResult::Failed),
        ] {
            let error = kube::Error::Api(Box::new(Status { code, message: message.into(), ..Status::default() }));
            assert_eq!(after_failure(&error), wanted, "{code} {message}");
        }
    }
}

//! Brings objects of members to what is wanted of them: what is not there is created, what is there and differs is
//! replaced (see [`super::update`]), provided that it still is what was read.

use std::sync::Arc;
use std::time::Duration;

use kube::core::ApiResource;
use serde_json::Value;

use super::Engine;
use super::desired::{
    DesiredState, Manifest, check_adoption, desired_state, holds, is_named, is_preserved, keeps_last_manifest,
    repair_backoff, update_of,
};
use super::events::Reason;
use super::index::{Attempt, Repair, Requeues};
use super::key::{Key, ObjectKey};
use super::marks::unmark;
use super::model::LiveObject;
use super::namespace_removal::{self, NamespaceRemoval};
use super::queue::WorkResult;
use super::rest::{Target, is_kind_missing, is_namespace_missing, is_refused, is_unanswered};
use super::session::Session;
use crate::karmada::MANAGED_LABEL;
use crate::machinery::error::{chain, is_conflict};

/// How long an object is left alone that must not be adopted: nothing tells when it goes.
const CONFLICT_RECHECK: Duration = Duration::from_secs(60);

/// How often an update is built anew on what is there now, before it waits for its turn.
const UPDATE_ATTEMPTS: u32 = 3;

/// What is to be done about an object.
enum NextStep {
    Nothing,
    Refused(String),
    Remove { live: Arc<LiveObject>, preserve: bool },
    Create(Manifest),
    Update { manifest: Manifest, live: Option<Arc<LiveObject>>, repair: Option<Repair> },
}

/// Brings one object of a member to what is wanted of it. IO.
pub(super) async fn run(engine: Arc<Engine>, session: Arc<Session>, key: Key) -> WorkResult {
    let (manifest, live) = match next_step(&engine, &session, &key) {
        NextStep::Nothing => return WorkResult::Done,
        NextStep::Refused(why) => {
            record_failure(&engine, &session, &key, why);
            return WorkResult::Done;
        }
        NextStep::Remove { live, preserve } => return remove(&engine, &session, &key, &live, preserve).await,
        NextStep::Create(manifest) => (manifest, None),
        NextStep::Update { manifest, live, repair } => {
            let wait = repair.map(|repair| repair_backoff(repair.count, repair.at, engine.now())).unwrap_or_default();
            if !wait.is_zero() {
                return WorkResult::RequeueAfter(wait);
            }
            (manifest, Some(live))
        }
    };
    let Some((resource, namespace)) = resource_of(&engine, &session, &key) else { return WorkResult::Stuck };
    let target = Target { resource: &resource, namespace, name: &key.name };
    let write = Write { engine: &engine, session: &session, key: &key, target: &target, manifest: &manifest };
    let result = match live {
        None => write.create().await,
        Some(known) => match write.update().await {
            Ok(Some(done)) => Ok(done),
            Ok(None) => match known {
                Some(live) => {
                    engine.change(|index| {
                        index.remove_live(&session.cluster, &key, Some((live.uid.clone(), live.version)))
                    });
                    Ok(WorkResult::Done)
                }
                None => write.create().await,
            },
            Err(error) => Err(error),
        },
    };
    result.unwrap_or_else(|error| handle_error(&engine, &session, &key, &error, Attempt::Failed))
}

/// Decides what to do, and whether there is anything to do. Pure but for the lock.
fn next_step(engine: &Engine, session: &Session, key: &Key) -> NextStep {
    let (step, live, repair, attempt) = {
        let mut index = engine.index();
        let Some(member) = index.member(&session.cluster) else { return NextStep::Nothing };
        let live = member.live.get(key).cloned();
        if !member.reachable || (live.is_none() && !member.synced.contains(&key.kind)) {
            // Whether it is there is known when all objects of the kind are.
            index.postpone(&session.cluster, key);
            return NextStep::Nothing;
        }
        let (repair, attempt) = (member.repairs.get(key).copied(), member.attempts.get(key).cloned());
        (desired_state(&index, &session.cluster, key), live, repair, attempt)
    };
    if key.kind.is_namespace() && !matches!(step, DesiredState::Remove { .. }) {
        // When it is to go another time, the wait begins anew.
        session.forget_in_use(key);
    }
    match step {
        DesiredState::Keep => NextStep::Nothing,
        DesiredState::Remove { preserve } => match live {
            Some(live) if (preserve || !live.deleting) && engine.index().is_ours(&live, key) => {
                let preserve = is_preserved(&live, key, preserve);
                NextStep::Remove { live, preserve }
            }
            _ => NextStep::Nothing,
        },
        DesiredState::Apply(inputs) => {
            let manifest = match inputs.render(key) {
                Ok(manifest) => manifest,
                Err(error) => {
                    let note = format!("not applied in cluster {}: {error}", session.cluster);
                    engine.events.send(key, inputs.template_uid(), Reason::ApplyOverridePolicyFailed, note);
                    return NextStep::Refused(error.to_string());
                }
            };
            let Some(live) = live else {
                // A namespace is likely to be there already, made by the member's own people.
                let exists = matches!(attempt, Some(Attempt::Conflict(_))) || key.kind.is_namespace();
                return if exists {
                    NextStep::Update { manifest, live: None, repair: None }
                } else {
                    NextStep::Create(manifest)
                };
            };
            if live.deleting {
                // It is made anew when it is gone.
                return NextStep::Nothing;
            }
            if let Err(why) = check_adoption(&live, true, &engine.plane, &manifest, &session.cluster) {
                return NextStep::Refused(why);
            }
            if live.settled() == Some(manifest.hash) || holds(&live, &manifest) {
                let settled = live.settled() == Some(manifest.hash) && attempt == Some(Attempt::Applied);
                if !settled {
                    engine.change(|index| index.settle(&session.cluster, key, live.hash, manifest.hash));
                }
                return NextStep::Nothing;
            }
            if keeps_last_manifest(&live, &manifest) {
                return NextStep::Nothing;
            }
            let repair = repair.filter(|repair| repair.wanted == manifest.hash);
            NextStep::Update { manifest, live: Some(live), repair }
        }
    }
}

/// The kind as the member serves it.
fn resource_of<'a>(engine: &Engine, session: &Session, key: &'a ObjectKey) -> Option<(ApiResource, Option<&'a str>)> {
    let Some((resource, namespaced)) = session.resource(&key.kind) else {
        session.kind_missing();
        let shared = Arc::new(key.clone());
        record_failure(engine, session, &shared, format!("cluster {} does not serve {}", session.cluster, key.kind));
        return None;
    };
    Some((resource, key.namespace.as_deref().filter(|_| namespaced)))
}

/// One object of a member, and what is wanted of it.
struct Write<'a> {
    engine: &'a Arc<Engine>,
    session: &'a Arc<Session>,
    key: &'a Key,
    target: &'a Target<'a>,
    manifest: &'a Manifest,
}

impl Write<'_> {
    /// Creates an object that is not there. When its name is in use after all, the object there is updated, if it may be.
    async fn create(&self) -> Result<WorkResult, kube::Error> {
        let Self { engine, session, key, target, manifest } = *self;
        let _in_flight = InFlight::begin(engine, session, key);
        let mut result = session.rest.create(target, manifest.json.clone().into_bytes()).await;
        if let Err(error) = &result
            && is_namespace_missing(error)
            && let Some(namespace) = target.namespace
        {
            // The namespace is on its way too; it just was not first.
            Box::pin(run(engine.clone(), session.clone(), ObjectKey::of_namespace(namespace))).await;
            result = session.rest.create(target, manifest.json.clone().into_bytes()).await;
        }
        match result {
            Ok(object) => {
                self.written(object);
                self.publish_overrides();
                tracing::debug!(cluster = %session.cluster, object = %key, "created");
                Ok(WorkResult::Done)
            }
            Err(error) if is_conflict(&error) => Ok(self.update().await?.unwrap_or(WorkResult::Failed)),
            Err(error) => Err(error),
        }
    }

    /// Reads the object that is there and brings it to what is wanted; nothing when there is none.
    async fn update(&self) -> Result<Option<WorkResult>, kube::Error> {
        let Self { engine, session, key, target, manifest } = *self;
        for _ in 0..UPDATE_ATTEMPTS {
            let Some(object) = session.rest.get(target).await? else { return Ok(None) };
            let live = LiveObject::of(object.clone());
            if live.deleting {
                let why = format!("an object of this name is being deleted in cluster {}", session.cluster);
                record_failure(engine, session, key, why);
                return Ok(Some(WorkResult::Failed));
            }
            let labels = object.pointer("/metadata/labels");
            let labelled = labels.and_then(|all| all.get(MANAGED_LABEL)).and_then(Value::as_str) == Some("true");
            let adoption = match check_adoption(&live, labelled, &engine.plane, manifest, &session.cluster) {
                Ok(adoption) => adoption,
                Err(why) => {
                    engine.change(|index| index.attempted(&session.cluster, key, Attempt::Conflict(why)));
                    return Ok(Some(WorkResult::RequeueAfter(CONFLICT_RECHECK)));
                }
            };
            let update = update_of(&object, manifest, key.kind.is_namespace(), adoption);
            if !update.differs {
                self.written(object);
                return Ok(Some(WorkResult::Done));
            }
            match session.rest.replace(target, update.object.to_string().into_bytes()).await {
                Ok(object) => {
                    self.count_repair();
                    self.written(object);
                    self.publish_overrides();
                    tracing::debug!(cluster = %session.cluster, object = %key, "updated");
                    return Ok(Some(WorkResult::Done));
                }
                // Changed since it was read, most likely its status.
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(WorkResult::Failed))
    }

    /// Counts a repair when the wanted state is what it was: then it is the live object that somebody changed.
    fn count_repair(&self) {
        let (wanted, now) = (self.manifest.hash, self.engine.now());
        if self.engine.index().count_repair(&self.session.cluster, self.key, wanted, now) {
            tracing::info!(cluster = %self.session.cluster, object = %self.key, "found changed; repaired");
        }
    }

    /// Publishes which override policies made the object differ from its template.
    fn publish_overrides(&self) {
        let Self { engine, session, key, manifest, .. } = *self;
        if !manifest.overridden_by.is_empty() {
            let note = format!("applied in cluster {}: {}", session.cluster, manifest.overridden_by.join(", "));
            engine.events.send(key, &manifest.template, Reason::ApplyOverridePolicySucceed, note);
        }
    }

    /// Remembers an object that is as wanted.
    fn written(&self, object: Value) {
        let (live, wanted) = (LiveObject::of(object), self.manifest.hash);
        self.engine.change(|index| index.applied(&self.session.cluster, self.key, live, wanted));
    }
}

/// Takes an object away, or takes the engine's marks off it.
async fn remove(engine: &Engine, session: &Session, key: &Key, live: &LiveObject, preserve: bool) -> WorkResult {
    let Some((resource, namespace)) = resource_of(engine, session, key) else { return WorkResult::Stuck };
    let target = Target { resource: &resource, namespace, name: &key.name };
    let removal = match namespace_removal::check(engine, session, key, live, preserve).await {
        Ok(removal) => removal,
        Err(error) => return handle_error(engine, session, key, &error, Attempt::NotRemoved),
    };
    let (preserve, version) = match &removal {
        NamespaceRemoval::NotChecked => (preserve, None),
        NamespaceRemoval::Allowed => (false, Some(live.version)),
        NamespaceRemoval::InUse(_) => (true, None),
        NamespaceRemoval::RecheckAfter(pause) => return WorkResult::RequeueAfter(*pause),
    };
    let result = if preserve {
        session.rest.merge(&target, &unmark(live.uid.as_str())).await.map(|_| None)
    } else {
        session.rest.delete(&target, &live.uid, version).await
    };
    if let (NamespaceRemoval::InUse(why), Ok(_)) = (&removal, &result) {
        namespace_removal::publish_kept(engine, session, key, why).await;
    }
    match result {
        Ok(Some(object)) if is_named(&object, key) => {
            // On its way out; the watch tells when it is gone.
            engine.change(|index| index.put_live(&session.cluster, key, LiveObject::of(object), false));
            WorkResult::Done
        }
        Ok(_) => {
            engine.change(|index| index.remove_live(&session.cluster, key, Some((live.uid.clone(), live.version))));
            tracing::debug!(cluster = %session.cluster, object = %key, preserve, "removed");
            WorkResult::Done
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            engine.change(|index| index.remove_live(&session.cluster, key, Some((live.uid.clone(), live.version))));
            WorkResult::Done
        }
        // A namesake took its place: the watch is about to tell.
        Err(error) if is_conflict(&error) => WorkResult::Failed,
        Err(error) => handle_error(engine, session, key, &error, Attempt::NotRemoved),
    }
}

fn handle_error(
    engine: &Engine,
    session: &Session,
    key: &Key,
    error: &kube::Error,
    attempt: impl FnOnce(String) -> Attempt,
) -> WorkResult {
    let message = chain(error);
    tracing::debug!(cluster = %session.cluster, object = %key, error = message, "not done; trying again");
    if is_unanswered(error) || matches!(error, kube::Error::Api(status) if status.code == 401) {
        // Whether the cluster is there is for the probe to say.
        session.probe();
        return WorkResult::Failed;
    }
    if is_kind_missing(error) {
        session.kind_missing();
    }
    engine.change(|index| index.attempted(&session.cluster, key, attempt(message)));
    if is_refused(error) { WorkResult::Stuck } else { WorkResult::Failed }
}

fn record_failure(engine: &Engine, session: &Session, key: &Key, why: String) {
    engine.change(|index| index.attempted(&session.cluster, key, Attempt::Failed(why)));
}

/// Remembers that a create is under way, so that nobody takes the object for gone meanwhile.
struct InFlight<'a> {
    engine: &'a Engine,
    session: &'a Session,
    key: Key,
}

impl<'a> InFlight<'a> {
    fn begin(engine: &'a Engine, session: &'a Session, key: &Key) -> Self {
        engine.index().member_mut(&session.cluster).in_flight.insert(key.clone());
        Self { engine, session, key: key.clone() }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.engine.change(|index| {
            index.member_mut(&self.session.cluster).in_flight.remove(&self.key);
            // Who waited for it may go on.
            let waiting = index.is_awaited(&self.session.cluster, &self.key);
            Requeues { schedule: waiting.then(|| self.key.clone()).into_iter().collect(), ..Requeues::default() }
        });
    }
}

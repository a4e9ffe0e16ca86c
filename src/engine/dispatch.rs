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
use super::member::Session;
use super::model::Live;
use super::queue::Outcome;
use super::rest::{Target, is_kind_missing, is_namespace_missing, is_refused, is_unanswered};
use super::stamp::unstamp;
use super::vacate::{self, Vacancy};
use crate::karmada::MANAGED_LABEL;
use crate::machinery::error::{chain, is_conflict};

/// How long an object is left alone that must not be adopted: nothing tells when it goes.
const CONFLICT_RECHECK: Duration = Duration::from_secs(60);

/// How often an update is built anew on what is there now, before it waits for its turn.
const UPDATE_ATTEMPTS: u32 = 3;

/// What is known when work on an object begins.
enum Begin {
    Nothing,
    Refused(String),
    Remove { live: Arc<Live>, preserve: bool },
    Create(Manifest),
    Update { manifest: Manifest, live: Option<Arc<Live>>, repair: Option<Repair> },
}

/// Brings one object of a member to what is wanted of it. IO.
pub(super) async fn run(engine: Arc<Engine>, session: Arc<Session>, key: Key) -> Outcome {
    let begin = begin(&engine, &session, &key);
    let (manifest, live) = match begin {
        Begin::Nothing => return Outcome::Done,
        Begin::Refused(why) => {
            failed(&engine, &session, &key, why);
            return Outcome::Done;
        }
        Begin::Remove { live, preserve } => return remove(&engine, &session, &key, &live, preserve).await,
        Begin::Create(manifest) => (manifest, None),
        Begin::Update { manifest, live, repair } => {
            let wait = repair.map(|repair| repair_backoff(repair.count, repair.at, engine.now())).unwrap_or_default();
            if !wait.is_zero() {
                return Outcome::Again(wait);
            }
            (manifest, Some(live))
        }
    };
    let Some((resource, namespace)) = resource_of(&engine, &session, &key) else { return Outcome::Stuck };
    let target = Target { resource: &resource, namespace, name: &key.name };
    let write = Write { engine: &engine, session: &session, key: &key, target: &target, manifest: &manifest };
    let result = match live {
        None => write.create().await,
        Some(known) => match write.update().await {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => match known {
                Some(live) => {
                    engine.change(|index| {
                        index.remove_live(&session.cluster, &key, Some((live.uid.clone(), live.version)))
                    });
                    Ok(Outcome::Done)
                }
                None => write.create().await,
            },
            Err(error) => Err(error),
        },
    };
    result.unwrap_or_else(|error| fail(&engine, &session, &key, &error, Attempt::Failed))
}

/// Decides what to do, and whether there is anything to do. Pure but for the lock.
fn begin(engine: &Engine, session: &Session, key: &Key) -> Begin {
    let (step, live, repair, attempt) = {
        let mut index = engine.index();
        let Some(member) = index.member(&session.cluster) else { return Begin::Nothing };
        let live = member.live.get(key).cloned();
        if !member.reachable || (live.is_none() && !member.synced.contains(&key.kind)) {
            // Whether it is there is known when all objects of the kind are.
            index.postpone(&session.cluster, key);
            return Begin::Nothing;
        }
        let (repair, attempt) = (member.repairs.get(key).copied(), member.attempts.get(key).cloned());
        (desired_state(&index, &session.cluster, key), live, repair, attempt)
    };
    if key.kind.is_namespace() && !matches!(step, DesiredState::Remove { .. }) {
        // When it is to go another time, the wait begins anew.
        session.forget_occupied(key);
    }
    match step {
        DesiredState::Keep => Begin::Nothing,
        DesiredState::Remove { preserve } => match live {
            Some(live) if (preserve || !live.deleting) && engine.index().is_ours(&live, key) => {
                let preserve = is_preserved(&live, key, preserve);
                Begin::Remove { live, preserve }
            }
            _ => Begin::Nothing,
        },
        DesiredState::Apply(inputs) => {
            let manifest = match inputs.render(key) {
                Ok(manifest) => manifest,
                Err(error) => {
                    let note = format!("not applied in cluster {}: {error}", session.cluster);
                    engine.events.send(key, inputs.template_uid(), Reason::ApplyOverridePolicyFailed, note);
                    return Begin::Refused(error.to_string());
                }
            };
            let Some(live) = live else {
                // A namespace is likely to be there already, made by the member's own people.
                let exists = matches!(attempt, Some(Attempt::Conflict(_))) || key.kind.is_namespace();
                return if exists {
                    Begin::Update { manifest, live: None, repair: None }
                } else {
                    Begin::Create(manifest)
                };
            };
            if live.deleting {
                // It is made anew when it is gone.
                return Begin::Nothing;
            }
            if let Err(why) = check_adoption(&live, true, &engine.plane, &manifest, &session.cluster) {
                return Begin::Refused(why);
            }
            if live.settled() == Some(manifest.hash) || holds(&live, &manifest) {
                let settled = live.settled() == Some(manifest.hash) && attempt == Some(Attempt::Applied);
                if !settled {
                    engine.change(|index| index.settle(&session.cluster, key, live.hash, manifest.hash));
                }
                return Begin::Nothing;
            }
            if keeps_last_manifest(&live, &manifest) {
                return Begin::Nothing;
            }
            let repair = repair.filter(|repair| repair.wanted == manifest.hash);
            Begin::Update { manifest, live: Some(live), repair }
        }
    }
}

/// The kind as the member serves it.
fn resource_of<'a>(engine: &Engine, session: &Session, key: &'a ObjectKey) -> Option<(ApiResource, Option<&'a str>)> {
    let Some((resource, namespaced)) = session.resource(&key.kind) else {
        session.kind_missing();
        let shared = Arc::new(key.clone());
        failed(engine, session, &shared, format!("cluster {} does not serve {}", session.cluster, key.kind));
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
    async fn create(&self) -> Result<Outcome, kube::Error> {
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
                self.tell_overrides();
                tracing::debug!(cluster = %session.cluster, object = %key, "created");
                Ok(Outcome::Done)
            }
            Err(error) if is_conflict(&error) => Ok(self.update().await?.unwrap_or(Outcome::Failed)),
            Err(error) => Err(error),
        }
    }

    /// Reads the object that is there and brings it to what is wanted; nothing when there is none.
    async fn update(&self) -> Result<Option<Outcome>, kube::Error> {
        let Self { engine, session, key, target, manifest } = *self;
        for _ in 0..UPDATE_ATTEMPTS {
            let Some(object) = session.rest.get(target).await? else { return Ok(None) };
            let live = Live::of(object.clone());
            if live.deleting {
                let why = format!("an object of this name is being deleted in cluster {}", session.cluster);
                failed(engine, session, key, why);
                return Ok(Some(Outcome::Failed));
            }
            let labels = object.pointer("/metadata/labels");
            let labelled = labels.and_then(|all| all.get(MANAGED_LABEL)).and_then(Value::as_str) == Some("true");
            let adoption = match check_adoption(&live, labelled, &engine.plane, manifest, &session.cluster) {
                Ok(adoption) => adoption,
                Err(why) => {
                    engine.change(|index| index.attempted(&session.cluster, key, Attempt::Conflict(why)));
                    return Ok(Some(Outcome::Again(CONFLICT_RECHECK)));
                }
            };
            let update = update_of(&object, manifest, key.kind.is_namespace(), adoption);
            if !update.differs {
                self.written(object);
                return Ok(Some(Outcome::Done));
            }
            match session.rest.replace(target, update.object.to_string().into_bytes()).await {
                Ok(object) => {
                    self.count_repair();
                    self.written(object);
                    self.tell_overrides();
                    tracing::debug!(cluster = %session.cluster, object = %key, "updated");
                    return Ok(Some(Outcome::Done));
                }
                // Changed since it was read, most likely its status.
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Outcome::Failed))
    }

    /// Counts a repair when the wanted state is what it was: then it is the live object that somebody changed.
    fn count_repair(&self) {
        let (wanted, now) = (self.manifest.hash, self.engine.now());
        if self.engine.index().count_repair(&self.session.cluster, self.key, wanted, now) {
            tracing::info!(cluster = %self.session.cluster, object = %self.key, "found changed; repaired");
        }
    }

    /// Tells which override policies made the object differ from its template.
    fn tell_overrides(&self) {
        let Self { engine, session, key, manifest, .. } = *self;
        if !manifest.overridden_by.is_empty() {
            let note = format!("applied in cluster {}: {}", session.cluster, manifest.overridden_by.join(", "));
            engine.events.send(key, &manifest.template, Reason::ApplyOverridePolicySucceed, note);
        }
    }

    /// Remembers an object that is as wanted.
    fn written(&self, object: Value) {
        let (live, wanted) = (Live::of(object), self.manifest.hash);
        self.engine.change(|index| index.applied(&self.session.cluster, self.key, live, wanted));
    }
}

/// Takes an object away, or takes the engine's marks off it.
async fn remove(engine: &Engine, session: &Session, key: &Key, live: &Live, preserve: bool) -> Outcome {
    let Some((resource, namespace)) = resource_of(engine, session, key) else { return Outcome::Stuck };
    let target = Target { resource: &resource, namespace, name: &key.name };
    let vacancy = match vacate::look(engine, session, key, live, preserve).await {
        Ok(vacancy) => vacancy,
        Err(error) => return fail(engine, session, key, &error, Attempt::NotRemoved),
    };
    let (preserve, version) = match &vacancy {
        Vacancy::NotAsked => (preserve, None),
        Vacancy::Vacant => (false, Some(live.version)),
        Vacancy::Occupied(_) => (true, None),
        Vacancy::Wait(pause) => return Outcome::Again(*pause),
    };
    let result = if preserve {
        session.rest.merge(&target, &unstamp(live.uid.as_str())).await.map(|_| None)
    } else {
        session.rest.delete(&target, &live.uid, version).await
    };
    if let (Vacancy::Occupied(why), Ok(_)) = (&vacancy, &result) {
        vacate::tell(engine, session, key, why).await;
    }
    match result {
        Ok(Some(object)) if is_named(&object, key) => {
            // On its way out; the watch tells when it is gone.
            engine.change(|index| index.put_live(&session.cluster, key, Live::of(object), false));
            Outcome::Done
        }
        Ok(_) => {
            engine.change(|index| index.remove_live(&session.cluster, key, Some((live.uid.clone(), live.version))));
            tracing::debug!(cluster = %session.cluster, object = %key, preserve, "removed");
            Outcome::Done
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            engine.change(|index| index.remove_live(&session.cluster, key, Some((live.uid.clone(), live.version))));
            Outcome::Done
        }
        // A namesake took its place: the watch is about to tell.
        Err(error) if is_conflict(&error) => Outcome::Failed,
        Err(error) => fail(engine, session, key, &error, Attempt::NotRemoved),
    }
}

fn fail(
    engine: &Engine,
    session: &Session,
    key: &Key,
    error: &kube::Error,
    attempt: impl FnOnce(String) -> Attempt,
) -> Outcome {
    let message = chain(error);
    tracing::debug!(cluster = %session.cluster, object = %key, error = message, "not done; trying again");
    if is_unanswered(error) || matches!(error, kube::Error::Api(status) if status.code == 401) {
        // Whether the cluster is there is for the probe to say.
        session.probe();
        return Outcome::Failed;
    }
    if is_kind_missing(error) {
        session.kind_missing();
    }
    engine.change(|index| index.attempted(&session.cluster, key, attempt(message)));
    if is_refused(error) { Outcome::Stuck } else { Outcome::Failed }
}

fn failed(engine: &Engine, session: &Session, key: &Key, why: String) {
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

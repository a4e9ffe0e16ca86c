//! Joins clusters to instances, as `MemberClusterJoin` asks, and lets them go.
//!
//! With administrator's rights from a kubeconfig, an identity for the plane is made in the member; its token and the
//! Cluster are written into the plane, and from there on the plane's own components do the work. What is written in
//! the plane is watched and repaired at once; what is written in the member is looked at every few minutes, and when
//! the plane finds the member not ready. A member that fails delays nobody: each has its own client, deadline and
//! backoff.

pub mod apply;
pub mod error;
mod leave;
pub mod observe;
pub mod plan;
pub mod status;
pub mod unjoin;
pub mod validate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use self::apply::Issued;
use self::error::Error;
use self::observe::{Access, Holder, LiveCluster, Verified};
use self::plan::{MEMBER_LABEL, MEMBER_NAMESPACE_LABEL, label_of};
use self::status::{Facts, Progress};
use self::validate::{LocalEndpoints, instance_key};
use super::changes::Changes;
use super::{Context, finalizer};
use crate::api::KarmadaInstance;
use crate::api::member::MemberClusterJoin;
use crate::karmada::Cluster;
use crate::runtime::conditions::is_true;
use crate::runtime::controller::{self, Failure, Guarded, Next, Reconcile};
use crate::runtime::planes::{InstanceKey, Plane};
use crate::runtime::status::StatusWriter;

/// Finalizer of every membership that may have written something.
pub const FINALIZER: &str = "airdock.dev/member";

/// How many memberships are worked on at once.
const CONCURRENCY: u16 = 32;

/// How long what was found in a member holds, while the plane finds the member ready.
const VERIFY_EVERY: Duration = Duration::from_secs(240);

/// The same while the plane does not.
const VERIFY_UNREADY_EVERY: Duration = Duration::from_secs(15);

/// How soon the member is asked again for tokens that it has not issued yet.
const TOKEN_POLL: Duration = Duration::from_millis(150);

/// How soon it is asked again whether a namespace is gone.
const NAMESPACE_POLL: Duration = Duration::from_millis(500);

/// How long a member may take to answer in one round.
const MEMBER_DEADLINE: Duration = Duration::from_secs(20);

/// Runs until shutdown.
pub async fn run(context: Context) {
    run_with(context, LocalEndpoints::Refused).await;
}

/// Runs until shutdown; `local` tells whether members on this very machine are accepted.
pub async fn run_with(context: Context, local: LocalEndpoints) {
    let host = context.host.0.clone();
    let (instances, writer) = reflector::store();
    let instance_events = reflector::reflector(
        writer,
        watcher(Api::<Guarded<KarmadaInstance>>::all(host.clone()), watcher::Config::default()),
    )
    .default_backoff()
    .touched_objects();
    let joins = Api::<Guarded<MemberClusterJoin>>::all(host.clone());
    let controller = Controller::new(joins, watcher::Config::default());
    let store = controller.store();
    let by_instance = {
        let (store, changes) = (store.clone(), Changes::default());
        move |event: Result<Guarded<KarmadaInstance>, watcher::Error>| {
            // An interrupted watch resumes by itself.
            let key = event.ok().and_then(|instance| changes.of_instance(&instance));
            let joins = key.map(|key| matching(&store, |join| instance_key(join) == key));
            futures::stream::iter(joins.unwrap_or_default())
        }
    };
    let by_secret = {
        let store = store.clone();
        move |secret: PartialObjectMeta<Secret>| {
            let (namespace, name) = (secret.namespace(), secret.name_any());
            matching(&store, |join| join.namespace() == namespace && join.spec.kubeconfig_secret_ref.name == name)
        }
    };
    let ours = watcher::Config::default().labels(MEMBER_LABEL);
    let clusters = context.planes.triggers((), ours.clone(), by_labels::<PartialObjectMeta<Cluster>>(&store));
    let credentials = context.planes.triggers((), ours, by_labels::<PartialObjectMeta<Secret>>(&store));
    let controller = controller
        .watches(Api::<PartialObjectMeta<Secret>>::all(host.clone()), watcher::Config::default(), by_secret)
        .reconcile_on(instance_events.flat_map(by_instance))
        .reconcile_on(clusters)
        .reconcile_on(credentials);
    let options = context.options(CONCURRENCY);
    let reconciler = Members {
        status: StatusWriter::new(host, Members::NAME),
        context,
        joins: store,
        instances,
        local,
        known: Mutex::default(),
    };
    controller::run(controller, reconciler, options).await;
}

fn matching(
    store: &Store<Guarded<MemberClusterJoin>>,
    wanted: impl Fn(&MemberClusterJoin) -> bool,
) -> Vec<ObjectRef<Guarded<MemberClusterJoin>>> {
    let parsed = |guarded: &Arc<Guarded<MemberClusterJoin>>| guarded.0.as_ref().is_ok_and(&wanted);
    store
        .state()
        .iter()
        .filter(|guarded| parsed(guarded))
        .map(|guarded| ObjectRef::from_obj(guarded.as_ref()))
        .collect()
}

/// From an object of a plane to the membership that it was made for.
fn by_labels<W: Resource>(
    store: &Store<Guarded<MemberClusterJoin>>,
) -> impl Fn(&InstanceKey, &W) -> Vec<ObjectRef<Guarded<MemberClusterJoin>>> + Send + Sync + 'static + use<W> {
    let store = store.clone();
    move |_, object| {
        let namespace = object.labels().get(MEMBER_NAMESPACE_LABEL);
        let Some(name) = object.labels().get(MEMBER_LABEL) else { return Vec::new() };
        matching(&store, |join| join.namespace().as_ref() == namespace && label_of(&join.name_any()) == *name)
    }
}

struct Members {
    context: Context,
    status: StatusWriter,
    joins: Store<Guarded<MemberClusterJoin>>,
    instances: Store<Guarded<KarmadaInstance>>,
    local: LocalEndpoints,
    /// By uid of the membership. Memory alone.
    known: Mutex<HashMap<String, Known>>,
}

/// What is remembered of a member to spare requests.
#[derive(Clone, Debug)]
struct Known {
    access: Access,
    verified: Option<Verified>,
}

impl Reconcile for Members {
    type Object = MemberClusterJoin;
    const NAME: &'static str = "memberclusterjoin";

    async fn reconcile(&self, join: Arc<MemberClusterJoin>) -> Result<Next, Failure> {
        let mut facts = Facts::default();
        let outcome = if join.metadata.deletion_timestamp.is_some() {
            match self.leave(&join, &mut facts).await {
                Ok(None) => {
                    self.forget(&join);
                    return Ok(Next::OnEvent);
                }
                Ok(Some(progress)) => Ok(progress),
                Err(error) => Err(error),
            }
        } else {
            self.join(&join, &mut facts).await
        };
        let status = status::status(&join, &facts, outcome.as_ref());
        let written = self.status.write(join.as_ref(), status).await;
        let progress = outcome?;
        written.map_err(|source| Error::Host { what: "write the status", source })?;
        Ok(next(&join, &facts, &progress))
    }
}

fn next(join: &MemberClusterJoin, facts: &Facts, progress: &Progress) -> Next {
    match progress {
        Progress::AwaitingTokens => Next::After(TOKEN_POLL),
        Progress::AwaitingNamespace => Next::After(NAMESPACE_POLL),
        Progress::Rejoining => Next::OnEvent,
        Progress::Leaving { normal: true, .. } => Next::After(Duration::from_secs(5)),
        Progress::Leaving { normal: false, .. } => Next::After(leave::recheck(join)),
        Progress::Joined if facts.cluster.as_ref().is_some_and(plane_finds_ready) => Next::After(VERIFY_EVERY),
        Progress::Joined => Next::After(VERIFY_UNREADY_EVERY),
    }
}

fn plane_finds_ready(cluster: &Cluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| is_true(&status.conditions, "Ready"))
}

impl Members {
    /// One round towards being joined.
    async fn join(&self, join: &MemberClusterJoin, facts: &mut Facts) -> Result<Progress, Error> {
        validate::spec(&join.spec, self.local)?;
        let key = instance_key(join);
        let (instance, plane) = self.instance_and_plane(join, &key).await?;
        let live = self.own_cluster(join, &key, &plane).await?;
        facts.cluster = live.as_ref().map(|live| live.typed.clone());
        if let Some(live) = &live
            && live.typed.metadata.deletion_timestamp.is_some()
        {
            return Ok(Progress::Rejoining);
        }
        if live.is_none()
            && let Some(message) = observe::not_ready(&instance)
        {
            return Err(Error::InstanceNotReady { instance: key.to_string(), message });
        }
        let access = self.access(join).await?;
        let work = self.verified(join, &key, &plane, live.as_ref(), &access);
        let verified = within_deadline(&access, work).await?;
        facts.endpoint = Some(access.endpoint.clone());
        let verified = match verified {
            Ok(verified) => verified,
            Err(waiting) => return Ok(waiting),
        };
        facts.id = Some(verified.identity.id.clone());
        facts.version = Some(verified.identity.version.clone());
        let live_value = live.as_ref().and_then(|live| serde_json::to_value(&live.object).ok());
        let wanted = plan::cluster(join, &verified.identity.id, &access.endpoint, live_value.as_ref());
        let cluster = apply::register(&plane, join, &verified.tokens, wanted, live.as_ref()).await?;
        facts.cluster = Some(cluster);
        Ok(Progress::Joined)
    }

    async fn instance_and_plane(
        &self,
        join: &MemberClusterJoin,
        key: &InstanceKey,
    ) -> Result<(KarmadaInstance, Arc<Plane>), Error> {
        let instance = self.instance(join, key).await?;
        if instance.metadata.deletion_timestamp.is_some() {
            return Err(Error::InstanceDeleting { instance: key.to_string() });
        }
        let plane = observe::plane(&self.context.planes, &instance, key)?;
        Ok((instance, plane))
    }

    async fn instance(&self, join: &MemberClusterJoin, key: &InstanceKey) -> Result<KarmadaInstance, Error> {
        // The cache may still be filling just after start; an error means that the process is ending.
        let _ = self.instances.wait_until_ready().await;
        let found = observe::instance(&self.instances, key, &join.namespace().unwrap_or_default())?;
        found.0.as_ref().cloned().map_err(|_| Error::InstanceMissing { instance: key.to_string() })
    }

    /// The Cluster, when it is there and this membership's.
    async fn own_cluster(
        &self,
        join: &MemberClusterJoin,
        key: &InstanceKey,
        plane: &Plane,
    ) -> Result<Option<LiveCluster>, Error> {
        let all = self.joins.state();
        let older = validate::older_claim(join, all.iter().filter_map(|guarded| guarded.0.as_ref().ok()));
        let taken = |holder: String| Error::NameTaken {
            name: join.spec.cluster_name.clone(),
            instance: key.to_string(),
            holder,
        };
        if let Some(holder) = older {
            return Err(taken(format!("MemberClusterJoin {holder}")));
        }
        let live = observe::cluster(plane, &join.spec.cluster_name).await?;
        match live.as_ref().map(|live| observe::holder(join, &live.typed)) {
            Some(Holder::Other(holder)) => Err(taken(holder)),
            Some(Holder::Us) | None => Ok(live),
        }
    }

    async fn access(&self, join: &MemberClusterJoin) -> Result<Access, Error> {
        let known = self.known(join).map(|known| known.access);
        let access =
            observe::access(&self.context.host.0, &self.context.factory, join, self.local, known.as_ref()).await?;
        if known.is_none_or(|known| known.digest != access.digest) {
            self.remember(join, Known { access: access.clone(), verified: None });
        }
        Ok(access)
    }

    /// Who the member is and the credentials made there, from memory where that is fresh; or what is awaited.
    async fn verified(
        &self,
        join: &MemberClusterJoin,
        key: &InstanceKey,
        plane: &Plane,
        live: Option<&LiveCluster>,
        access: &Access,
    ) -> Result<Result<Verified, Progress>, Error> {
        let ready = live.is_some_and(|live| plane_finds_ready(&live.typed));
        let fresh = if ready { VERIFY_EVERY } else { VERIFY_UNREADY_EVERY }.mul_f64(0.9);
        let known = self.known(join).and_then(|known| known.verified).filter(|verified| {
            verified.at.elapsed() < fresh
                && verified.generation == join.metadata.generation
                && verified.digest == access.digest
                && live.is_some()
        });
        if let Some(known) = known {
            return Ok(Ok(known));
        }
        let identity = observe::identity(access).await?;
        match live.and_then(|live| live.typed.spec.id.clone()) {
            Some(expected) if expected != identity.id => {
                return Err(Error::AnotherCluster { expected, found: identity.id });
            }
            Some(_) => {}
            None => {
                if let Some(other) = observe::same_cluster(plane, &identity.id, &join.spec.cluster_name).await? {
                    return Err(Error::AlreadyJoined { id: identity.id, instance: key.to_string(), other });
                }
            }
        }
        finalizer::add(&self.context.host.0, join, FINALIZER)
            .await
            .map_err(|source| Error::Host { what: "set the finalizer", source })?;
        let tokens = match apply::identity(access, join, key).await? {
            Issued::Tokens(tokens) => tokens,
            Issued::NotYet => return Ok(Err(Progress::AwaitingTokens)),
            Issued::NamespaceEnding => return Ok(Err(Progress::AwaitingNamespace)),
        };
        let verified = Verified {
            at: Instant::now(),
            generation: join.metadata.generation,
            digest: access.digest,
            identity,
            tokens,
        };
        self.remember(join, Known { access: access.clone(), verified: Some(verified.clone()) });
        Ok(Ok(verified))
    }

    fn known(&self, join: &MemberClusterJoin) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&join.uid().unwrap_or_default()).cloned()
    }

    fn remember(&self, join: &MemberClusterJoin, what: Known) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(join.uid().unwrap_or_default(), what);
    }

    fn forget(&self, join: &MemberClusterJoin) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&join.uid().unwrap_or_default());
    }
}

/// A member that takes connections and never answers must not use up the whole round.
async fn within_deadline<T>(access: &Access, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(MEMBER_DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::MemberSilent { endpoint: access.server.clone(), seconds: MEMBER_DEADLINE.as_secs() }),
    }
}

//! Gives people and machines a role in planes and members alike, as `PermissionBinding` asks, and takes it away.
//!
//! In each plane the role is a RoleBinding per namespace (or one ClusterRoleBinding) to Kubernetes' own roles, and a
//! propagation policy that carries it into the members that are meant; the plane repairs it there. What is written
//! in planes is watched and repaired at once. A plane that does not answer delays nobody else's.
//!
//! How far a binding reaches is decided by where it is written: the instances of its own namespace, and those of
//! other namespaces that allow it, there only the namespace of the same name. Whoever may write bindings beside an
//! instance rules that instance: `*` with Editor or Admin includes the credentials of the members.

pub mod apply;
pub mod error;
pub mod observe;
pub mod plan;
pub mod status;
pub mod summary;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};

use self::error::{Error, InstanceError};
use self::status::{Round, Served};
use super::changes::Changes;
use super::{Context, finalizer};
use crate::api::permission::PermissionBinding;
use crate::api::{KarmadaInstance, PERMISSION_LABEL, PERMISSION_NAMESPACE_LABEL};
use crate::karmada::{Cluster, ClusterPropagationPolicy, ClusterResourceBinding, PropagationPolicy, ResourceBinding};
use crate::runtime::apply::Applier;
use crate::runtime::controller::{self, Failure, Guarded, Next, Reconcile};
use crate::runtime::planes::{InstanceKey, Plane};
use crate::runtime::status::StatusWriter;

/// Finalizer of every binding that may have written something.
pub const FINALIZER: &str = "airdock.dev/permission";

/// How many bindings are worked on at once.
const CONCURRENCY: u16 = 16;

/// How long one plane may take in one round.
const PLANE_DEADLINE: Duration = Duration::from_secs(20);

/// How long a binding that is about to expire waits at most after a failure.
const URGENT: Duration = Duration::from_secs(10);

type Object = Guarded<PermissionBinding>;

/// Runs until shutdown.
pub async fn run(context: Context) {
    let host = context.host.0.clone();
    let (instances, writer) = reflector::store();
    let watch = watcher(Api::<Guarded<KarmadaInstance>>::all(host.clone()), watcher::Config::default());
    let instance_events = reflector::reflector(writer, watch).default_backoff().touched_objects();
    let controller = Controller::new(Api::<Object>::all(host.clone()), watcher::Config::default());
    let store = controller.store();
    let by_instance = {
        let (store, changes) = (store.clone(), Changes::default());
        move |event: Result<Guarded<KarmadaInstance>, watcher::Error>| {
            // An interrupted watch resumes by itself.
            let key = event.ok().and_then(|instance| changes.of_instance(&instance));
            futures::stream::iter(key.map(|key| meaning(&store, &key)).unwrap_or_default())
        }
    };
    let ours = watcher::Config::default().labels(PERMISSION_LABEL);
    let planes = &context.planes;
    let controller = controller
        .reconcile_on(instance_events.flat_map(by_instance))
        .reconcile_on(planes.triggers((), ours.clone(), by_labels::<PartialObjectMeta<RoleBinding>>(&store)))
        .reconcile_on(planes.triggers((), ours.clone(), by_labels::<PartialObjectMeta<ClusterRoleBinding>>(&store)))
        .reconcile_on(planes.triggers((), ours.clone(), by_labels::<PartialObjectMeta<ClusterRole>>(&store)))
        .reconcile_on(planes.triggers((), ours.clone(), by_labels::<PartialObjectMeta<PropagationPolicy>>(&store)))
        .reconcile_on(planes.triggers((), ours, by_labels::<PartialObjectMeta<ClusterPropagationPolicy>>(&store)))
        .reconcile_on(planes.triggers((), watcher::Config::default(), by_cluster(&store)))
        .reconcile_on(planes.triggers(
            (),
            watcher::Config::default(),
            by_copy::<PartialObjectMeta<ResourceBinding>>(&store, "-rolebinding"),
        ))
        .reconcile_on(planes.triggers(
            (),
            watcher::Config::default(),
            by_copy::<PartialObjectMeta<ClusterResourceBinding>>(&store, "-clusterrolebinding"),
        ));
    let options = context.options(CONCURRENCY);
    let reconciler = Permissions { status: StatusWriter::new(host, Permissions::NAME), context, instances };
    controller::run(controller, reconciler, options).await;
}

fn matching(store: &Store<Object>, wanted: impl Fn(&PermissionBinding) -> bool) -> Vec<ObjectRef<Object>> {
    let parsed = |guarded: &Arc<Object>| guarded.0.as_ref().is_ok_and(&wanted);
    store
        .state()
        .iter()
        .filter(|guarded| parsed(guarded))
        .map(|guarded| ObjectRef::from_obj(guarded.as_ref()))
        .collect()
}

/// From an object of a plane to the binding that it was made for.
fn by_labels<W: Resource>(
    store: &Store<Object>,
) -> impl Fn(&InstanceKey, &W) -> Vec<ObjectRef<Object>> + Send + Sync + 'static + use<W> {
    let store = store.clone();
    move |_, object| {
        let (Some(namespace), Some(name)) =
            (object.labels().get(PERMISSION_NAMESPACE_LABEL), object.labels().get(PERMISSION_LABEL))
        else {
            return Vec::new();
        };
        let reference = ObjectRef::new(name).within(namespace);
        store.get(&reference).map(|_| reference).into_iter().collect()
    }
}

/// From a plane's binding of a RoleBinding to members, by its name, to the permission behind it.
fn by_copy<W: Resource>(
    store: &Store<Object>,
    suffix: &'static str,
) -> impl Fn(&InstanceKey, &W) -> Vec<ObjectRef<Object>> + Send + Sync + 'static + use<W> {
    let store = store.clone();
    move |_, object| {
        let name = object.name_any();
        let Some(name) = name.strip_suffix(suffix) else { return Vec::new() };
        matching(&store, |binding| plan::object_name(binding) == name)
    }
}

/// From a Cluster to all bindings that may mean its instance, when it changed in a way that matters: many other
/// things happen to Clusters.
fn by_cluster(
    store: &Store<Object>,
) -> impl Fn(&InstanceKey, &PartialObjectMeta<Cluster>) -> Vec<ObjectRef<Object>> + Send + Sync + 'static + use<> {
    let (store, changes) = (store.clone(), Changes::default());
    move |instance, cluster| {
        let meta = cluster.meta();
        let what = (&meta.uid, meta.generation, &meta.labels, &meta.deletion_timestamp);
        if changes.is_new(&format!("{instance}/{}", cluster.name_any()), &what) {
            meaning(&store, instance)
        } else {
            Vec::new()
        }
    }
}

/// The bindings that may mean an instance, and those that have something there.
fn meaning(store: &Store<Object>, instance: &InstanceKey) -> Vec<ObjectRef<Object>> {
    matching(store, |binding| {
        let selection = &binding.spec.scope.instances;
        let namespace = selection.namespace.clone().or_else(|| binding.namespace());
        let meant = namespace.as_ref() == Some(&instance.namespace)
            && (selection.names.is_empty() || selection.names.contains(&instance.name));
        meant || status::listed(binding).contains(instance)
    })
}

struct Permissions {
    context: Context,
    status: StatusWriter,
    instances: Store<Guarded<KarmadaInstance>>,
}

impl Reconcile for Permissions {
    type Object = PermissionBinding;
    const NAME: &'static str = "permissionbinding";

    async fn reconcile(&self, binding: Arc<PermissionBinding>) -> Result<Next, Failure> {
        // The cache may still be filling just after start; an error means that the process is ending.
        let _ = self.instances.wait_until_ready().await;
        if binding.metadata.deletion_timestamp.is_some() {
            return self.leave(&binding).await.map_err(Failure::from);
        }
        let until = match validate::spec(&binding.spec) {
            Ok(until) => until,
            Err(error) => {
                self.write(&binding, status::refused(&binding, &error)).await?;
                return Err(error.into());
            }
        };
        let round = self.round(&binding, until).await?;
        let now = Timestamp::now();
        self.write(&binding, status::status(&binding, &round, now)).await?;
        let left = until.filter(|_| round.expired.is_none()).map(|until| remaining(until, now));
        match (round.failure(), round.problem) {
            // The end of a role does not wait for a backoff.
            (Some(_), _) if left.is_some_and(|left| left < Duration::from_secs(300)) => {
                Ok(Next::After(left.unwrap_or(URGENT).min(URGENT)))
            }
            (Some(error), _) | (None, Some(error)) => Err(error.into()),
            (None, None) => Ok(left.map_or(Next::OnEvent, Next::After)),
        }
    }
}

/// Time until the end, and a moment beyond, so that it is over by then. Pure.
fn remaining(until: Timestamp, now: Timestamp) -> Duration {
    let left = until.as_millisecond().saturating_sub(now.as_millisecond());
    Duration::from_millis(u64::try_from(left).unwrap_or(0)) + Duration::from_millis(20)
}

impl Permissions {
    /// One round over all planes: those that are meant are served, the others left.
    async fn round(&self, binding: &PermissionBinding, until: Option<Timestamp>) -> Result<Round, Error> {
        let expired = until.filter(|until| *until <= Timestamp::now());
        let all = self.instances.state();
        let mut round = Round { expired, ..Round::default() };
        let mut serve = Vec::new();
        if expired.is_none() {
            match validate::select(binding, all.iter().filter_map(|guarded| guarded.0.as_ref().ok())) {
                Ok(selected) => {
                    for (key, instance) in selected {
                        match instance
                            .and_then(|instance| Ok((instance, observe::plane(&self.context.planes, instance, &key)?)))
                        {
                            Ok((instance, plane)) => serve.push((key, instance, plane)),
                            Err(error) => round.served.push((key, Err(error))),
                        }
                    }
                }
                Err(error) => round.problem = Some(error),
            }
        }
        if !serve.is_empty() {
            self.announce(binding, &serve.iter().map(|(key, ..)| key.clone()).collect::<Vec<_>>()).await?;
        }
        let serving = serve.iter().map(|(key, instance, plane)| async move {
            let work = within_deadline(serve_plane(plane, binding, instance));
            (key.clone(), work.await)
        });
        let leave = status::listed(binding)
            .into_iter()
            .filter(|key| !serve.iter().any(|(served, ..)| served == key))
            .filter(|key| !waits(&round, key));
        let leaving = leave.map(|key| async move {
            let result = within_deadline(self.leave_plane(&key, binding)).await;
            (key, result)
        });
        let (served, left) = tokio::join!(futures::future::join_all(serving), futures::future::join_all(leaving));
        round.served.extend(served);
        round.served.sort_by(|(a, _), (b, _)| a.cmp(b));
        round.left = left;
        Ok(round)
    }

    /// The finalizer and the list of planes, before the first write in any of them.
    async fn announce(&self, binding: &PermissionBinding, planes: &[InstanceKey]) -> Result<(), Error> {
        finalizer::add(&self.context.host.0, binding, FINALIZER)
            .await
            .map_err(|source| Error::Host { what: "set the finalizer", source })?;
        match status::announcing(binding, planes) {
            Some(status) => self.write(binding, status).await,
            None => Ok(()),
        }
    }

    async fn write(
        &self,
        binding: &PermissionBinding,
        status: crate::api::permission::PermissionBindingStatus,
    ) -> Result<(), Error> {
        self.status.write(binding, status).await.map_err(|source| Error::Host { what: "write the status", source })
    }

    /// Removes the role from a plane. One that is gone for good holds nothing.
    async fn leave_plane(&self, key: &InstanceKey, binding: &PermissionBinding) -> Result<(), InstanceError> {
        let reference = ObjectRef::<Guarded<KarmadaInstance>>::new(&key.name).within(&key.namespace);
        let Some(guarded) = self.instances.get(&reference) else { return Ok(()) };
        let Ok(instance) = guarded.0.as_ref() else { return Ok(()) };
        let going = instance.metadata.deletion_timestamp.is_some();
        let removed = async {
            let plane = observe::plane(&self.context.planes, instance, key)?;
            apply::remove(&applier(&plane), binding).await
        };
        match removed.await {
            Err(_) if going => Ok(()),
            result => result,
        }
    }

    /// One round towards being gone.
    async fn leave(&self, binding: &PermissionBinding) -> Result<Next, Error> {
        let leaving = status::listed(binding).into_iter().map(|key| async move {
            let result = within_deadline(self.leave_plane(&key, binding)).await;
            (key, result)
        });
        let round = Round { left: futures::future::join_all(leaving).await, ..Round::default() };
        if let Some(error) = round.failure() {
            self.write(binding, status::leaving(binding, &round)).await?;
            return Err(error);
        }
        finalizer::remove(&self.context.host.0, binding, FINALIZER)
            .await
            .map_err(|source| Error::Host { what: "remove the finalizer", source })?;
        Ok(Next::OnEvent)
    }
}

/// Whether a plane is meant, and only not to be had now: nothing is taken away there. Pure.
fn waits(round: &Round, key: &InstanceKey) -> bool {
    round.served.iter().any(|(served, result)| {
        served == key && matches!(result, Err(InstanceError::NotReady { .. } | InstanceError::Connecting(_)))
    })
}

fn applier(plane: &Plane) -> Applier {
    Applier::new(plane.client.clone(), "airdock.dev/permission")
}

async fn serve_plane(
    plane: &Plane,
    binding: &PermissionBinding,
    instance: &KarmadaInstance,
) -> Result<Served, InstanceError> {
    let observed = observe::observe(&plane.client, binding).await?;
    let wanted = plan::wanted(binding, instance.spec.profile, &observed.clusters).map_err(InstanceError::Serialize)?;
    let members = status::members(binding, &observed.clusters, &observed.copies);
    let applied = apply::apply(&applier(plane), plan::plan(wanted, observed.live)).await?;
    Ok(Served { applied, members })
}

async fn within_deadline<T>(work: impl Future<Output = Result<T, InstanceError>>) -> Result<T, InstanceError> {
    match tokio::time::timeout(PLANE_DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => Err(InstanceError::Silent(PLANE_DEADLINE.as_secs())),
    }
}

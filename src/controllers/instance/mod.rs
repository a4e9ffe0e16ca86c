//! `KarmadaInstance`: installs a plane, and keeps it as its spec asks.
//!
//! A round goes through the steps of [`install_steps::next_step`] as far as it can without waiting; watches on everything that
//! it made bring it back. Nothing depends on what an earlier round did: whatever is missing or differs is put right.

mod apply_host;
mod apply_plane;
mod bundles;
mod caches;
mod error;
mod fleet;
mod install;
mod install_steps;
mod observe;
mod observe_plane;
mod overview;
mod ownership;
mod plan;
mod plane_plan;
mod plane_record;
mod removal_steps;
mod remove;
mod rollout;
mod status;
mod users;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use crate::api::KarmadaInstance;
use crate::machinery::error::{Class, Classified as _};
use crate::runtime::apply::Applier;
use crate::runtime::controller::{self, Failure, Next, Reconcile};
use crate::runtime::finalizer::{self, HasFinalizer};
use crate::runtime::guarded::InvalidObject;
use crate::runtime::status::StatusWriter;

pub use error::InstanceError;

use super::Context;
use caches::Caches;
use install::ReconcileState;
use install_steps::Step;
use observe::ObservedInstance;
use ownership::key;
use plane_record::PlaneRecords;
use removal_steps::Removal;
use remove::FINALIZER;

/// Instances that are worked on at once.
const CONCURRENCY: u16 = 16;

/// How soon a round follows one that waits for something: watches usually bring it back before.
const REQUEUE_INTERVAL: Duration = Duration::from_secs(1);

/// How soon one that waits for something that no watch tells of.
const SHORT_REQUEUE_INTERVAL: Duration = Duration::from_millis(300);

/// How often a plane whose objects were all right is asked whether it is ready.
const READY_CHECK_INTERVAL: Duration = Duration::from_secs(20);

impl HasFinalizer for KarmadaInstance {
    const FINALIZER: &'static str = FINALIZER;

    fn stand_in(invalid: &InvalidObject) -> Option<Self> {
        invalid.stand_in(&["profile", "etcd", "tenancy", "deletionPolicy"], json!({}))
    }

    fn has_made(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.endpoint.is_some())
    }
}

/// Runs the controller until shutdown.
pub async fn run(context: Context) {
    let client = context.host.0.clone();
    let (wake, woken) = unbounded_channel();
    let mut tasks = JoinSet::new();
    let plane_records = PlaneRecords::default();
    let counted = context.planes.subscribe(|event| fleet::changed(event).into_iter().collect());
    tasks.spawn(fleet::wake_gathered(counted, wake.clone()));
    let drifted = {
        let plane_records = plane_records.clone();
        context.planes.subscribe(move |event| plane_records.drifted(event).into_iter().collect())
    };
    let instance_controller = InstanceController {
        applier: Applier::new(client.clone(), "airdock.dev/instance"),
        status: StatusWriter::new(client.clone(), InstanceController::NAME),
        caches: Caches::start(&context.cache, &wake),
        plane_records,
        bundles: bundles::Bundles::default(),
        context: context.clone(),
    };
    let woken = futures::stream::unfold(woken, |mut woken| async move { Some((woken.recv().await?, woken)) });
    let instances = context.cache.instances.clone();
    let controller = instances.controller().reconcile_on(woken).reconcile_on(drifted);
    controller::run(instances, controller, instance_controller, context.options(CONCURRENCY)).await;
}

struct InstanceController {
    context: Context,
    applier: Applier,
    status: StatusWriter,
    caches: Caches,
    plane_records: PlaneRecords,
    bundles: bundles::Bundles,
}

impl Reconcile for InstanceController {
    type Object = KarmadaInstance;
    const NAME: &'static str = "instance";

    async fn reconcile(&self, instance: Arc<KarmadaInstance>) -> Result<Next, Failure> {
        if !self.caches.ready(&instance).await? {
            // The process ends.
            return Ok(Next::OnEvent);
        }
        let observed = self.observe(instance)?;
        if observed.instance.metadata.deletion_timestamp.is_some() {
            return self.take_down(&observed).await;
        }
        if observed.instance.spec.suspend {
            self.write(&observed.instance, status::suspended(&observed.instance)).await?;
            return Ok(Next::OnEvent);
        }
        finalizer::add(&self.context.host.0, observed.instance.as_ref(), FINALIZER)
            .await
            .map_err(|source| InstanceError::Read { what: "(and change the finalizers of) the instance", source })?;
        self.bring_up(&observed).await
    }
}

impl InstanceController {
    async fn bring_up(&self, observed: &ObservedInstance) -> Result<Next, Failure> {
        let instance = &observed.instance;
        let mut state = ReconcileState::begin(observed);
        let result = self.install(observed, &mut state).await;
        if !state.changes.is_empty() {
            tracing::info!(changes = state.changes.join(", "), "brought to what is wanted");
        }
        let plane = self.context.planes.get(&key(instance)).ok();
        let status = status::after_round(&status::StatusInputs {
            instance,
            host: &self.caches.host(instance)?,
            state: &state,
            error: result.as_ref().err(),
            engine_image: &self.context.image,
            overview: plane.and_then(|plane| fleet::overview_of(&plane.cache)),
        });
        self.write(instance, status).await?;
        result?;
        Ok(match state.step {
            Step::Settled => Next::After(READY_CHECK_INTERVAL),
            // Workloads and pods are watched.
            Step::AwaitComponents => Next::After(REQUEUE_INTERVAL * 5),
            Step::AwaitKinds => Next::After(SHORT_REQUEUE_INTERVAL),
            // The API server is ready; its Service is a moment behind.
            Step::AwaitApi if matches!(state.progress.api, observe::Api::Unreachable(_)) => {
                Next::After(SHORT_REQUEUE_INTERVAL)
            }
            _ => Next::After(REQUEUE_INTERVAL),
        })
    }

    async fn take_down(&self, observed: &ObservedInstance) -> Result<Next, Failure> {
        let result = self.remove(observed).await;
        if matches!(result, Ok(Removal::Finished)) {
            return Ok(Next::OnEvent);
        }
        self.write(&observed.instance, status::removing(&observed.instance, result.as_ref())).await?;
        match result {
            // People have to act first, and asking lists all who might refer to it.
            Ok(Removal::InUse(_)) => Ok(Next::After(REQUEUE_INTERVAL * 3)),
            Ok(_) => Ok(Next::After(REQUEUE_INTERVAL)),
            Err(error) if error.class() == Class::Invalid => Ok(Next::After(REQUEUE_INTERVAL * 10)),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(
        &self,
        instance: &KarmadaInstance,
        mut status: crate::api::instance::KarmadaInstanceStatus,
    ) -> Result<(), InstanceError> {
        // One that is being deleted waits for those that it has let in until then.
        if instance.metadata.deletion_timestamp.is_none() {
            status.tenants = self.observe_tenants(instance).await;
        }
        self.status.write(instance, status).await.map_err(InstanceError::Status)
    }
}

//! `MultiCloudApp`: from an app to templates and policies in the plane, and from the plane's bindings back to
//! the app's status.
//!
//! An app that cannot be carried out leaves what runs as it is. What it made is known by labels, by its policy's
//! selectors (written before the objects that they name) and by the list in its status, so that nothing is
//! forgotten whenever the process dies.

pub mod apply;
pub mod error;
mod namespace;
pub mod observe;
mod other_app;
pub mod ownership;
pub mod plane_client;
mod remove;
pub mod status;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use serde_json::json;

use self::error::Error;
use self::ownership::Claims;
use self::plane_client::{PlaneClient, PlaneClients};
use self::status::RolloutStatus;
use super::Context;
use super::host_error::HostError;
use super::watch::instance;
use crate::api::app::{InventoryEntry, MultiCloudAppStatus};
use crate::api::common::condition::SELECTORS_MATCHED;
use crate::api::{KarmadaInstance, MultiCloudApp as App};
use crate::application::model::{Application, Identity, Tenancy};
use crate::application::plan::plan;
use crate::application::selectors::{NOTHING_SELECTED, render_unmatched, unmatched};
use crate::application::validate::validate;
use crate::karmada::Cluster;
use crate::machinery::conditions::{Verdict, set_false_or_remove};
use crate::runtime::controller::{Failure, Guarded, Next, Reconcile};
use crate::runtime::finalizer::{self, HasFinalizer};
use crate::runtime::guarded::InvalidObject;
use crate::runtime::host_cache::HostKind;
use crate::runtime::instance_ref::{INSTANCE_REF, no_plane, resolve};
use crate::runtime::planes::{InstanceKey, PlaneError, Planes};
use crate::runtime::status::StatusWriter;

/// Keeps an app until its plane and the members are clean of it.
pub const FINALIZER: &str = "airdock.dev/app";

/// How many apps are reconciled at once.
const CONCURRENCY: u16 = 32;

impl HasFinalizer for App {
    const FINALIZER: &'static str = FINALIZER;

    fn stand_in(invalid: &InvalidObject) -> Option<Self> {
        invalid.stand_in(&["instanceRef", "namespace"], json!({"components": []}))
    }

    /// What it only waits for is listed without a uid.
    fn has_made(&self) -> bool {
        self.status.iter().flat_map(|status| &status.inventory).any(|entry| !entry.uid.is_empty())
    }
}

/// Runs until shutdown.
pub async fn run(context: Context) {
    let controller = watch::controller(&context);
    let (apps, host) = (context.cache.apps.clone(), context.host.0.clone());
    let reconciler = AppReconciler {
        writer: StatusWriter::new(host.clone(), AppReconciler::NAME),
        host,
        planes: context.planes.clone(),
        instances: context.cache.instances.clone(),
        apps: controller.store(),
        plane_clients: PlaneClients::default(),
    };
    crate::runtime::controller::run(apps, controller, reconciler, context.options(CONCURRENCY)).await;
}

struct AppReconciler {
    host: Client,
    planes: Planes,
    instances: HostKind<KarmadaInstance>,
    apps: Store<Guarded<App>>,
    writer: StatusWriter,
    plane_clients: PlaneClients,
}

impl Reconcile for AppReconciler {
    type Object = App;
    const NAME: &'static str = "app";

    async fn reconcile(&self, app: Arc<App>) -> Result<Next, Failure> {
        let mut status = app.status.clone().unwrap_or_default();
        let result = if app.metadata.deletion_timestamp.is_some() {
            self.remove(&app).await
        } else {
            self.advance(&app, &mut status).await
        };
        let (verdict, next) = match result {
            Ok(ReconcileResult { verdict: None, .. }) => return Ok(Next::OnEvent),
            Ok(ReconcileResult { verdict: Some(verdict), next }) => (verdict, Ok(next)),
            Err(error) => (error.verdict(), Err(error)),
        };
        verdict.write(&mut status.conditions, app.metadata.generation, Timestamp::now());
        status.observed_generation = app.metadata.generation;
        let written = self.writer.write(app.as_ref(), status).await;
        let next = next?;
        written.map_err(|source| Error::from(HostError { action: "write the status", source }))?;
        Ok(next)
    }
}

/// What came of one round. Without a verdict the app is gone.
struct ReconcileResult {
    verdict: Option<Verdict>,
    next: Next,
}

impl ReconcileResult {
    fn of(verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), next: Next::OnEvent }
    }
}

impl AppReconciler {
    /// Brings the plane to what the spec asks for, and the status to what the plane tells.
    async fn advance(&self, app: &App, status: &mut MultiCloudAppStatus) -> Result<ReconcileResult, Error> {
        let key = self.key(app);
        let instance = self.instance(&key).await?;
        let namespace = app.namespace().unwrap_or_default();
        let instance = resolve(instance, &key, &namespace, INSTANCE_REF)?;
        let tenancy = Tenancy::of(&key.namespace, &namespace);
        let application = validate(app, tenancy).map_err(Error::Invalid)?;
        if !app.finalizers().iter().any(|held| held == FINALIZER) && !app.spec.suspend {
            self.add_finalizer(app).await?;
        }
        let plane_client = self.plane_client(&key).map_err(|error| no_plane(&instance, &error))?;
        let others = self.apps.state();
        let claims = Claims::new(app, &others, Some(&instance));
        self.reconcile_plane(&plane_client, &claims, &application, status, true).await
    }

    /// Observes, plans, applies. `again`: should another application be faster with an object, what was prepared for it is
    /// taken back at once.
    async fn reconcile_plane(
        &self,
        plane_client: &Arc<PlaneClient>,
        claims: &Claims<'_>,
        whole: &Application,
        status: &mut MultiCloudAppStatus,
        again: bool,
    ) -> Result<ReconcileResult, Error> {
        let app = claims.app;
        let observed = match observe::observe(plane_client, claims, whole.clone()).await {
            // A kind may have been redefined since it was looked up.
            Err(Error::Read { source, .. }) if crate::machinery::error::is_not_found(&source) => {
                plane_client.forget_kinds();
                observe::observe(plane_client, claims, whole.clone()).await?
            }
            result => result?,
        };
        tell_unmatched(app, &observed.clusters, &mut status.conditions);
        let application = &observed.application;
        let plan =
            plan(app, application, &observed.clusters)?.keeping(observed.stale.iter().map(|live| &live.identity));
        let mut generations: Vec<Option<i64>> =
            observed.templates.iter().map(|live| live.object.as_ref()?.metadata.generation).collect();
        let mut changed = false;
        let awaited: Vec<InventoryEntry> =
            observed.awaited.iter().map(|identity| claims.awaited_entry(identity.clone())).collect();
        if app.spec.suspend {
            // What was awaited may be its own by now: it stays listed until the application is written again.
            status.inventory.extend(awaited.into_iter().filter(|entry| !claims.awaits(&Identity::from(entry))));
            status.inventory.sort();
        } else {
            let results = apply::apply(plane_client, claims, &plan, &observed).await;
            if results.failure.is_none() {
                status.inventory = results.inventory;
                status.inventory.extend(awaited);
                status.inventory.sort();
            }
            (generations, changed) = (results.generations, results.changed);
            match results.failure {
                Some(Error::Claimed { .. } | Error::Exists { .. }) if again => {
                    return Box::pin(self.reconcile_plane(plane_client, claims, whole, status, false)).await;
                }
                Some(error) => return Err(error),
                None => {}
            }
        }
        let rollouts: Vec<RolloutStatus<'_>> = application
            .templates
            .iter()
            .zip(observed.templates.iter().zip(generations))
            .map(|(template, (live, generation))| RolloutStatus {
                template,
                generation,
                binding: live.binding.as_ref(),
                unreadable: live.unreadable.as_deref(),
            })
            .collect();
        let verdict = status::read(app, &observed.clusters, &rollouts, status);
        let is_written = apply::is_written(claims, &plan, &observed);
        if let Some(error) = observed.refused {
            return Err(error);
        }
        Ok(match verdict {
            _ if app.spec.suspend && !is_written => ReconcileResult::of(Verdict::NotReady {
                reason: "Suspended",
                message:
                    "suspended while the spec and the plane differ; nothing is written until spec.suspend is false"
                        .to_owned(),
            }),
            // What was just written is not in the bindings that were just read.
            Verdict::Ready { .. } if changed => ReconcileResult {
                verdict: Some(Verdict::Progressing {
                    reason: "Distributing",
                    message: "the change is on its way to the clusters".to_owned(),
                }),
                next: Next::After(Duration::from_secs(1)),
            },
            verdict if changed => ReconcileResult { verdict: Some(verdict), next: Next::After(Duration::from_secs(1)) },
            verdict => ReconcileResult::of(verdict),
        })
    }

    async fn add_finalizer(&self, app: &App) -> Result<(), Error> {
        let held = finalizer::add(&self.host, app, FINALIZER).await;
        Ok(held.map_err(|source| HostError { action: "set the finalizer", source })?)
    }

    fn key(&self, app: &App) -> InstanceKey {
        InstanceKey::of(&app.spec.instance_ref, &app.namespace().unwrap_or_default())
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<KarmadaInstance>, Error> {
        // Before the first lists are there, every instance and plane would look missing. It fails only on shutdown.
        let _ = self.instances.listed().await;
        self.planes.listed().await;
        Ok(instance(&self.instances, key)?)
    }

    fn plane_client(&self, key: &InstanceKey) -> Result<Arc<PlaneClient>, PlaneError> {
        Ok(self.plane_clients.of(self.planes.get(key)?))
    }
}

/// Names the entries of the spec that select no cluster in a condition of its own.
fn tell_unmatched(app: &App, clusters: &[Cluster], conditions: &mut Vec<Condition>) {
    let unmatched = unmatched(app, clusters);
    let message = (!unmatched.is_empty()).then(|| render_unmatched(&unmatched));
    let problem = message.as_deref().map(|message| (NOTHING_SELECTED, message));
    set_false_or_remove(conditions, SELECTORS_MATCHED, problem, app.metadata.generation, Timestamp::now());
}

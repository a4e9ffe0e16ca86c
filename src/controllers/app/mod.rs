//! `MultiCloudApp`: from an app to templates and policies in the plane, and from the plane's bindings back to
//! the app's status.
//!
//! An app that cannot be carried out leaves what runs as it is. What it made is known by labels, by its policy's
//! selectors (written before the objects that they name) and by the list in its status, so that nothing is
//! forgotten whenever the process dies.

pub mod access;
pub mod apply;
pub mod differences;
pub mod error;
pub mod kinds;
pub mod observe;
pub mod plan;
pub mod preview;
pub mod status;
pub mod validate;
pub mod watch;
pub mod workload;

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};

use self::access::{Access, Accesses};
use self::error::Error;
use self::observe::Observed;
use self::status::Standing;
use self::validate::Application;
use super::{Context, finalizer};
use crate::api::app::{MultiCloudApp, MultiCloudAppStatus};
use crate::api::instance::Phase;
use crate::api::{KarmadaInstance, MultiCloudApp as App};
use crate::karmada::{OverridePolicy, PropagationPolicy};
use crate::runtime::conditions::Verdict;
use crate::runtime::controller::{Failure, Guarded, Next, Reconcile};
use crate::runtime::planes::{InstanceKey, Planes};
use crate::runtime::status::StatusWriter;

/// Keeps an app until its plane and the members are clean of it.
pub const FINALIZER: &str = "airdock.dev/app";

/// How many apps are reconciled at once.
const CONCURRENCY: u16 = 32;

/// How soon a deletion is looked at again, should no event tell that it went on.
const DELETION_RECHECK: Duration = Duration::from_secs(2);

/// Runs until shutdown.
pub async fn run(context: Context) {
    let (controller, instances) = watch::controller(&context);
    let host = context.host.0.clone();
    let reconciler = AppReconciler {
        writer: StatusWriter::new(host.clone(), AppReconciler::NAME),
        host,
        planes: context.planes.clone(),
        instances,
        accesses: Accesses::default(),
    };
    crate::runtime::controller::run(controller, reconciler, context.options(CONCURRENCY)).await;
}

struct AppReconciler {
    host: Client,
    planes: Planes,
    instances: Store<Guarded<KarmadaInstance>>,
    writer: StatusWriter,
    accesses: Accesses,
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
            Ok(Round { verdict: None, .. }) => return Ok(Next::OnEvent),
            Ok(Round { verdict: Some(verdict), next }) => (verdict, Ok(next)),
            Err(error) => (error.verdict(), Err(error)),
        };
        verdict.write(&mut status.conditions, app.metadata.generation);
        status.observed_generation = app.metadata.generation;
        let written = self.writer.write(app.as_ref(), status).await;
        let next = next?;
        written.map_err(|source| Error::Host { verb: "write the status", source })?;
        Ok(next)
    }
}

/// What came of one round. Without a verdict the app is gone.
struct Round {
    verdict: Option<Verdict>,
    next: Next,
}

impl Round {
    fn of(verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), next: Next::OnEvent }
    }
}

impl AppReconciler {
    /// Brings the plane to what the spec asks for, and the status to what the plane tells.
    async fn advance(&self, app: &App, status: &mut MultiCloudAppStatus) -> Result<Round, Error> {
        let key = self.key(app);
        let instance = self.instance(&key).await;
        let tenancy = observe::tenancy(app, &key, instance.as_deref())?;
        let application = validate::validate(app, tenancy).map_err(Error::Invalid)?;
        if !app.finalizers().iter().any(|held| held == FINALIZER) && !app.spec.suspend {
            self.hold(app).await?;
        }
        let access = self.access(&key)?;
        let observed = match observe::observe(&access, app, &application).await {
            // A kind may have been redefined since it was looked up.
            Err(Error::Read { source, .. }) if crate::runtime::error::is_not_found(&source) => {
                access.forget_kinds();
                observe::observe(&access, app, &application).await?
            }
            result => result?,
        };
        let plan = plan::plan(app, &application, &observed.clusters)?.keeping(&observed.stale);
        let mut generations: Vec<Option<i64>> =
            observed.templates.iter().map(|live| live.object.as_ref()?.metadata.generation).collect();
        let mut changed = false;
        if !app.spec.suspend {
            let outcome = apply::apply(&access, app, &plan, &observed).await;
            if outcome.failure.is_none() {
                status.inventory = outcome.inventory;
            }
            (generations, changed) = (outcome.generations, outcome.changed);
            if let Some(error) = outcome.failure {
                return Err(error);
            }
        }
        let standings: Vec<Standing<'_>> = application
            .templates
            .iter()
            .zip(observed.templates.iter().zip(generations))
            .map(|(template, (live, generation))| Standing { template, generation, binding: live.binding.as_ref() })
            .collect();
        let verdict = status::read(app, &observed.clusters, &standings, status);
        Ok(match verdict {
            _ if app.spec.suspend && !apply::is_written(&plan, &observed) => Round::of(Verdict::NotReady {
                reason: "Suspended",
                message:
                    "suspended while the spec and the plane differ; nothing is written until spec.suspend is false"
                        .to_owned(),
            }),
            // What was just written is not in the bindings that were just read.
            Verdict::Ready { .. } if changed => Round {
                verdict: Some(Verdict::Progressing {
                    reason: "Distributing",
                    message: "the change is on its way to the clusters".to_owned(),
                }),
                next: Next::After(Duration::from_secs(1)),
            },
            verdict if changed => Round { verdict: Some(verdict), next: Next::After(Duration::from_secs(1)) },
            verdict => Round::of(verdict),
        })
    }

    /// Takes everything of the app out of the plane, and lets go once the members are clean.
    async fn remove(&self, app: &App) -> Result<Round, Error> {
        if !app.finalizers().iter().any(|held| held == FINALIZER) {
            return Ok(Round { verdict: None, next: Next::OnEvent });
        }
        let key = self.key(app);
        let instance = self.instance(&key).await;
        let is_ending = instance.as_deref().is_none_or(|instance| instance.metadata.deletion_timestamp.is_some());
        // Before an instance is up for the first time, nothing can have been written into its plane.
        let never_up = instance.as_deref().is_some_and(|instance| {
            matches!(instance.status.as_ref().and_then(|status| status.phase), None | Some(Phase::Installing))
        }) && app.status.as_ref().is_none_or(|status| status.inventory.is_empty());
        let access = match self.access(&key) {
            Err(_) if is_ending || never_up => return self.let_go(app, &key).await,
            result => result?,
        };
        // Only the namespace is needed of the spec, which may be out of order by now.
        let application = named(app);
        let remains = match observe::remains(&access, app, &application).await {
            Err(Error::Read { .. }) if is_ending => return self.let_go(app, &key).await,
            result => result?,
        };
        match clean(&access, app, &remains).await? {
            None => self.let_go(app, &key).await,
            Some(message) => {
                let verdict = Verdict::Progressing { reason: "Deleting", message };
                Ok(Round { verdict: Some(verdict), next: Next::After(DELETION_RECHECK) })
            }
        }
    }

    async fn hold(&self, app: &App) -> Result<(), Error> {
        let held = finalizer::add(&self.host, app, FINALIZER).await;
        held.map_err(|source| Error::Host { verb: "set the finalizer", source })
    }

    async fn let_go(&self, app: &App, key: &InstanceKey) -> Result<Round, Error> {
        let released = finalizer::remove(&self.host, app, FINALIZER).await;
        released.map_err(|source| Error::Host { verb: "remove the finalizer", source })?;
        if self.planes.get(key).is_err() {
            self.accesses.forget(key);
        }
        Ok(Round { verdict: None, next: Next::OnEvent })
    }

    fn key(&self, app: &App) -> InstanceKey {
        InstanceKey::of(&app.spec.instance_ref, &app.namespace().unwrap_or_default())
    }

    async fn instance(&self, key: &InstanceKey) -> Option<Arc<KarmadaInstance>> {
        // Before the first list is there, every instance would look missing. It fails only on shutdown.
        self.instances.wait_until_ready().await.ok()?;
        let reference = ObjectRef::<Guarded<KarmadaInstance>>::new(&key.name).within(&key.namespace);
        let found = self.instances.get(&reference)?;
        found.0.as_ref().ok().map(|instance| Arc::new(instance.clone()))
    }

    fn access(&self, key: &InstanceKey) -> Result<Arc<Access>, Error> {
        Ok(self.accesses.of(self.planes.get(key)?))
    }
}

/// An app by its names alone.
fn named(app: &App) -> Application {
    let host_namespace = app.namespace().unwrap_or_default();
    Application {
        name: app.name_any(),
        namespace: app.spec.namespace.clone().unwrap_or_else(|| host_namespace.clone()),
        host_namespace,
        templates: Vec::new(),
    }
}

/// Deletes the templates, then, once the members are clean of them, the policies. Tells what is awaited; nothing
/// when all is gone.
async fn clean(access: &Access, app: &MultiCloudApp, remains: &Observed) -> Result<Option<String>, Error> {
    access::each(remains.stale.iter().map(|live| apply::delete(access, app, live)).collect()).await?;
    for live in &remains.stale {
        let is_there = live.object.as_ref().is_some_and(|object| observe::is_ours(app, object));
        // The binding goes when the members are clean. That of a namesake is not waited for.
        let is_bound = live.binding.is_some() && (is_there || live.object.is_none());
        if is_there || is_bound {
            let of = &live.identity;
            let clusters = live.binding.iter().flat_map(|binding| &binding.spec.binding.clusters);
            let names: Vec<&str> = clusters.map(|cluster| cluster.name.as_str()).take(5).collect();
            let whose = if names.is_empty() { String::new() } else { format!(" from {}", names.join(", ")) };
            return Ok(Some(format!("waiting until {} {} is removed{whose}", of.kind, of.name)));
        }
    }
    for policy in &remains.overrides {
        apply::delete_object(access, &observe::resource::<OverridePolicy>(), policy).await?;
    }
    if let Some(policy) = &remains.propagation {
        apply::delete_object(access, &observe::resource::<PropagationPolicy>(), policy).await?;
    }
    let policies_left = remains.propagation.is_some() || !remains.overrides.is_empty();
    Ok(policies_left.then(|| "waiting until the policies are removed".to_owned()))
}

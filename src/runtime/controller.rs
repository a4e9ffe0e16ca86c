//! Runs a reconciler: bounded concurrency, deadline, panic safety, backoff, metrics, leadership.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kube::runtime::Controller;
use kube::runtime::controller::{self, Action};
use kube::{Client, Resource, ResourceExt};
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::backoff::Backoff;
use super::finalizer::{self, HasFinalizer};
use super::guarded::InvalidObject;
use super::host_cache::HostKind;
use super::leadership::Leadership;
use super::metrics::{ControllerLabel, Metrics};
use super::status::{INVALID_OBJECT, StatusWriter};
use crate::machinery::error::{BLOCKED_RECHECK, Class, Classified, chain};

/// How long one reconcile may take before it is given up and tried again.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often an object is looked at although nothing happened; a safety net, with jitter.
const RESYNC: Duration = Duration::from_secs(300);

/// How long events are gathered before an object is reconciled.
const DEBOUNCE: Duration = Duration::from_millis(25);

/// When an object is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When something happens.
    OnEvent,
    /// After this time, or when something happens.
    After(Duration),
}

/// An error of a reconcile, whatever its type.
pub type Failure = Box<dyn Classified>;

impl<E: Classified> From<E> for Failure {
    fn from(error: E) -> Self {
        Box::new(error)
    }
}

/// Brings one kind of object to what its spec asks for.
pub trait Reconcile: Send + Sync + 'static {
    /// The kind.
    type Object: HasFinalizer + Send + Sync + 'static;
    /// Name of the controller: metric label, field manager, log field.
    const NAME: &'static str;

    /// One round. The status has been written when it returns, also with an error. An object that cannot be read comes here
    /// when it is being deleted, as its [stand-in](HasFinalizer::stand_in).
    fn reconcile(&self, object: Arc<Self::Object>) -> impl Future<Output = Result<Next, Failure>> + Send;
}

pub use super::guarded::Guarded;

/// How a controller runs.
#[derive(Clone)]
pub struct Options {
    /// Reconciles at once.
    pub concurrency: u16,
    /// Whether this process is the leader.
    pub leadership: Leadership,
    /// Where it counts.
    pub metrics: Metrics,
    /// When it ends.
    pub shutdown: CancellationToken,
    /// Told when the cache is filled.
    pub caches: Caches,
    /// Where the objects are.
    pub host: Client,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("concurrency", &self.concurrency).finish_non_exhaustive()
    }
}

/// Which caches are still being filled; until then a process is not ready.
#[derive(Clone, Debug, Default)]
pub struct Caches {
    pending: Arc<AtomicUsize>,
}

impl Caches {
    /// So many controllers are about to fill theirs.
    pub fn expect(&self, controllers: usize) {
        self.pending.fetch_add(controllers, Ordering::AcqRel);
    }

    fn filled(&self) {
        self.pending.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether all are filled.
    #[must_use]
    pub fn are_filled(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }
}

struct Context<R: Reconcile> {
    reconciler: R,
    options: Options,
    backoff: Backoff<Key>,
    status: StatusWriter,
}

/// Namespace and name of an object.
type Key = (Option<String>, String);

fn key_of<K: Resource>(object: &K) -> Key {
    (object.namespace(), object.name_any())
}

/// An error of the runner itself, or of a reconcile.
#[derive(thiserror::Error, Debug)]
#[error("{message}")]
struct RunError {
    class: Class,
    reason: &'static str,
    message: String,
}

/// Runs until shutdown. Watches fill the caches at once; reconciling begins with leadership. `objects` are those that the
/// controller is of.
pub async fn run<R: Reconcile>(
    objects: HostKind<R::Object>,
    controller: Controller<Guarded<R::Object>>,
    reconciler: R,
    options: Options,
) {
    let label = ControllerLabel { controller: R::NAME };
    options.metrics.max_concurrent.get_or_create(&label).set(i64::from(options.concurrency));
    let config = controller::Config::default().debounce(DEBOUNCE).concurrency(options.concurrency);
    let shutdown = options.shutdown.clone().cancelled_owned();
    let caches = options.caches.clone();
    let status = StatusWriter::new(options.host.clone(), R::NAME);
    let context = Arc::new(Context { reconciler, options, backoff: Backoff::default(), status });
    let known = context.clone();
    let filling = async {
        if objects.listed().await {
            caches.filled();
        }
    };
    let running = controller
        .with_config(config)
        .graceful_shutdown_on(shutdown)
        .run(reconcile_guarded::<R>, error_policy::<R>, context)
        .for_each(|result| {
            match &result {
                Err(controller::Error::QueueError(error)) => {
                    tracing::debug!(controller = R::NAME, error = chain(error), "watch is interrupted and will resume");
                }
                Err(controller::Error::ObjectNotFound(gone)) => {
                    known.backoff.succeeded(&(gone.namespace.clone(), gone.name.clone()));
                }
                _ => {}
            }
            std::future::ready(())
        });
    futures::future::join(running, filling).await;
}

async fn reconcile_guarded<R: Reconcile>(
    guarded: Arc<Guarded<R::Object>>,
    context: Arc<Context<R>>,
) -> Result<Action, RunError> {
    // A standby waits here, with its caches warm and its queue filled.
    tokio::select! {
        () = context.options.leadership.acquired() => {}
        () = context.options.shutdown.cancelled() => return Ok(Action::await_change()),
    }
    if finalizer::is_lost(&guarded) {
        return put_finalizer_back(&guarded, &context).await;
    }
    let is_ending = guarded.meta().deletion_timestamp.is_some();
    let object = match &guarded.0 {
        Ok(object) => Arc::new(object.clone()),
        Err(invalid) => match R::Object::stand_in(invalid).filter(|_| is_ending) {
            Some(object) => Arc::new(object),
            None => return report_invalid(&guarded, invalid, &context).await,
        },
    };
    let key = key_of(object.as_ref());
    let span = tracing::info_span!(
        "reconcile",
        controller = R::NAME,
        namespace = object.namespace(),
        name = object.name_any(),
        generation = object.meta().generation,
    );
    let label = ControllerLabel { controller: R::NAME };
    let active = context.options.metrics.active.get_or_create(&label).clone();
    active.inc();
    let started = Instant::now();
    let result = within_deadline(AssertUnwindSafe(context.reconciler.reconcile(object)), &context, R::NAME)
        .instrument(span.clone())
        .await;
    active.dec();
    let _entered = span.entered();
    match result {
        Ok(next) => {
            context.backoff.succeeded(&key);
            let (outcome, action) = match next {
                Next::OnEvent => ("success", Action::requeue(with_jitter(RESYNC))),
                Next::After(delay) => ("requeue_after", Action::requeue(delay.min(RESYNC))),
            };
            context.options.metrics.reconciled(R::NAME, outcome, started.elapsed());
            Ok(action)
        }
        Err(error) => {
            let terminal = error.class == Class::Invalid;
            context.options.metrics.failed(R::NAME, error.reason, terminal);
            let outcome = if terminal { "terminal_error" } else { "error" };
            context.options.metrics.reconciled(R::NAME, outcome, started.elapsed());
            match error.class {
                Class::Retry => tracing::warn!(reason = error.reason, error = error.message, "reconcile failed"),
                Class::Invalid | Class::Blocked => {
                    tracing::info!(reason = error.reason, error = error.message, "reconcile cannot go on");
                }
            }
            Err(error)
        }
    }
}

/// The change brings the object back.
async fn put_finalizer_back<R: Reconcile>(
    guarded: &Guarded<R::Object>,
    context: &Context<R>,
) -> Result<Action, RunError> {
    let (name, namespace) = (guarded.name_any(), guarded.namespace());
    tracing::warn!(controller = R::NAME, name, namespace, "finalizer was removed by somebody and is set again");
    finalizer::restore(&context.options.host, guarded).await.map_err(|error| RunError {
        class: Class::Retry,
        reason: "FinalizerNotSet",
        message: chain(&error),
    })?;
    Ok(Action::await_change())
}

/// An object that cannot be read is left alone until it changes or is deleted, and told so.
async fn report_invalid<R: Reconcile>(
    guarded: &Guarded<R::Object>,
    invalid: &InvalidObject,
    context: &Context<R>,
) -> Result<Action, RunError> {
    let (name, namespace) = (guarded.name_any(), guarded.namespace());
    tracing::error!(
        controller = R::NAME,
        name,
        namespace,
        problem = invalid.problem,
        "object cannot be read and is left alone until it changes or is deleted"
    );
    context.options.metrics.failed(R::NAME, INVALID_OBJECT, true);
    context.status.write_invalid::<R::Object>(invalid).await.map_err(|error| RunError {
        class: Class::Retry,
        reason: "StatusNotWritten",
        message: chain(&error),
    })?;
    Ok(Action::await_change())
}

async fn within_deadline<R: Reconcile>(
    work: AssertUnwindSafe<impl Future<Output = Result<Next, Failure>>>,
    context: &Context<R>,
    controller: &'static str,
) -> Result<Next, RunError> {
    match tokio::time::timeout(DEADLINE, work.catch_unwind()).await {
        Ok(Ok(Ok(next))) => Ok(next),
        Ok(Ok(Err(failure))) => {
            Err(RunError { class: failure.class(), reason: failure.reason(), message: chain(failure.as_ref()) })
        }
        Ok(Err(panic)) => {
            context.options.metrics.panicked(controller);
            Err(RunError { class: Class::Retry, reason: "Panicked", message: panic_message(panic.as_ref()) })
        }
        Err(_) => Err(RunError {
            class: Class::Retry,
            reason: "DeadlineExceeded",
            message: format!("reconcile did not end within {} s", DEADLINE.as_secs()),
        }),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".to_owned());
    format!("reconcile panicked: {text}")
}

fn error_policy<R: Reconcile>(guarded: Arc<Guarded<R::Object>>, error: &RunError, context: Arc<Context<R>>) -> Action {
    match error.class {
        Class::Retry => Action::requeue(context.backoff.failed(key_of(guarded.as_ref()))),
        Class::Blocked => Action::requeue(with_jitter(BLOCKED_RECHECK)),
        Class::Invalid => Action::requeue(with_jitter(RESYNC)),
    }
}

/// The time, shortened by up to a fifth, so that many objects do not come due together.
fn with_jitter(time: Duration) -> Duration {
    time.mul_f64(1.0 - 0.2 * rand::rng().random::<f64>())
}

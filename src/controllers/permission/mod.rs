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
mod reconcile_planes;
pub mod status;
pub mod summary;
pub mod validate;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::Context;
use crate::api::permission::PermissionBinding;
use crate::runtime::controller::{self, Failure, Next, Reconcile};
use crate::runtime::finalizer::HasFinalizer;
use crate::runtime::guarded::InvalidObject;
use crate::runtime::status::StatusWriter;

/// Finalizer of every binding that may have written something.
pub const FINALIZER: &str = "airdock.dev/permission";

/// How many bindings are worked on at once.
const CONCURRENCY: u16 = 16;

/// How long a binding that is about to expire waits at most after a failure.
const EXPIRY_RETRY_INTERVAL: Duration = Duration::from_secs(10);

impl HasFinalizer for PermissionBinding {
    const FINALIZER: &'static str = FINALIZER;

    fn stand_in(invalid: &InvalidObject) -> Option<Self> {
        // What was given to whom is in the planes: who it was is not needed to take it away.
        invalid.stand_in(&["scope"], json!({"subjects": [], "role": "Viewer"}))
    }

    fn has_made(&self) -> bool {
        !status::planes(self).is_empty()
    }
}

/// Runs until shutdown.
pub async fn run(context: Context) {
    let controller = watch::controller(&context);
    let (permissions, options) = (context.cache.permissions.clone(), context.options(CONCURRENCY));
    let status = StatusWriter::new(context.host.0.clone(), Permissions::NAME);
    controller::run(permissions, controller, Permissions { status, context }, options).await;
}

struct Permissions {
    context: Context,
    status: StatusWriter,
}

impl Reconcile for Permissions {
    type Object = PermissionBinding;
    const NAME: &'static str = "permissionbinding";

    async fn reconcile(&self, binding: Arc<PermissionBinding>) -> Result<Next, Failure> {
        // The cache may still be filling just after start; an error means that the process is ending.
        let _ = self.context.cache.instances.listed().await;
        self.context.planes.listed().await;
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
        let results = self.reconcile_planes(&binding, until).await?;
        let now = Timestamp::now();
        self.write(&binding, status::status(&binding, &results, now)).await?;
        let left = until.filter(|_| results.expired.is_none()).map(|until| remaining(until, now));
        match (results.failure(), results.problem) {
            // The end of a role does not wait for a backoff.
            (Some(_), _) if left.is_some_and(|left| left < Duration::from_secs(300)) => {
                Ok(Next::After(left.unwrap_or(EXPIRY_RETRY_INTERVAL).min(EXPIRY_RETRY_INTERVAL)))
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

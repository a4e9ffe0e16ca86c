//! Joins clusters to instances, as `MemberClusterJoin` asks, and lets them go.
//!
//! With administrator's rights from a kubeconfig, an identity for the plane is made in the member; its token and the
//! Cluster are written into the plane, and from there on the plane's own components do the work. What is written in
//! the plane is watched and repaired at once; what is written in the member is looked at every few minutes, and when
//! the plane finds the member not ready. A member that fails delays nobody: each has its own client, deadline and
//! backoff.

pub mod apply;
pub mod cleanup;
pub mod credential;
pub mod error;
pub mod inventory;
mod join;
mod leave;
pub mod observe;
pub mod owned_objects;
pub mod plan;
pub mod remaining;
pub mod status;
pub mod unjoin;
pub mod validate;
mod watch;
pub mod write;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::reflector::Store;
use parking_lot::Mutex;
use serde_json::json;

use self::error::Error;
use self::observe::{MemberClient, Verified};
use self::status::{Progress, StatusInputs};
use self::validate::LocalEndpoints;
use super::Context;
use super::host_error::HostError;
use crate::api::member::MemberClusterJoin;
use crate::karmada::Cluster;
use crate::machinery::conditions::is_true;
use crate::machinery::error::chain;
use crate::runtime::controller::{self, Failure, Guarded, Next, Reconcile};
use crate::runtime::finalizer::HasFinalizer;
use crate::runtime::guarded::InvalidObject;
use crate::runtime::status::StatusWriter;

/// Finalizer of every membership that may have written something.
pub const FINALIZER: &str = "airdock.dev/member";

/// How many memberships are worked on at once.
const CONCURRENCY: u16 = 32;

/// How long what was found in a member holds, while the plane finds the member ready.
const VERIFY_INTERVAL: Duration = Duration::from_secs(240);

/// The same while the plane does not.
const VERIFY_UNREADY_INTERVAL: Duration = Duration::from_secs(15);

/// How soon the member is asked again for tokens that it has not issued yet.
const TOKEN_POLL_INTERVAL: Duration = Duration::from_millis(150);

/// How soon it is asked again whether a namespace is gone.
const NAMESPACE_POLL_INTERVAL: Duration = Duration::from_millis(500);

impl HasFinalizer for MemberClusterJoin {
    const FINALIZER: &'static str = FINALIZER;

    fn stand_in(invalid: &InvalidObject) -> Option<Self> {
        let fields = ["instanceRef", "clusterName", "mode", "kubeconfigSecretRef", "apiEndpoint", "deletion"];
        invalid.stand_in(&fields, json!({}))
    }

    fn has_made(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.cluster_id.is_some())
    }
}

/// Runs until shutdown.
pub async fn run(context: Context) {
    run_with(context, LocalEndpoints::Refused).await;
}

/// Runs until shutdown; `local` tells whether members on this very machine are accepted.
pub async fn run_with(context: Context, local: LocalEndpoints) {
    let controller = watch::controller(&context);
    let (joins, options) = (context.cache.joins.clone(), context.options(CONCURRENCY));
    let reconciler = Members {
        status: StatusWriter::new(context.host.0.clone(), Members::NAME),
        context,
        joins: controller.store(),
        local,
        known: Mutex::default(),
    };
    controller::run(joins, controller, reconciler, options).await;
}

struct Members {
    context: Context,
    status: StatusWriter,
    joins: Store<Guarded<MemberClusterJoin>>,
    local: LocalEndpoints,
    /// By uid of the membership. Memory alone.
    known: Mutex<HashMap<String, Known>>,
}

/// What is remembered of a member to spare requests.
#[derive(Clone, Debug)]
struct Known {
    member_client: MemberClient,
    verified: Option<Verified>,
}

impl Reconcile for Members {
    type Object = MemberClusterJoin;
    const NAME: &'static str = "memberclusterjoin";

    async fn reconcile(&self, join: Arc<MemberClusterJoin>) -> Result<Next, Failure> {
        let mut inputs = StatusInputs::default();
        let outcome = if join.metadata.deletion_timestamp.is_some() {
            match self.leave(&join, &mut inputs).await {
                Ok(None) => {
                    self.forget(&join);
                    return Ok(Next::OnEvent);
                }
                Ok(Some(progress)) => Ok(progress),
                Err(error) => Err(error),
            }
        } else {
            let joined = self.join(&join, &mut inputs).await;
            if joined.is_err() {
                // What went wrong must not hold a Secret that somebody replaces.
                self.release_credentials(&join, None).await;
            }
            joined
        };
        let status = status::status(&join, &inputs, outcome.as_ref());
        let written = self.status.write(join.as_ref(), status).await;
        let progress = outcome?;
        written.map_err(|source| Error::from(HostError { action: "write the status", source }))?;
        Ok(next(&join, &inputs, &progress))
    }
}

fn next(join: &MemberClusterJoin, inputs: &StatusInputs, progress: &Progress) -> Next {
    match progress {
        Progress::AwaitingTokens => Next::After(TOKEN_POLL_INTERVAL),
        Progress::AwaitingNamespace => Next::After(NAMESPACE_POLL_INTERVAL),
        Progress::Rejoining => Next::OnEvent,
        Progress::Leaving { normal: true, .. } => Next::After(Duration::from_secs(5)),
        Progress::Leaving { normal: false, .. } => Next::After(leave::recheck(join)),
        Progress::Joined if inputs.cluster.as_ref().is_some_and(plane_finds_ready) => Next::After(VERIFY_INTERVAL),
        Progress::Joined => Next::After(VERIFY_UNREADY_INTERVAL),
    }
}

fn plane_finds_ready(cluster: &Cluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| is_true(&status.conditions, "Ready"))
}

impl Members {
    fn known(&self, join: &MemberClusterJoin) -> Option<Known> {
        let known = self.known.lock();
        known.get(&join.uid().unwrap_or_default()).cloned()
    }

    fn remember(&self, join: &MemberClusterJoin, what: Known) {
        let mut known = self.known.lock();
        // Whoever went without a finalizer, and so without a last round, is forgotten here: clients hold credentials.
        let live: HashSet<String> = self.joins.state().iter().filter_map(|join| join.uid()).collect();
        known.retain(|uid, _| live.contains(uid));
        known.insert(join.uid().unwrap_or_default(), what);
    }

    /// Lets go of the Secrets of a membership's namespace that nobody needs any more; not counted is the one that `leaves`.
    async fn release_credentials(&self, join: &MemberClusterJoin, leaves: Option<&str>) {
        let mut joins = self.joins.state();
        joins.retain(|join| leaves.is_none() || join.uid().as_deref() != leaves);
        self.release_all_but(join, &joins).await;
    }

    /// Lets go of the other Secrets of the namespace of a membership that was just given its finalizer.
    async fn release_unneeded_credentials(&self, join: &MemberClusterJoin) {
        self.release_all_but(join, &credential::with_holder(self.joins.state(), join)).await;
    }

    async fn release_all_but(&self, join: &MemberClusterJoin, joins: &[Arc<Guarded<MemberClusterJoin>>]) {
        let namespace = join.namespace().unwrap_or_default();
        if let Err(error) = credential::release_unneeded(&self.context.host.0, &namespace, joins).await {
            tracing::warn!(error = chain(&error), namespace, "Secrets with kubeconfigs are still held");
        }
    }

    fn forget(&self, join: &MemberClusterJoin) {
        self.known.lock().remove(&join.uid().unwrap_or_default());
    }
}

//! The end of an app: templates first, then, once the members are clean of them, the policies; and last the namespace, if
//! it was made for applications and nobody needs it.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::error::Error;
use super::observe::{self, Observed};
use super::ownership::Claims;
use super::plane_client::{self, PlaneClient};
use super::{AppReconciler, FINALIZER, ReconcileState, apply, namespace};
use crate::api::MultiCloudApp as App;
use crate::api::instance::Phase;
use crate::application::model::Application;
use crate::controllers::finalizer;
use crate::karmada::{OverridePolicy, PropagationPolicy};
use crate::machinery::conditions::Verdict;
use crate::runtime::controller::Next;
use crate::runtime::instance_ref::{InstanceRefError, no_plane};
use crate::runtime::planes::{InstanceKey, PlaneError};

/// How soon a deletion is looked at again, should no event tell that it went on.
const DELETION_RECHECK: Duration = Duration::from_secs(2);

impl AppReconciler {
    /// Takes everything of the app out of the plane, and lets go once the members are clean.
    pub(super) async fn remove(&self, app: &App) -> Result<ReconcileState, Error> {
        if !app.finalizers().iter().any(|held| held == FINALIZER) {
            return Ok(ReconcileState { verdict: None, next: Next::OnEvent });
        }
        let key = self.key(app);
        let instance = self.instance(&key).await?;
        let is_ending = instance.as_ref().is_none_or(|instance| instance.metadata.deletion_timestamp.is_some());
        // One request that fails is no sign that the plane is gone: what is in the members would stay there.
        let is_given_up = instance.as_ref().is_none_or(|instance| finalizer::is_given_up(instance, Timestamp::now()));
        // Before an instance is up for the first time, nothing can have been written into its plane.
        let never_up = instance.as_ref().is_some_and(|instance| {
            matches!(instance.status.as_ref().and_then(|status| status.phase), None | Some(Phase::Installing))
        }) && app.status.as_ref().is_none_or(|status| status.inventory.is_empty());
        let access = match self.access(&key) {
            Err(PlaneError::Unavailable(_)) if is_ending || never_up => {
                return self.let_go(app, &key).await;
            }
            Err(_) if is_given_up => return self.let_go(app, &key).await,
            Err(error) => {
                return Err(match &instance {
                    Some(instance) => no_plane(instance, &error).into(),
                    None => InstanceRefError::Connecting(key).into(),
                });
            }
            Ok(access) => access,
        };
        // Only the namespace is needed of the spec, which may be out of order by now.
        let application = Application::without_templates(app);
        let others = self.apps.state();
        let claims = Claims { app, others: &others, instance: instance.as_ref() };
        let remains = match observe::remains(&access, &claims, application).await {
            Err(Error::Read { .. }) if is_given_up || never_up => return self.let_go(app, &key).await,
            result => result?,
        };
        match clean(&access, &claims, &remains).await? {
            None => {
                match namespace::release(&access, &claims, &remains.application.namespace).await {
                    Ok(Some(why)) => {
                        let note = format!("namespace {} stays in the plane: {why}", remains.application.namespace);
                        self.writer.warn(app, "NamespaceKept", &note).await;
                    }
                    Err(error) if !is_given_up => return Err(error),
                    _ => {}
                }
                self.let_go(app, &key).await
            }
            Some(message) => {
                let verdict = Verdict::Progressing { reason: "Deleting", message };
                Ok(ReconcileState { verdict: Some(verdict), next: Next::After(DELETION_RECHECK) })
            }
        }
    }

    async fn let_go(&self, app: &App, key: &InstanceKey) -> Result<ReconcileState, Error> {
        let released = finalizer::remove(&self.host, app, FINALIZER).await;
        released.map_err(|source| Error::Host { verb: "remove the finalizer", source })?;
        if self.planes.get(key).is_err() {
            self.accesses.forget(key);
        }
        Ok(ReconcileState { verdict: None, next: Next::OnEvent })
    }
}

/// Deletes the templates, then, once the members are clean of them, the policies. Tells what is awaited; nothing
/// when all is gone.
async fn clean(access: &PlaneClient, claims: &Claims<'_>, remains: &Observed) -> Result<Option<String>, Error> {
    plane_client::each(remains.stale.iter().map(|live| apply::release(access, claims, live)).collect()).await?;
    for live in &remains.stale {
        let is_there = live.object.as_ref().is_some_and(|object| claims.is_ours(object));
        // The binding goes when the members are clean. That of a namesake is not waited for.
        let is_bound = (live.binding.is_some() || live.unreadable.is_some()) && (is_there || live.object.is_none());
        if is_there || is_bound {
            let of = &live.identity;
            let clusters = live.binding.iter().flat_map(|binding| &binding.spec.binding.clusters);
            let names: Vec<&str> = clusters.map(|cluster| cluster.name.as_str()).take(5).collect();
            let whose = if names.is_empty() { String::new() } else { format!(" from {}", names.join(", ")) };
            return Ok(Some(format!("waiting until {} {} is removed{whose}", of.kind, of.name)));
        }
    }
    for policy in &remains.overrides {
        apply::delete_object(access, claims, &observe::resource::<OverridePolicy>(), policy).await?;
    }
    if let Some(policy) = &remains.propagation {
        apply::delete_object(access, claims, &observe::resource::<PropagationPolicy>(), policy).await?;
    }
    let policies_left = remains.propagation.is_some() || !remains.overrides.is_empty();
    Ok(policies_left.then(|| "waiting until the policies are removed".to_owned()))
}

//! The end of an app: templates first, then, once the members are clean of them, the policies; and last the namespace, if
//! it was made for applications and nobody needs it.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::error::Error;
use super::observe::{self, ObservedApp, ObservedTemplate};
use super::ownership::Claims;
use super::plane_client::{self, PlaneClient};
use super::{AppReconciler, FINALIZER, ReconcileResult, apply, namespace};
use crate::api::MultiCloudApp as App;
use crate::api::instance::Phase;
use crate::application::model::Application;
use crate::controllers::host_error::HostError;
use crate::karmada::{OverridePolicy, PropagationPolicy};
use crate::machinery::conditions::Verdict;
use crate::machinery::error::chain;
use crate::runtime::apply::ApplyError;
use crate::runtime::controller::Next;
use crate::runtime::finalizer;
use crate::runtime::instance_ref::{InstanceRefError, is_plane_given_up, no_plane};
use crate::runtime::planes::{InstanceKey, PlaneError};

/// How soon a deletion is looked at again, should no event tell that it went on.
const DELETION_RECHECK_INTERVAL: Duration = Duration::from_secs(2);

impl AppReconciler {
    /// Takes everything of the app out of the plane, and lets go once the members are clean.
    pub(super) async fn remove(&self, app: &App) -> Result<ReconcileResult, Error> {
        if !app.finalizers().iter().any(|held| held == FINALIZER) {
            return Ok(ReconcileResult { verdict: None, next: Next::OnEvent });
        }
        let key = self.key(app);
        let instance = self.instance(&key).await?;
        let is_ending = instance.as_ref().is_none_or(|instance| instance.metadata.deletion_timestamp.is_some());
        // One request that fails is no sign that the plane is gone: what is in the members would stay there.
        let is_given_up = instance.as_ref().is_none_or(|instance| is_plane_given_up(instance, Timestamp::now()));
        // Before an instance is up for the first time, nothing can have been written into its plane.
        let never_up = instance.as_ref().is_some_and(|instance| {
            matches!(instance.status.as_ref().and_then(|status| status.phase), None | Some(Phase::Installing))
        }) && app.status.as_ref().is_none_or(|status| status.inventory.is_empty());
        let plane_client = match self.plane_client(&key) {
            Err(PlaneError::Unavailable(_)) if is_ending || never_up => {
                return self.remove_finalizer(app, &key).await;
            }
            Err(_) if is_given_up => return self.remove_finalizer(app, &key).await,
            Err(error) => {
                return Err(match &instance {
                    Some(instance) => no_plane(instance, &error).into(),
                    None => InstanceRefError::Connecting(key).into(),
                });
            }
            Ok(plane_client) => plane_client,
        };
        // Only the namespace is needed of the spec, which may be out of order by now.
        let application = Application::without_templates(app);
        let others = self.apps.state();
        let claims = Claims::new(app, &others, instance.as_ref());
        let remains = match observe::remains(&plane_client, &claims, application).await {
            Err(Error::Read { .. }) if is_given_up || never_up => return self.remove_finalizer(app, &key).await,
            result => result?,
        };
        let cleaned = match clean(&plane_client, &claims, &remains, is_given_up).await {
            Err(error) if is_given_up && is_refusal(&error) => {
                let note = format!("the plane goes with what it does not let go: {}", chain(&error));
                self.writer.warn(app, "LeftBehind", &note).await;
                return self.remove_finalizer(app, &key).await;
            }
            result => result?,
        };
        match cleaned {
            None => {
                match namespace::release(&plane_client, &claims, &remains.application.namespace).await {
                    Ok(Some(why)) => {
                        let note = format!("namespace {} stays in the plane: {why}", remains.application.namespace);
                        self.writer.warn(app, "NamespaceKept", &note).await;
                    }
                    Err(error) if !is_given_up => return Err(error),
                    _ => {}
                }
                self.remove_finalizer(app, &key).await
            }
            Some(message) => {
                let verdict = Verdict::Progressing { reason: "Deleting", message };
                Ok(ReconcileResult { verdict: Some(verdict), next: Next::After(DELETION_RECHECK_INTERVAL) })
            }
        }
    }

    async fn remove_finalizer(&self, app: &App, key: &InstanceKey) -> Result<ReconcileResult, Error> {
        let released = finalizer::remove(&self.host, app, FINALIZER).await;
        released.map_err(|source| HostError { action: "remove the finalizer", source })?;
        if self.planes.get(key).is_err() {
            self.plane_clients.forget(key);
        }
        Ok(ReconcileResult { verdict: None, next: Next::OnEvent })
    }
}

/// Whether the plane answers that it does not carry a write out, and would answer so again: a conflict, a timeout or too many
/// requests are tried again. In the plane of an instance that has been waited for, tenants may protect what they have there,
/// and must not keep the instance by it.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::Refused(_) => true,
        Error::Write(ApplyError::Api { source: kube::Error::Api(status), .. }) => {
            matches!(status.code, 400 | 403 | 405 | 422)
        }
        _ => false,
    }
}

/// Whether an object is still to be waited for. Its binding goes when the members are clean; that of a namesake is not waited
/// for. An object that somebody's finalizer keeps, and that no member has any more, goes with a plane that is given up.
fn is_awaited(live: &ObservedTemplate, is_ours: bool, is_given_up: bool) -> bool {
    let has_binding = live.binding.is_some() || live.unreadable.is_some();
    let is_bound = has_binding && (is_ours || live.object.is_none());
    let is_ending = live.object.as_ref().is_some_and(|object| object.metadata.deletion_timestamp.is_some());
    is_bound || (is_ours && !(is_given_up && is_ending))
}

/// Deletes the templates, then, once the members are clean of them, the policies. Tells what is awaited; nothing
/// when all is gone, or goes with the plane.
async fn clean(
    plane_client: &PlaneClient,
    claims: &Claims<'_>,
    remains: &ObservedApp,
    is_given_up: bool,
) -> Result<Option<String>, Error> {
    plane_client::each(remains.stale.iter().map(|live| apply::release(plane_client, claims, live)).collect()).await?;
    for live in &remains.stale {
        let is_ours = live.object.as_ref().is_some_and(|object| claims.is_ours(object));
        if is_awaited(live, is_ours, is_given_up) {
            let of = &live.identity;
            let clusters = live.binding.iter().flat_map(|binding| &binding.spec.binding.clusters);
            let names: Vec<&str> = clusters.map(|cluster| cluster.name.as_str()).take(5).collect();
            let whose = if names.is_empty() { String::new() } else { format!(" from {}", names.join(", ")) };
            return Ok(Some(format!("waiting until {} {} is removed{whose}", of.kind, of.name)));
        }
    }
    for policy in &remains.overrides {
        apply::delete_object(plane_client, claims, &observe::resource::<OverridePolicy>(), policy).await?;
    }
    if let Some(policy) = &remains.propagation {
        apply::delete_object(plane_client, claims, &observe::resource::<PropagationPolicy>(), policy).await?;
    }
    let policies = remains.propagation.iter().chain(&remains.overrides);
    let policies_left =
        policies.filter(|policy| !(is_given_up && policy.metadata.deletion_timestamp.is_some())).count() > 0;
    Ok(policies_left.then(|| "waiting until the policies are removed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::model::Identity;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::DynamicObject;
    use kube::core::Status;
    use serde_json::json;

    #[test]
    fn what_a_plane_refuses_is_not_waited_for_for_ever() {
        let answer = |status: Status| ApplyError::Api {
            verb: "delete",
            kind: "ConfigMap".into(),
            name: "shop/conf".into(),
            source: kube::Error::Api(status.boxed()),
        };
        let protected = answer(Status::failure("remove the label first", "Forbidden").with_code(403));
        let invalid = answer(Status::failure("not so", "Invalid").with_code(422));
        assert!(is_refusal(&Error::from(protected)) && is_refusal(&Error::from(invalid)));
        for code in [409, 429, 500, 503, 504] {
            let passing = answer(Status::failure("not now", "Later").with_code(code));
            assert!(!is_refusal(&Error::from(passing)), "{code}");
        }
        let silent = ApplyError::Api {
            verb: "delete",
            kind: "ConfigMap".into(),
            name: "shop/conf".into(),
            source: kube::Error::Service("connection refused".into()),
        };
        assert!(!is_refusal(&Error::from(silent)));
        assert!(!is_refusal(
            &InstanceRefError::Unreadable(InstanceKey { namespace: "a".into(), name: "b".into() }).into()
        ));
    }

    #[test]
    fn an_object_is_awaited_until_members_are_clean_and_in_a_plane_that_stays() {
        let live = |object: Option<bool>, binding: bool| ObservedTemplate {
            identity: Identity { api_version: "v1".into(), kind: "ConfigMap".into(), name: "conf".into() },
            resource: observe::resource::<ConfigMap>(),
            object: object.map(|is_ending| {
                let deleted = is_ending.then_some("2026-01-01T00:00:00Z");
                let metadata = json!({"name": "conf", "finalizers": ["their/own"], "deletionTimestamp": deleted});
                serde_json::from_value::<DynamicObject>(json!({"metadata": metadata})).unwrap()
            }),
            unreadable: None,
            binding: binding.then(|| {
                let resource = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "conf"});
                let spec = json!({"resource": resource, "clusters": []});
                serde_json::from_value(json!({"metadata": {"name": "conf-configmap"}, "spec": spec})).unwrap()
            }),
        };
        for (name, live, is_ours, is_given_up, want) in [
            ("one that is there", live(Some(false), false), true, false, true),
            ("one that somebody's finalizer keeps", live(Some(true), false), true, false, true),
            ("that, and the plane is given up", live(Some(true), false), true, true, false),
            ("that, and members still have it", live(Some(true), true), true, true, true),
            ("one that is gone, and members still have it", live(None, true), false, true, true),
            ("somebody else's", live(Some(false), true), false, false, false),
        ] {
            assert_eq!(is_awaited(&live, is_ours, is_given_up), want, "{name}");
        }
    }
}

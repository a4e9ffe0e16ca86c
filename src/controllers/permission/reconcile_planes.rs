//! One reconcile of all planes of a permission: those that are meant are served, the others left.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::error::{Error, InstanceError};
use super::status::{self, PlaneResults, Served};
use super::{FINALIZER, Permissions, apply, observe, plan, validate};
use crate::api::KarmadaInstance;
use crate::api::permission::{PermissionBinding, PermissionBindingStatus};
use crate::controllers::host_error::HostError;
use crate::controllers::watch::instance;
use crate::runtime::controller::Next;
use crate::runtime::finalizer;
use crate::runtime::instance_ref::{InstanceRefError, is_plane_given_up};
use crate::runtime::planes::{InstanceKey, Plane, PlaneError};

/// How long one plane may take in one round.
const PLANE_TIMEOUT: Duration = Duration::from_secs(20);

impl Permissions {
    /// One reconcile of all planes: those that are meant are served, the others left.
    pub(super) async fn reconcile_planes(
        &self,
        binding: &PermissionBinding,
        until: Option<Timestamp>,
    ) -> Result<PlaneResults, Error> {
        let expired = until.filter(|until| *until <= Timestamp::now());
        let all = self.context.cache.instances.store().state();
        let mut results = PlaneResults { expired, ..PlaneResults::default() };
        let mut serve = Vec::new();
        if expired.is_none() {
            match validate::select(binding, all.iter().filter_map(|guarded| guarded.0.as_ref().ok())) {
                Ok(selected) => {
                    for (key, instance) in selected {
                        match instance
                            .and_then(|instance| Ok((instance, observe::plane(&self.context.planes, instance, &key)?)))
                        {
                            Ok((instance, plane)) => serve.push((key, instance, plane)),
                            Err(error) => results.served.push((key, Err(error))),
                        }
                    }
                }
                Err(error) => results.problem = Some(error),
            }
        }
        if !serve.is_empty() {
            self.announce(binding, &serve.iter().map(|(key, ..)| key.clone()).collect::<Vec<_>>()).await?;
        }
        let serving = serve.iter().map(|(key, instance, plane)| async move {
            let work = within_deadline(PLANE_TIMEOUT, serve_plane(plane, binding, instance));
            (key.clone(), work.await)
        });
        let leave = status::planes(binding)
            .into_iter()
            .filter(|key| !serve.iter().any(|(served, ..)| served == key))
            .filter(|key| !waits(&results, key));
        let leaving = leave.map(|key| async move {
            let result = self.leave_plane(&key, binding).await;
            (key, result)
        });
        let (served, left) = tokio::join!(futures::future::join_all(serving), futures::future::join_all(leaving));
        results.served.extend(served);
        results.served.sort_by(|(a, _), (b, _)| a.cmp(b));
        results.left = left;
        Ok(results)
    }

    /// The finalizer and the list of planes, before the first write in any of them.
    async fn announce(&self, binding: &PermissionBinding, planes: &[InstanceKey]) -> Result<(), Error> {
        finalizer::add(&self.context.host.0, binding, FINALIZER)
            .await
            .map_err(|source| HostError { action: "set the finalizer", source })?;
        match status::announcing(binding, planes) {
            Some(status) => self.write(binding, status).await,
            None => Ok(()),
        }
    }

    pub(super) async fn write(
        &self,
        binding: &PermissionBinding,
        status: PermissionBindingStatus,
    ) -> Result<(), Error> {
        let written = self.status.write(binding, status).await;
        Ok(written.map_err(|source| HostError { action: "write the status", source })?)
    }

    /// Removes the role from a plane. One that is gone for good holds nothing.
    async fn leave_plane(&self, key: &InstanceKey, binding: &PermissionBinding) -> Result<(), InstanceError> {
        let Some(instance) = instance(&self.context.cache.instances, key)? else { return Ok(()) };
        let is_ending = instance.metadata.deletion_timestamp.is_some();
        if is_ending && matches!(self.context.planes.get(key), Err(PlaneError::Unavailable(_))) {
            return Ok(());
        }
        let removed = async {
            let plane = observe::plane(&self.context.planes, &instance, key)?;
            apply::remove(&plane, binding).await
        };
        leave_within(PLANE_TIMEOUT, removed, is_plane_given_up(&instance, Timestamp::now())).await
    }

    /// One reconcile towards being gone.
    pub(super) async fn leave(&self, binding: &PermissionBinding) -> Result<Next, Error> {
        let leaving = status::planes(binding).into_iter().map(|key| async move {
            let result = self.leave_plane(&key, binding).await;
            (key, result)
        });
        let results = PlaneResults { left: futures::future::join_all(leaving).await, ..PlaneResults::default() };
        if let Some(error) = results.failure() {
            self.write(binding, status::leaving(binding, &results)).await?;
            return Err(error);
        }
        finalizer::remove(&self.context.host.0, binding, FINALIZER)
            .await
            .map_err(|source| HostError { action: "remove the finalizer", source })?;
        Ok(Next::OnEvent)
    }
}

/// Whether a plane is meant, and only not to be had now: nothing is taken away there. Pure.
fn waits(results: &PlaneResults, key: &InstanceKey) -> bool {
    results.served.iter().any(|(served, result)| {
        served == key
            && matches!(
                result,
                Err(InstanceError::Instance(InstanceRefError::NotReady { .. } | InstanceRefError::Connecting(_)))
            )
    })
}

async fn serve_plane(
    plane: &Plane,
    binding: &PermissionBinding,
    instance: &KarmadaInstance,
) -> Result<Served, InstanceError> {
    let observed = observe::observe(plane, binding).await?;
    let wanted = plan::wanted(binding, instance.spec.profile, &observed.clusters).map_err(InstanceError::Serialize)?;
    let members = status::members(binding, &observed.clusters, &observed.copies);
    let unmatched = plan::unmatched(binding, &observed.clusters);
    let applied = apply::apply(plane, plan::plan(wanted, observed.live)).await?;
    Ok(Served { applied, members, unmatched })
}

/// Removes the role from a plane. One that fails, or does not answer in time, is no sign that it is gone, and the role would
/// stay in the members: only a plane that is given up is left as it is.
async fn leave_within(
    deadline: Duration,
    removed: impl Future<Output = Result<(), InstanceError>>,
    is_given_up: bool,
) -> Result<(), InstanceError> {
    match within_deadline(deadline, removed).await {
        Err(_) if is_given_up => Ok(()),
        result => result,
    }
}

async fn within_deadline<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, InstanceError>>,
) -> Result<T, InstanceError> {
    match tokio::time::timeout(deadline, work).await {
        Ok(result) => result,
        Err(_) => Err(InstanceError::Silent(deadline.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_plane_that_never_answers_is_left_once_it_is_given_up() {
        let left = leave_within(Duration::ZERO, std::future::pending(), true).await;
        assert!(left.is_ok(), "{left:?}");
        let waiting = leave_within(Duration::ZERO, std::future::pending(), false).await;
        assert!(matches!(waiting, Err(InstanceError::Silent(_))), "{waiting:?}");
    }
}

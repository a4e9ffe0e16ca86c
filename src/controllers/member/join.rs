//! One round towards being joined: who the member is, what is made there, and what the plane is told of it.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use super::apply;
use super::error::Error;
use super::observe::{self, Holder, LiveCluster, MemberClient, Verified};
use super::plan::{Membership, PlaneMark};
use super::status::{Progress, StatusInputs};
use super::validate::{self, instance_key};
use super::write::{Issued, MemberWrite};
use super::{
    FINALIZER, Known, Members, VERIFY_INTERVAL, VERIFY_UNREADY_INTERVAL, credential, inventory, plan, plane_finds_ready,
};
use crate::api::KarmadaInstance;
use crate::api::instance::Profile;
use crate::api::member::MemberClusterJoin;
use crate::controllers::host_error::HostError;
use crate::karmada::names::execution_namespace;
use crate::runtime::finalizer;
use crate::runtime::instance_ref::{InstanceRefError, not_ready};
use crate::runtime::planes::{InstanceKey, Plane};

/// How long a member may take to answer in one round.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(20);

impl Members {
    /// One round towards being joined.
    pub(super) async fn join(&self, join: &MemberClusterJoin, inputs: &mut StatusInputs) -> Result<Progress, Error> {
        validate::spec(&join.spec, self.local)?;
        let key = instance_key(join);
        let (instance, plane) = self.instance_and_plane(join, &key).await?;
        let live = self.own_cluster(join, &instance, &plane).await?;
        inputs.cluster = live.as_ref().map(|live| live.typed.clone());
        if let Some(live) = &live
            && live.typed.metadata.deletion_timestamp.is_some()
        {
            return Ok(Progress::Rejoining);
        }
        if live.is_none()
            && let Some(message) = not_ready(&instance)
        {
            return Err(InstanceRefError::NotReady { instance: key, message }.into());
        }
        let member_client = self.member_client(join).await?;
        if member_client.secret_ending {
            self.release_credentials(join, None).await;
        }
        let work = self.verified(join, instance.spec.profile, &plane, live.as_ref(), &member_client);
        let verified = within_deadline(&member_client, work).await?;
        inputs.endpoint = Some(member_client.endpoint.clone());
        let verified = match verified {
            Ok(verified) => verified,
            Err(waiting) => return Ok(waiting),
        };
        inputs.id = Some(verified.identity.id.clone());
        inputs.version = Some(verified.identity.version.clone());
        let live_value = live.as_ref().and_then(|live| serde_json::to_value(&live.object).ok());
        let wanted = plan::cluster(join, &verified.identity.id, &member_client.endpoint, live_value.as_ref());
        let cluster = apply::register(&plane, join, &verified.tokens, wanted, live.as_ref()).await?;
        inputs.cluster = Some(cluster);
        Ok(Progress::Joined)
    }

    async fn instance_and_plane(
        &self,
        join: &MemberClusterJoin,
        key: &InstanceKey,
    ) -> Result<(KarmadaInstance, Arc<Plane>), Error> {
        let instance = self.instance(join, key).await?;
        if instance.metadata.deletion_timestamp.is_some() {
            return Err(Error::InstanceDeleting { instance: key.to_string() });
        }
        let plane = observe::plane(&self.context.planes, &instance, key)?;
        Ok((instance, plane))
    }

    pub(super) async fn instance(&self, join: &MemberClusterJoin, key: &InstanceKey) -> Result<KarmadaInstance, Error> {
        // The caches may still be filling just after start; an error means that the process is ending.
        let _ = self.context.cache.instances.listed().await;
        self.context.planes.listed().await;
        Ok(observe::instance(&self.context.cache.instances, key, &join.namespace().unwrap_or_default())?)
    }

    /// The Cluster, when it is there and this membership's.
    async fn own_cluster(
        &self,
        join: &MemberClusterJoin,
        instance: &KarmadaInstance,
        plane: &Plane,
    ) -> Result<Option<LiveCluster>, Error> {
        let (all, key) = (self.joins.state(), &plane.key);
        // Whoever is not let in, and never was, takes no name from those who are.
        let others = all.iter().filter_map(|guarded| guarded.0.as_ref().ok()).filter(|other| {
            other.finalizers().iter().any(|held| held == FINALIZER)
                || instance.admits(&other.namespace().unwrap_or_default())
        });
        let older = validate::older_claim(join, others);
        let taken = |holder: String| Error::NameTaken {
            name: join.spec.cluster_name.clone(),
            instance: key.to_string(),
            holder,
        };
        if let Some(holder) = older {
            return Err(taken(format!("MemberClusterJoin {holder}")));
        }
        let live = observe::known_cluster(plane, &join.spec.cluster_name).await?;
        match live.as_ref().map(|live| observe::holder(join, &live.typed)) {
            Some(Holder::Other(holder)) => Err(taken(holder)),
            Some(Holder::Us) | None => Ok(live),
        }
    }

    pub(super) async fn member_client(&self, join: &MemberClusterJoin) -> Result<MemberClient, Error> {
        let known = self.known(join);
        let (context, made) = (&self.context, known.as_ref().map(|known| &known.member_client));
        let member_client = observe::member_client(&context.cache, &context.factory, join, self.local, made).await?;
        if made.is_none_or(|made| made.source != member_client.source) {
            // What was found with another kubeconfig is told by its digest.
            let verified = known.and_then(|known| known.verified);
            self.remember(join, Known { member_client: member_client.clone(), verified });
        }
        Ok(member_client)
    }

    /// Who the member is and the credentials made there, from memory where that is fresh; or what is awaited.
    async fn verified(
        &self,
        join: &MemberClusterJoin,
        profile: Profile,
        plane: &Plane,
        live: Option<&LiveCluster>,
        member_client: &MemberClient,
    ) -> Result<Result<Verified, Progress>, Error> {
        let ready = live.is_some_and(|live| plane_finds_ready(&live.typed));
        let fresh = if ready { VERIFY_INTERVAL } else { VERIFY_UNREADY_INTERVAL }.mul_f64(0.9);
        let known = self.known(join).and_then(|known| known.verified).filter(|verified| {
            verified.at.elapsed() < fresh
                && verified.generation == join.metadata.generation
                && verified.digest == member_client.digest
                && live.is_some()
        });
        if let Some(known) = known {
            return Ok(Ok(known));
        }
        let identity = observe::identity(member_client).await?;
        match live.and_then(|live| live.typed.spec.id.clone()) {
            Some(expected) if expected != identity.id => {
                return Err(Error::AnotherCluster { expected, found: identity.id });
            }
            Some(_) => {}
            None => {
                if let Some(other) = observe::same_cluster(plane, &identity.id, &join.spec.cluster_name).await? {
                    return Err(Error::AlreadyJoined { id: identity.id, instance: plane.key.to_string(), other });
                }
            }
        }
        finalizer::add(&self.context.host.0, join, FINALIZER)
            .await
            .map_err(|source| HostError { action: "set the finalizer", source })?;
        credential::hold(&self.context.host.0, join).await?;
        self.release_unneeded_credentials(join).await;
        let mark = match profile {
            Profile::Compact => PlaneMark::Plane(inventory::plane_id(plane).await?),
            Profile::Full => PlaneMark::Works(execution_namespace(&join.spec.cluster_name)),
        };
        let of = Membership { instance: &plane.key, mark: Some(&mark) };
        let tokens = match (MemberWrite { member_client, join }).identity(&of).await? {
            Issued::Tokens(tokens) => tokens,
            Issued::NotYet => return Ok(Err(Progress::AwaitingTokens)),
            Issued::NamespaceEnding => return Ok(Err(Progress::AwaitingNamespace)),
        };
        let verified = Verified {
            at: Instant::now(),
            generation: join.metadata.generation,
            digest: member_client.digest,
            identity,
            tokens,
        };
        self.remember(join, Known { member_client: member_client.clone(), verified: Some(verified.clone()) });
        Ok(Ok(verified))
    }
}

/// A member that takes connections and never answers must not use up the whole round.
pub(super) async fn within_deadline<T>(
    member_client: &MemberClient,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(MEMBER_TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => {
            Err(Error::MemberSilent { endpoint: member_client.server.clone(), seconds: MEMBER_TIMEOUT.as_secs() })
        }
    }
}

//! Writing in a member what a membership wants there: the plane's identity, and its end. *IO.*

use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::Error;
use super::observe::MemberClient;
use super::plan::{
    self, IMPERSONATOR, IdentityObjects, MEMBER_LABEL, MEMBER_NAMESPACE_LABEL, Membership, Rights, Tokens,
    USER_ANNOTATION_PREFIX,
};
use crate::api::member::MemberClusterJoin;
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::karmada::{CLUSTER_NAMESPACE, SYSTEM_LABEL};
use crate::machinery::error::{is_conflict, is_not_found};
use crate::runtime::apply::{Applied, Applier, ApplyError, labelled, typed};

/// What the member has given so far.
#[derive(Debug)]
pub enum Issued {
    /// Tokens of the plane's identity.
    Tokens(Tokens),
    /// Its token controller has not issued them yet.
    NotYet,
    /// The namespace for them is still being deleted after an earlier membership.
    NamespaceEnding,
}

/// Writes in a member for one membership.
#[derive(Clone, Copy, Debug)]
pub struct MemberWrite<'a> {
    /// The client of the member.
    pub member_client: &'a MemberClient,
    /// The membership.
    pub join: &'a MemberClusterJoin,
}

impl MemberWrite<'_> {
    /// Makes the plane's identity in the member. Returns its tokens once the member has issued them.
    pub async fn identity(&self, of: &Membership<'_>) -> Result<Issued, Error> {
        match self.issued(of).await {
            Ok(Some(tokens)) => Ok(Issued::Tokens(tokens)),
            Ok(None) => Ok(Issued::NotYet),
            Err(Error::MemberNamespaceEnding) => Ok(Issued::NamespaceEnding),
            Err(error) => Err(error),
        }
    }

    async fn issued(&self, of: &Membership<'_>) -> Result<Option<Tokens>, Error> {
        let IdentityObjects { account, role, binding, token, impersonator_token } =
            plan::identity(self.join, of, Rights::Full);
        let MemberClient { applier, .. } = self.member_client;
        self.hold_namespace().await?;
        // A token Secret whose account is not there would be deleted at once, so the accounts come first.
        let (shared, account, role, binding) = tokio::join!(
            self.hold_impersonator(),
            applier.apply(&account, labelled),
            applier.apply(&role, labelled),
            applier.apply(&binding, labelled),
        );
        shared?;
        for written in [account, role, binding] {
            written.map_err(|e| self.member_client.write_failure(e))?;
        }
        let (token, impersonator_token) =
            tokio::try_join!(applier.apply(&token, labelled), applier.apply(&impersonator_token, labelled))
                .map_err(|e| self.member_client.write_failure(e))?;
        let (token, impersonator_token) = (self.secret(token)?, self.secret(impersonator_token)?);
        Ok(plan::tokens(&token, &impersonator_token, self.member_client.ca.as_deref()))
    }

    fn secret(&self, applied: Applied) -> Result<Secret, Error> {
        typed(applied.object).map_err(|e| self.member_client.failure(kube::Error::SerdeError(e)))
    }

    /// Takes the verb `delete` from the plane's identity.
    pub async fn withhold_delete(&self, of: &Membership<'_>) -> Result<(), Error> {
        let role = plan::identity(self.join, of, Rights::WithoutDelete).role;
        self.member_client
            .applier
            .apply(&role, labelled)
            .await
            .map(|_| ())
            .map_err(|e| self.member_client.write_failure(e))
    }

    /// Takes all rights from the plane's identity.
    pub async fn withhold_everything(&self) -> Result<(), Error> {
        let name = plan::identity_name(self.join);
        let removed = remove_own::<ClusterRoleBinding>(&self.member_client.applier, self.join, None, &name).await;
        removed.map_err(|e| self.member_client.write_failure(e))
    }

    async fn hold_namespace(&self) -> Result<(), Error> {
        let api = Api::<Namespace>::all(self.member_client.client());
        // What is put into it now would go with it.
        let found = api.get_metadata_opt(CLUSTER_NAMESPACE).await.map_err(|e| self.member_client.failure(e))?;
        if found.is_some_and(|found| found.metadata.deletion_timestamp.is_some()) {
            return Err(Error::MemberNamespaceEnding);
        }
        self.claim(&api, CLUSTER_NAMESPACE, |metadata| Namespace { metadata, ..Namespace::default() }).await
    }

    async fn hold_impersonator(&self) -> Result<(), Error> {
        let api = Api::<ServiceAccount>::namespaced(self.member_client.client(), CLUSTER_NAMESPACE);
        self.claim(&api, IMPERSONATOR, |metadata| ServiceAccount { metadata, ..ServiceAccount::default() }).await
    }

    /// Makes an object that several memberships share, or holds on to the one that is there: each user has an
    /// annotation of its own on it. One that somebody else made is used, and never deleted.
    async fn claim<K>(&self, api: &Api<K>, name: &str, new: impl Fn(kube::core::ObjectMeta) -> K) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let key = plan::user_annotation(self.join);
        let user = format!("{}/{}", self.join.namespace().unwrap_or_default(), self.join.name_any());
        match api.get_opt(name).await.map_err(|e| self.member_client.failure(e))? {
            Some(found) if found.annotations().contains_key(&key) => Ok(()),
            Some(found) => {
                let body = json!({"metadata": {"uid": found.uid(), "annotations": {key: user}}});
                let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(&body)).await;
                patched.map(|_| ()).map_err(|source| self.failed("patch", name, source))
            }
            None => {
                let object = new(kube::core::ObjectMeta {
                    name: Some(name.to_owned()),
                    labels: Some(
                        [(MANAGED_BY_LABEL, MANAGED_BY), (SYSTEM_LABEL, "true")]
                            .map(|(key, value)| (key.to_owned(), value.to_owned()))
                            .into(),
                    ),
                    annotations: Some([(key, user)].into()),
                    ..kube::core::ObjectMeta::default()
                });
                let created = api.create(&PostParams::default(), &object).await;
                created.map(|_| ()).map_err(|source| self.failed("create", name, source))
            }
        }
    }

    fn failed(&self, verb: &'static str, name: &str, source: kube::Error) -> Error {
        let kind = "shared object".to_owned();
        self.member_client.write_failure(ApplyError::Api { verb, kind, name: name.to_owned(), source })
    }

    /// Removes everything that this membership made in the member. What it shares goes with the last user.
    pub async fn remove_identity(&self) -> Result<(), Error> {
        let (applier, join) = (&self.member_client.applier, self.join);
        let name = plan::identity_name(join);
        let impersonator_token = plan::impersonator_token_name(join);
        let namespace = Some(CLUSTER_NAMESPACE);
        let namespaced = async {
            remove_own::<Secret>(applier, join, namespace, &name).await?;
            remove_own::<Secret>(applier, join, namespace, &impersonator_token).await?;
            remove_own::<ServiceAccount>(applier, join, namespace, &name).await
        };
        tokio::try_join!(
            remove_own::<ClusterRoleBinding>(applier, join, None, &name),
            remove_own::<ClusterRole>(applier, join, None, &name),
            namespaced,
        )
        .map_err(|e| self.member_client.write_failure(e))?;
        let accounts = Api::<ServiceAccount>::namespaced(self.member_client.client(), CLUSTER_NAMESPACE);
        self.release(&accounts, IMPERSONATOR, async { Ok(true) }).await?;
        self.remove_impersonation(&accounts).await?;
        let others_there = async {
            let list = accounts.list_metadata(&ListParams::default()).await?;
            Ok(list.items.iter().all(|account| account.name_any() == "default"))
        };
        self.release(&Api::<Namespace>::all(self.member_client.client()), CLUSTER_NAMESPACE, others_there).await
    }

    /// Removes the rules that upstream (profile Full) gave the impersonator, once that is gone. Upstream does so
    /// itself, except where its objects were told to stay in the member.
    async fn remove_impersonation(&self, accounts: &Api<ServiceAccount>) -> Result<(), Error> {
        let member_client = self.member_client;
        if accounts.get_metadata_opt(IMPERSONATOR).await.map_err(|e| member_client.failure(e))?.is_some() {
            return Ok(());
        }
        for resource in [ApiResource::erase::<ClusterRoleBinding>(&()), ApiResource::erase::<ClusterRole>(&())] {
            let api = member_client.applier.api(&resource, None);
            let Some(found) = api.get_metadata_opt(IMPERSONATOR).await.map_err(|e| member_client.failure(e))? else {
                continue;
            };
            if found.labels().get(SYSTEM_LABEL).is_some_and(|value| value == "true") {
                let uid = found.uid().unwrap_or_default();
                let deleted = member_client.applier.delete(&resource, None, IMPERSONATOR, &uid).await;
                deleted.map_err(|e| member_client.write_failure(e))?;
            }
        }
        Ok(())
    }

    /// Lets go of a shared object, and deletes it when nobody holds it any more, Airdock made it and `unused` agrees.
    async fn release<K>(
        &self,
        api: &Api<K>,
        name: &str,
        unused: impl Future<Output = Result<bool, kube::Error>>,
    ) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let member_client = self.member_client;
        let key = plan::user_annotation(self.join);
        let Some(mut found) = api.get_metadata_opt(name).await.map_err(|e| member_client.failure(e))? else {
            return Ok(());
        };
        if found.annotations().contains_key(&key) {
            let body = json!({"metadata": {"uid": found.uid(), "annotations": {key: null}}});
            found = match api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&body)).await {
                Ok(patched) => patched,
                Err(error) if is_not_found(&error) => return Ok(()),
                Err(source) => return Err(self.failed("patch", name, source)),
            };
        }
        let held = found.annotations().keys().any(|key| key.starts_with(USER_ANNOTATION_PREFIX));
        let ours = found.labels().get(MANAGED_BY_LABEL).is_some_and(|value| value == MANAGED_BY);
        let ending = found.metadata.deletion_timestamp.is_some();
        if held || !ours || ending || !unused.await.map_err(|e| member_client.failure(e))? {
            return Ok(());
        }
        // The version makes sure that nobody took hold of it meanwhile.
        let preconditions = Preconditions { uid: found.uid(), resource_version: found.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match api.delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) if is_conflict(&source) => Err(Error::MemberWrite(ApplyError::Api {
                verb: "delete",
                kind: "shared object".to_owned(),
                name: name.to_owned(),
                source,
            })),
            Err(source) => Err(self.failed("delete", name, source)),
        }
    }
}

/// Deletes an object, in the member or in the plane, if it was made for this membership.
pub(super) async fn remove_own<K>(
    applier: &Applier,
    join: &MemberClusterJoin,
    namespace: Option<&str>,
    name: &str,
) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = ()>,
{
    let resource = ApiResource::erase::<K>(&());
    let found = applier.api(&resource, namespace).get_metadata_opt(name).await.map_err(|source| ApplyError::Api {
        verb: "get",
        kind: resource.kind.clone(),
        name: name.to_owned(),
        source,
    })?;
    let Some(found) = found else { return Ok(()) };
    let labels = plan::labels(join);
    let ours = [MANAGED_BY_LABEL, MEMBER_LABEL, MEMBER_NAMESPACE_LABEL]
        .iter()
        .all(|key| found.labels().get(*key) == labels.get(*key));
    if ours {
        applier.delete(&resource, namespace, name, &found.uid().unwrap_or_default()).await?;
    }
    Ok(())
}

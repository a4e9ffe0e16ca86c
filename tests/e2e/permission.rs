//! Permissions: the same in plane and members, repaired, taken away.

use std::path::Path;

use airdock::api::PermissionBinding;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};

use crate::fleet::{self, INSTANCE, NAMESPACE};
use crate::lab;

#[tokio::test]
async fn a_role_holds_in_plane_and_members_until_it_is_taken_away() {
    let _lab = lab::shared().await;
    let fleet = fleet::fleet().await;
    let bindings: Api<PermissionBinding> = Api::namespaced(fleet.host.clone(), NAMESPACE);
    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: PermissionBinding\nmetadata: {{name: team, namespace: {NAMESPACE}}}\n\
         spec:\n  subjects: [{{kind: User, name: alice}}, {{kind: Group, name: team-a}}]\n  role: Editor\n\
         \x20 scope: {{instances: {{names: [{INSTANCE}]}}, namespaces: [team-a], clusters: {{clusters: [eu, us]}}}}\n"
    ));
    let binding = lab::until_ready(&bindings, "team", 60).await;
    let status = binding.status.unwrap();
    assert_eq!(status.targets_synced.as_deref(), Some("3/3"), "the plane and two members: {:?}", status.targets);

    let plane = lab::folder().join("instances").join(format!("{NAMESPACE}.{INSTANCE}.kubeconfig"));
    let everywhere = [plane.clone(), lab::member_kubeconfig("eu"), lab::member_kubeconfig("us")];
    for kubeconfig in &everywhere {
        may(kubeconfig, "alice", "create deployments", "team-a", true).await;
        may(kubeconfig, "alice", "create rolebindings", "team-a", false).await;
        may(kubeconfig, "alice", "get secrets", "default", false).await;
        may(kubeconfig, "mallory", "get pods", "team-a", false).await;
    }
    may(&lab::member_kubeconfig("host"), "alice", "create deployments", "team-a", false).await;

    // Drift is repaired in the plane and in a member.
    for client in [fleet.plane.clone(), lab::member("eu").await] {
        let roles: Api<RoleBinding> = Api::namespaced(client, "team-a");
        let found = roles.list(&ListParams::default()).await.unwrap();
        let ours = found.iter().find(|r| r.subjects.iter().flatten().any(|s| s.name == "alice")).unwrap().clone();
        roles.delete(&ours.name_any(), &DeleteParams::default()).await.unwrap();
        lab::eventually("the RoleBinding is back", 15, async || {
            roles.get_opt(&ours.name_any()).await.unwrap().filter(|r| r.uid() != ours.uid())
        })
        .await;
    }

    // Another role replaces the first.
    let (ok, text) =
        lab::kubectl(&["-n", NAMESPACE, "patch", "pb", "team", "--type=merge", "-p", r#"{"spec":{"role":"Viewer"}}"#]);
    assert!(ok, "{text}");
    for kubeconfig in &everywhere {
        may(kubeconfig, "alice", "create deployments", "team-a", false).await;
        may(kubeconfig, "alice", "list deployments", "team-a", true).await;
    }
    lab::delete(&bindings, "team", 60).await;
    for kubeconfig in &everywhere {
        may(kubeconfig, "alice", "list deployments", "team-a", false).await;
    }
}

#[tokio::test]
async fn a_role_ends_when_it_expires() {
    let _lab = lab::shared().await;
    fleet::fleet().await;
    let until = k8s_openapi::jiff::Timestamp::now() + std::time::Duration::from_secs(20);
    let until = until.strftime("%Y-%m-%dT%H:%M:%SZ");
    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: PermissionBinding\nmetadata: {{name: brief, namespace: {NAMESPACE}}}\n\
         spec:\n  subjects: [{{kind: User, name: bob}}]\n  role: Viewer\n  expiresAt: '{until}'\n\
         \x20 scope: {{namespaces: [brief], clusters: {{clusters: [us]}}}}\n"
    ));
    let bindings: Api<PermissionBinding> = Api::namespaced(lab::host().await, NAMESPACE);
    lab::until_ready(&bindings, "brief", 15).await;
    may(&lab::member_kubeconfig("us"), "bob", "list pods", "brief", true).await;
    lab::until_condition(&bindings, "brief", "Ready", "False", "expired", 40).await;
    may(&lab::member_kubeconfig("us"), "bob", "list pods", "brief", false).await;
    lab::delete(&bindings, "brief", 30).await;
}

/// Waits until `kubectl auth can-i` gives this answer.
async fn may(kubeconfig: &Path, user: &str, what: &str, namespace: &str, expected: bool) {
    let mut args = vec!["auth", "can-i"];
    args.extend(what.split(' '));
    args.extend(["--as", user, "-n", namespace]);
    let claim = format!(
        "{user} {} {what} in {namespace} by {}",
        if expected { "may" } else { "may not" },
        kubeconfig.display()
    );
    lab::eventually(&claim, 20, async || {
        let (_, text) = lab::kubectl_with(kubeconfig, &args, None);
        (text.lines().any(|line| line == "yes") == expected).then_some(())
    })
    .await;
}

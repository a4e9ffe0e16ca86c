use super::*;

fn ready() -> ClusterSide {
    ClusterSide { ready: true, reported: true, annotated: true, ..ClusterSide::default() }
}

fn here(profile: Profile, cluster: Option<ClusterSide>) -> PlaneSide {
    PlaneSide::Here { profile, cluster }
}

fn away() -> MemberSide {
    MemberSide::Away { message: "dial".into() }
}

fn leaving(policy: UnjoinPolicy, plane: PlaneSide, member: MemberSide) -> Leaving {
    Leaving { policy, due: false, plane, member, done: Done::default() }
}

fn name(step: &Step) -> String {
    match step {
        Step::Wait { reason, .. } => format!("Wait {reason}"),
        Step::Annotate { force } => format!("Annotate {force}"),
        Step::Release { left_behind } => format!("Release {}", left_behind.is_some()),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_member_leaves_step_by_step() {
    use Profile::{Compact, Full};
    use UnjoinPolicy::{Orphan, Unjoin};
    let deleting = |side: ClusterSide| ClusterSide { deleting: true, ..side };
    let not_ready = || ClusterSide { ready: false, ..ready() };
    let never = || ClusterSide { ready: false, reported: false, ..ready() };
    let plain = || ClusterSide { annotated: false, ..ready() };
    let works = || ClusterSide { unpreserved_works: true, ..ready() };
    let withheld = || Done { delete_withheld: true, ..Done::default() };
    let no = Done::default;
    let overdue = |side: ClusterSide| ClusterSide { overdue: true, ..side };
    let left = |names: &[&str]| Applications::Remaining(names.iter().map(ToString::to_string).collect());
    let cases: Vec<(&str, Leaving, Done, bool, &str)> = vec![
        (
            "starts with the Cluster",
            leaving(Unjoin, here(Compact, Some(ready())), MemberSide::Here),
            no(),
            false,
            "DeleteCluster",
        ),
        (
            "annotations first",
            leaving(Unjoin, here(Compact, Some(plain())), MemberSide::Here),
            no(),
            false,
            "Annotate false",
        ),
        (
            "then waits",
            leaving(Unjoin, here(Compact, Some(deleting(ready()))), MemberSide::Here),
            no(),
            false,
            "Wait Unjoining",
        ),
        (
            "member away",
            leaving(Unjoin, here(Compact, Some(deleting(ready()))), away()),
            no(),
            false,
            "Wait MemberUnreachable",
        ),
        ("time is up", leaving(Unjoin, here(Compact, Some(deleting(plain()))), away()), no(), true, "Annotate true"),
        (
            "given up by Compact",
            leaving(Unjoin, here(Compact, Some(deleting(not_ready()))), away()),
            no(),
            true,
            "Wait MemberUnreachable",
        ),
        (
            "one that is reached has its time",
            leaving(Unjoin, here(Compact, Some(deleting(plain()))), MemberSide::Here),
            no(),
            true,
            "Annotate false",
        ),
        (
            "one that keeps an object is given up after it",
            leaving(Unjoin, here(Compact, Some(deleting(overdue(plain())))), MemberSide::Here),
            no(),
            true,
            "Annotate true",
        ),
        (
            "but not without forceAfterSeconds",
            leaving(Unjoin, here(Compact, Some(deleting(overdue(ready())))), MemberSide::Here),
            no(),
            false,
            "Wait Unjoining",
        ),
        (
            "Full: one that keeps an object",
            leaving(Unjoin, here(Full, Some(deleting(overdue(ready())))), MemberSide::Here),
            no(),
            true,
            "ReleaseCluster",
        ),
        (
            "Full: once only, others may hold it still",
            leaving(Unjoin, here(Full, Some(deleting(overdue(ready())))), MemberSide::Here),
            Done { cluster_released: true, ..no() },
            true,
            "Wait Unjoining",
        ),
        (
            "orphan that is given up still withholds delete",
            leaving(Orphan, here(Compact, Some(deleting(overdue(plain())))), MemberSide::Here),
            no(),
            true,
            "WithholdDelete",
        ),
        (
            "orphan that is given up and refuses",
            leaving(Orphan, here(Compact, Some(deleting(overdue(plain())))), away()),
            no(),
            true,
            "Annotate true",
        ),
        (
            "Full waits for readiness",
            leaving(Unjoin, here(Full, Some(not_ready())), MemberSide::Here),
            no(),
            false,
            "Wait MemberNotReady",
        ),
        (
            "Full never reached it",
            leaving(Unjoin, here(Full, Some(never())), MemberSide::Here),
            no(),
            false,
            "DeleteCluster",
        ),
        ("Full forced", leaving(Unjoin, here(Full, Some(not_ready())), away()), no(), true, "DeleteCluster"),
        (
            "Full forced and stuck",
            leaving(Unjoin, here(Full, Some(deleting(not_ready()))), away()),
            no(),
            true,
            "ReleaseCluster",
        ),
        (
            "orphan first withholds delete",
            leaving(Orphan, here(Compact, Some(ready())), MemberSide::Here),
            no(),
            false,
            "WithholdDelete",
        ),
        (
            "orphan cannot be sure",
            leaving(Orphan, here(Compact, Some(ready())), away()),
            no(),
            false,
            "Wait MemberUnreachable",
        ),
        (
            "orphan on Compact",
            leaving(Orphan, here(Compact, Some(ready())), MemberSide::Here),
            withheld(),
            false,
            "DeleteCluster",
        ),
        (
            "orphan on Full keeps works",
            leaving(Orphan, here(Full, Some(works())), MemberSide::Here),
            withheld(),
            false,
            "PreserveWorks",
        ),
        (
            "also while it goes",
            leaving(Orphan, here(Full, Some(deleting(works()))), MemberSide::Here),
            withheld(),
            false,
            "PreserveWorks",
        ),
        ("Unjoin does not", leaving(Unjoin, here(Full, Some(works())), MemberSide::Here), no(), false, "DeleteCluster"),
        ("Cluster gone", leaving(Unjoin, here(Compact, None), MemberSide::Here), no(), false, "RemoveIdentity"),
        (
            "identity gone",
            leaving(Unjoin, here(Compact, None), MemberSide::Here),
            Done { identity_removed: true, ..no() },
            false,
            "RemoveSecrets",
        ),
        (
            "all gone",
            leaving(Unjoin, here(Compact, None), MemberSide::Here),
            Done { identity_removed: true, secrets_removed: true, ..no() },
            false,
            "Release false",
        ),
        ("identity remains", leaving(Unjoin, here(Compact, None), away()), no(), false, "Wait MemberUnreachable"),
        (
            "identity left behind",
            leaving(Unjoin, here(Compact, None), away()),
            Done { secrets_removed: true, ..no() },
            true,
            "Release true",
        ),
        (
            "plane away",
            leaving(Unjoin, PlaneSide::Away { message: "x".into() }, MemberSide::Here),
            no(),
            true,
            "Wait PlaneUnreachable",
        ),
        ("plane gone", leaving(Unjoin, PlaneSide::Gone, MemberSide::Here), no(), false, "RemoveApplications"),
        (
            "plane gone, applications are to stay",
            leaving(Orphan, PlaneSide::Gone, MemberSide::Here),
            no(),
            false,
            "RemoveIdentity",
        ),
        (
            "plane gone, some remain",
            leaving(Unjoin, PlaneSide::Gone, MemberSide::Here),
            Done { applications: left(&["Deployment shop/web"]), ..no() },
            false,
            "Wait RemovingApplications",
        ),
        (
            "plane gone, some remain for too long",
            leaving(Unjoin, PlaneSide::Gone, MemberSide::Here),
            Done { applications: left(&["Deployment shop/web"]), ..no() },
            true,
            "RemoveIdentity",
        ),
        (
            "and are left behind",
            leaving(Unjoin, PlaneSide::Gone, MemberSide::Here),
            Done { applications: left(&["Deployment shop/web"]), identity_removed: true, ..no() },
            true,
            "Release true",
        ),
        (
            "plane gone, none remain",
            leaving(Unjoin, PlaneSide::Gone, MemberSide::Here),
            Done { applications: left(&[]), ..no() },
            false,
            "RemoveIdentity",
        ),
        (
            "plane gone, cleaned",
            leaving(Unjoin, PlaneSide::Gone, MemberSide::Here),
            Done { applications: left(&[]), identity_removed: true, ..no() },
            false,
            "Release false",
        ),
        (
            "plane gone, which left no marks",
            leaving(Unjoin, PlaneSide::Gone, MemberSide::Here),
            Done { applications: Applications::Unmarked, identity_removed: true, ..no() },
            false,
            "Release true",
        ),
        ("both gone", leaving(Unjoin, PlaneSide::Gone, away()), no(), false, "Release true"),
    ];
    for (case, mut seen, done, due, want) in cases {
        seen.done = done;
        seen.due = due;
        assert_eq!(name(&next(&seen)), want, "{case}");
    }
}

#[test]
fn it_says_what_is_left_behind() {
    let mut seen = leaving(UnjoinPolicy::Unjoin, here(Profile::Compact, None), away());
    seen.due = true;
    seen.done.secrets_removed = true;
    let Step::Release { left_behind: Some(text) } = next(&seen) else { panic!("not released") };
    assert!(text.contains("dial") && text.contains("identity") && text.contains("could not remove"), "{text}");
}

#[test]
fn it_names_what_the_plane_still_has_there() {
    let remaining = ["Deployment shop/web".to_owned()].into_iter().collect();
    let cluster = ClusterSide { deleting: true, remaining, ..ready() };
    let seen = leaving(UnjoinPolicy::Unjoin, here(Profile::Compact, Some(cluster)), MemberSide::Here);
    let Step::Wait { message, normal: true, .. } = next(&seen) else { panic!("does not wait") };
    assert!(message.contains("Deployment shop/web") && message.contains("forceAfterSeconds"), "{message}");
}

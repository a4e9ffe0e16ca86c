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
    let withheld = Done { delete_withheld: true, ..Done::default() };
    let no = Done::default();
    let cases: Vec<(&str, Leaving, Done, bool, &str)> = vec![
        (
            "starts with the Cluster",
            leaving(Unjoin, here(Compact, Some(ready())), MemberSide::Here),
            no,
            false,
            "DeleteCluster",
        ),
        (
            "annotations first",
            leaving(Unjoin, here(Compact, Some(plain())), MemberSide::Here),
            no,
            false,
            "Annotate false",
        ),
        (
            "then waits",
            leaving(Unjoin, here(Compact, Some(deleting(ready()))), MemberSide::Here),
            no,
            false,
            "Wait Unjoining",
        ),
        (
            "member away",
            leaving(Unjoin, here(Compact, Some(deleting(ready()))), away()),
            no,
            false,
            "Wait MemberUnreachable",
        ),
        ("time is up", leaving(Unjoin, here(Compact, Some(deleting(plain()))), away()), no, true, "Annotate true"),
        (
            "given up by Compact",
            leaving(Unjoin, here(Compact, Some(deleting(not_ready()))), away()),
            no,
            true,
            "Wait MemberUnreachable",
        ),
        (
            "reachable is never forced",
            leaving(Unjoin, here(Compact, Some(deleting(plain()))), MemberSide::Here),
            no,
            true,
            "Annotate false",
        ),
        (
            "Full waits for readiness",
            leaving(Unjoin, here(Full, Some(not_ready())), MemberSide::Here),
            no,
            false,
            "Wait MemberNotReady",
        ),
        (
            "Full never reached it",
            leaving(Unjoin, here(Full, Some(never())), MemberSide::Here),
            no,
            false,
            "DeleteCluster",
        ),
        ("Full forced", leaving(Unjoin, here(Full, Some(not_ready())), away()), no, true, "DeleteCluster"),
        (
            "Full forced and stuck",
            leaving(Unjoin, here(Full, Some(deleting(not_ready()))), away()),
            no,
            true,
            "ReleaseCluster",
        ),
        (
            "orphan first withholds delete",
            leaving(Orphan, here(Compact, Some(ready())), MemberSide::Here),
            no,
            false,
            "WithholdDelete",
        ),
        (
            "orphan cannot be sure",
            leaving(Orphan, here(Compact, Some(ready())), away()),
            no,
            false,
            "Wait MemberUnreachable",
        ),
        (
            "orphan on Compact",
            leaving(Orphan, here(Compact, Some(ready())), MemberSide::Here),
            withheld,
            false,
            "DeleteCluster",
        ),
        (
            "orphan on Full keeps works",
            leaving(Orphan, here(Full, Some(works())), MemberSide::Here),
            withheld,
            false,
            "PreserveWorks",
        ),
        (
            "also while it goes",
            leaving(Orphan, here(Full, Some(deleting(works()))), MemberSide::Here),
            withheld,
            false,
            "PreserveWorks",
        ),
        ("Unjoin does not", leaving(Unjoin, here(Full, Some(works())), MemberSide::Here), no, false, "DeleteCluster"),
        ("Cluster gone", leaving(Unjoin, here(Compact, None), MemberSide::Here), no, false, "RemoveIdentity"),
        (
            "identity gone",
            leaving(Unjoin, here(Compact, None), MemberSide::Here),
            Done { identity_removed: true, ..no },
            false,
            "RemoveSecrets",
        ),
        (
            "all gone",
            leaving(Unjoin, here(Compact, None), MemberSide::Here),
            Done { identity_removed: true, secrets_removed: true, ..no },
            false,
            "Release false",
        ),
        ("identity remains", leaving(Unjoin, here(Compact, None), away()), no, false, "Wait MemberUnreachable"),
        (
            "identity left behind",
            leaving(Unjoin, here(Compact, None), away()),
            Done { secrets_removed: true, ..no },
            true,
            "Release true",
        ),
        (
            "plane away",
            leaving(Unjoin, PlaneSide::Away { message: "x".into() }, MemberSide::Here),
            no,
            true,
            "Wait PlaneUnreachable",
        ),
        ("plane gone", leaving(Unjoin, PlaneSide::Gone, MemberSide::Here), no, false, "RemoveIdentity"),
        (
            "plane gone, cleaned",
            leaving(Unjoin, PlaneSide::Gone, MemberSide::Here),
            Done { identity_removed: true, ..no },
            false,
            "Release true",
        ),
        ("both gone", leaving(Unjoin, PlaneSide::Gone, away()), no, false, "Release true"),
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

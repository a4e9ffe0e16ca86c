//! The steps of an installation: from how far an instance has come to what is done next. Pure.

use crate::chart::{Stage, enabled};

use super::observe::{Api, ObservedInstance};
use super::rollout::rollout_status;

/// How far an instance has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Services, Secrets, etcd and API server have been brought to what is wanted.
    pub base: bool,
    /// State of the plane's API.
    pub api: Api,
    /// The objects inside the plane have been brought to what is wanted.
    pub plane: bool,
    /// Kinds that were defined in the plane, and that it does not serve yet.
    pub unserved: Vec<String>,
    /// Some component that needs the plane is there, so that the plane was prepared once.
    pub started: bool,
    /// The components that need the plane have been brought to what is wanted.
    pub components: bool,
    /// Objects that are no longer wanted have been removed.
    pub pruned: bool,
    /// Every component is available as it is wanted.
    pub available: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Apply Services, Secrets, etcd and the API server.
    Base,
    /// Wait for the API server.
    AwaitApi,
    /// Apply the objects inside the plane.
    Plane,
    /// Wait for the plane to serve what was defined in it.
    AwaitKinds,
    /// Apply the components that need the plane.
    Components,
    /// Remove what is no longer wanted.
    Prune,
    /// Wait for the components.
    AwaitComponents,
    /// Nothing.
    Settled,
}

impl Progress {
    /// A round that has done nothing yet.
    #[must_use]
    pub fn begin(observed: &ObservedInstance) -> Self {
        let ObservedInstance { instance, host } = observed;
        let started = enabled(instance)
            .filter(|component| component.stage() == Stage::Plane)
            .any(|component| rollout_status(component, instance, host).exists);
        Self {
            base: false,
            api: Api::Starting,
            plane: false,
            unserved: Vec::new(),
            started,
            components: false,
            pruned: false,
            available: false,
        }
    }
}

/// What is to be done next.
#[must_use]
pub fn next_step(progress: &Progress) -> Step {
    let Progress { base, api, plane, unserved, started, components, pruned, available } = progress;
    if !base {
        return Step::Base;
    }
    // A component of a plane that was prepared before is put right even while the API is away.
    if *started && !components {
        return Step::Components;
    }
    match (api, plane, unserved.is_empty(), components, pruned, available) {
        (Api::Starting | Api::Unreachable(_), ..) => Step::AwaitApi,
        (Api::Ready, false, ..) => Step::Plane,
        (Api::Ready, true, false, ..) => Step::AwaitKinds,
        (_, _, _, false, ..) => Step::Components,
        (.., false, _) => Step::Prune,
        (.., false) => Step::AwaitComponents,
        _ => Step::Settled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_from_what_is_there() {
        let nothing = Progress {
            base: false,
            api: Api::Starting,
            plane: false,
            unserved: Vec::new(),
            started: false,
            components: false,
            pruned: false,
            available: false,
        };
        let based = Progress { base: true, ..nothing.clone() };
        let answering = Progress { api: Api::Ready, ..based.clone() };
        let prepared = Progress { plane: true, ..answering.clone() };
        let placed = Progress { components: true, started: true, ..prepared.clone() };
        let pruned = Progress { pruned: true, ..placed.clone() };
        for (progress, step) in [
            (nothing.clone(), Step::Base),
            (based.clone(), Step::AwaitApi),
            (Progress { api: Api::Unreachable("x".into()), ..based.clone() }, Step::AwaitApi),
            (answering.clone(), Step::Plane),
            (prepared.clone(), Step::Components),
            (Progress { unserved: vec!["Work".into()], ..prepared.clone() }, Step::AwaitKinds),
            (placed.clone(), Step::Prune),
            (pruned.clone(), Step::AwaitComponents),
            (Progress { available: true, ..pruned.clone() }, Step::Settled),
            // Repairs, while the API is away.
            (Progress { started: true, ..based.clone() }, Step::Components),
            (Progress { started: true, components: true, ..based.clone() }, Step::AwaitApi),
            (Progress { started: true, ..nothing.clone() }, Step::Base),
            // A plane whose objects are in doubt is put right before the components count.
            (Progress { plane: false, ..pruned.clone() }, Step::Plane),
        ] {
            assert_eq!(next_step(&progress), step, "{progress:?}");
        }
    }

    #[test]
    fn every_round_ends() {
        let mut progress = Progress {
            base: false,
            api: Api::Ready,
            plane: false,
            unserved: Vec::new(),
            started: false,
            components: false,
            pruned: false,
            available: true,
        };
        for _ in 0..6 {
            match next_step(&progress) {
                Step::Base => progress.base = true,
                Step::Plane => progress.plane = true,
                Step::Components => progress.components = true,
                Step::Prune => progress.pruned = true,
                Step::Settled => return,
                step => panic!("{step:?}"),
            }
        }
        panic!("no end");
    }
}

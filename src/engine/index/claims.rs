//! Whether templates tell which policy claims them.

use std::sync::Arc;
use std::time::Duration;

use super::super::key::Key;
use super::super::model::Template;
use super::{Index, Repair, Requeues, ScheduleInputs};

/// What is known when it is to be written on a template which policy claims it.
#[derive(Clone, Debug)]
pub struct ClaimInputs {
    /// What decides about the claim.
    pub schedule: ScheduleInputs,
    /// Fingerprint of what is to tell of the claim, if the template was seen to tell so before.
    pub held: Option<u64>,
    /// The last repair.
    pub repair: Option<Repair>,
}

impl Index {
    /// It was decided what is to tell on a template which policy claims it; by its fingerprint, nothing while that is not
    /// known.
    pub fn claim_decided(&mut self, key: &Key, claim: Option<u64>) -> Requeues {
        let Some(decision) = self.decisions.get_mut(key) else { return Requeues::default() };
        // What is refused waits for its turn: not every look at the template is a reason to try again.
        if decision.claim == claim {
            return Requeues::default();
        }
        decision.claim = claim;
        decision.holds_claim = false;
        decision.is_claim_forbidden = false;
        self.check_claim(key)
    }

    /// A template or its claim is another one than before.
    pub(super) fn check_claim(&mut self, key: &Key) -> Requeues {
        let claims = if self.lacks_claim(key) { vec![key.clone()] } else { Vec::new() };
        if let (Some(decision), Some(template)) = (self.decisions.get_mut(key), self.templates.get(key)) {
            decision.holds_claim |= decision.claim == Some(template.claim);
        }
        Requeues { claims, ..Requeues::default() }
    }

    /// Whether it is still to be written on a template which policy claims it.
    #[must_use]
    pub fn lacks_claim(&self, key: &Key) -> bool {
        let claim = self.decisions.get(key).and_then(|decision| decision.claim);
        let template = self.templates.get(key);
        template.zip(claim).is_some_and(|(template, claim)| template.lacks_claim(claim))
    }

    /// The last repair of what tells on a template which policy claims it.
    #[must_use]
    pub fn claim_repair(&self, key: &Key) -> Option<Repair> {
        self.claim_repairs.get(key).copied()
    }

    /// What is known when it is to be written on a template which policy claims it; nothing when that is not to be written.
    #[must_use]
    pub fn claim_inputs(&self, key: &Key) -> Option<ClaimInputs> {
        let decision = self.decisions.get(key).filter(|_| self.lacks_claim(key))?;
        let held = decision.claim.filter(|_| decision.holds_claim);
        Some(ClaimInputs { schedule: self.schedule_inputs(key), held, repair: self.claim_repair(key) })
    }

    /// It was written on a template which policy claims it. Counts a repair when the template told so before somebody
    /// changed it, and is still there. The watch may have told of the write already. `now` counts from the engine's start.
    pub fn count_claim_repair(&mut self, before: &ClaimInputs, claim: u64, now: Duration) -> bool {
        let ScheduleInputs { key, template, .. } = &before.schedule;
        let uid = |template: &Arc<Template>| template.uid.clone();
        if before.held != Some(claim) || self.templates.get(key).map(uid) != template.as_ref().map(uid) {
            return false;
        }
        let repair = Repair::after(self.claim_repairs.get(key), claim, now);
        self.claim_repairs.insert(key.clone(), repair);
        true
    }

    /// The engine was forbidden to write on a template which policy claims it. Whether that is new, and to be told.
    pub fn claim_forbidden(&mut self, key: &Key, claim: u64) -> bool {
        let decision = self.decisions.get_mut(key).filter(|decision| decision.claim == Some(claim));
        decision.is_some_and(|decision| !std::mem::replace(&mut decision.is_claim_forbidden, true))
    }

    /// The template is gone, or another one has its name: what was seen and done about its claim counts no more.
    pub(super) fn forget_claim(&mut self, key: &Key) {
        self.claim_repairs.remove(key);
        if let Some(decision) = self.decisions.get_mut(key) {
            decision.holds_claim = false;
            decision.is_claim_forbidden = false;
        }
    }
}

//! Whether templates tell which policy claims them.

use std::time::Duration;

use super::super::key::Key;
use super::{Index, Repair, Requeues};

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

    /// It was written on a template which policy claims it, before the index sees the template as it is now. Counts a
    /// repair when the template told so before somebody changed it. `now` counts from the engine's start.
    pub fn count_claim_repair(&mut self, key: &Key, claim: u64, now: Duration) -> bool {
        let decision = self.decisions.get(key);
        if !decision.is_some_and(|decision| decision.holds_claim && decision.claim == Some(claim)) {
            return false;
        }
        let repair = Repair::after(self.claim_repairs.get(key), claim, now);
        self.claim_repairs.insert(key.clone(), repair);
        true
    }
}

//! Conditions after KEP-1623 and kstatus. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::error::{Class, Classified, MAX_TEXT, chain};
use crate::api::common::condition::{READY, RECONCILING, STALLED};
use crate::limits::shorten;

/// What the three standard conditions say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is as the spec asks.
    Ready {
        /// One word.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
    /// Work is under way.
    Progressing {
        /// One word.
        reason: &'static str,
        /// What is awaited.
        message: String,
    },
    /// Something is wrong, and it is tried again or will mend when something else changes.
    NotReady {
        /// One word.
        reason: &'static str,
        /// What is wrong, and the next action.
        message: String,
    },
    /// Somebody must change something.
    Stalled {
        /// One word.
        reason: &'static str,
        /// Field, value and remedy.
        message: String,
    },
}

impl Verdict {
    /// A verdict on an error, by its class.
    #[must_use]
    pub fn of_error(error: &dyn Classified) -> Self {
        let (reason, message) = (error.reason(), chain(error));
        match error.class() {
            Class::Invalid => Self::Stalled { reason, message },
            Class::Retry | Class::Blocked => Self::NotReady { reason, message },
        }
    }

    /// Writes the verdict into the conditions; `lastTransitionTime` becomes `now` only where a status flips.
    pub fn write(&self, conditions: &mut Vec<Condition>, generation: Option<i64>, now: Timestamp) {
        let (ready, reason, message) = match self {
            Self::Ready { reason, message } => ("True", *reason, message),
            Self::Progressing { reason, message } => ("Unknown", *reason, message),
            Self::NotReady { reason, message } | Self::Stalled { reason, message } => ("False", *reason, message),
        };
        set(conditions, READY, ready, reason, message, generation, now);
        match self {
            Self::Progressing { .. } => set(conditions, RECONCILING, "True", reason, message, generation, now),
            _ => remove(conditions, RECONCILING),
        }
        match self {
            Self::Stalled { .. } => set(conditions, STALLED, "True", reason, message, generation, now),
            _ => remove(conditions, STALLED),
        }
    }
}

/// Sets one condition. `lastTransitionTime` becomes `now` when the status flips.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let message = shorten(message, MAX_TEXT);
    if let Some(existing) = conditions.iter_mut().find(|c| c.type_ == type_) {
        if existing.status != status {
            status.clone_into(&mut existing.status);
            existing.last_transition_time = Time(now);
        }
        reason.clone_into(&mut existing.reason);
        existing.message = message;
        existing.observed_generation = generation;
    } else {
        conditions.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: Time(now),
        });
    }
}

/// Sets a condition that is present only while False, or removes it.
pub fn set_false_or_remove(
    conditions: &mut Vec<Condition>,
    type_: &str,
    problem: Option<(&str, &str)>,
    generation: Option<i64>,
    now: Timestamp,
) {
    match problem {
        Some((reason, message)) => set(conditions, type_, "False", reason, message, generation, now),
        None => remove(conditions, type_),
    }
}

/// Removes one condition.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|c| c.type_ != type_);
}

/// Finds one condition.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether one condition is True.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn transition_time_changes_only_with_the_status() {
        let mut conditions = Vec::new();
        Verdict::NotReady { reason: "A", message: "x".into() }.write(&mut conditions, Some(1), now());
        conditions[0].last_transition_time = Time(Timestamp::UNIX_EPOCH);
        Verdict::NotReady { reason: "B", message: "y".into() }.write(&mut conditions, Some(2), now());
        assert_eq!(conditions[0].last_transition_time, Time(Timestamp::UNIX_EPOCH));
        assert_eq!((conditions[0].reason.as_str(), conditions[0].observed_generation), ("B", Some(2)));
        Verdict::Ready { reason: "C", message: String::new() }.write(&mut conditions, Some(2), now());
        assert_eq!(conditions[0].last_transition_time, Time(now()));
    }

    #[test]
    fn abnormal_conditions_are_present_only_while_true() {
        let mut conditions = Vec::new();
        Verdict::Progressing { reason: "Installing", message: String::new() }.write(&mut conditions, None, now());
        assert!(is_true(&conditions, RECONCILING) && find(&conditions, STALLED).is_none());
        Verdict::Stalled { reason: "Invalid", message: String::new() }.write(&mut conditions, None, now());
        assert!(is_true(&conditions, STALLED) && find(&conditions, RECONCILING).is_none());
        Verdict::Ready { reason: "Ready", message: String::new() }.write(&mut conditions, None, now());
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn messages_have_an_end() {
        let mut conditions = Vec::new();
        Verdict::NotReady { reason: "A", message: "é".repeat(40_000) }.write(&mut conditions, None, now());
        assert!(conditions[0].message.len() <= MAX_TEXT);
    }

    #[test]
    fn a_condition_that_is_only_there_while_false() {
        let mut conditions = Vec::new();
        set_false_or_remove(&mut conditions, "SelectorsMatched", Some(("NothingSelected", "x")), Some(3), now());
        assert_eq!((conditions[0].status.as_str(), conditions[0].observed_generation), ("False", Some(3)));
        set_false_or_remove(&mut conditions, "SelectorsMatched", None, Some(3), now());
        assert!(conditions.is_empty());
    }
}

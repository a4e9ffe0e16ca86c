//! What still stands between a member and its leaving, by name. Pure.

use std::fmt;

/// How many names a message holds.
const MAX_NAMES: usize = 10;

/// Names of what remains; no more of them than a message holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    names: Vec<String>,
    has_more: bool,
}

impl Remaining {
    /// Adds a name, or notes that there are more.
    pub fn push(&mut self, name: String) {
        if self.is_full() {
            self.has_more = true;
        } else {
            self.names.push(name);
        }
    }

    /// Whether a further name would not be shown.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.names.len() >= MAX_NAMES
    }

    /// Whether nothing remains.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

impl Extend<String> for Remaining {
    fn extend<T: IntoIterator<Item = String>>(&mut self, names: T) {
        names.into_iter().for_each(|name| self.push(name));
    }
}

impl FromIterator<String> for Remaining {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        let mut remaining = Self::default();
        remaining.extend(names);
        remaining
    }
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(", "))?;
        if self.has_more { f.write_str(" and more") } else { Ok(()) }
    }
}

/// An object as messages name it.
#[must_use]
pub(super) fn render_object(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace.filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_ten_names() {
        let of = |count: usize| (0..count).map(|n| n.to_string()).collect::<Remaining>();
        assert_eq!(of(1).to_string(), "0");
        assert_eq!(of(10).to_string(), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert_eq!(of(12).to_string(), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and more");
        assert!(of(0).is_empty() && of(10).is_full() && !of(9).is_full());
    }
}

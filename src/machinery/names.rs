//! The API server's rules for names and labels, to tell people which field breaks them. Pure.

/// The group of an API version; empty for the core group.
#[must_use]
pub fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// Whether `text` may be the value of a label.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || (text.len() <= 63 && is_name(text))
}

/// Whether `text` may be the key of a label, an annotation or a taint: `[prefix/]name`.
#[must_use]
pub fn is_qualified_name(text: &str) -> bool {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            if prefix.is_empty() || prefix.len() > 253 || !prefix.split('.').all(is_dns_label) {
                return false;
            }
            name
        }
        None => text,
    };
    !name.is_empty() && name.len() <= 63 && is_name(name)
}

/// Whether `text` may be the name of a namespace.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !text.is_empty()
        && text.len() <= 63
        && text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| edge(c) || c == '-')
}

fn is_name(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values() {
        for (text, want) in
            [("", true), ("a", true), ("A.b_c-9", true), ("-a", false), ("a-", false), ("a b", false), ("ä", false)]
        {
            assert_eq!(is_label_value(text), want, "{text:?}");
        }
        assert!(is_label_value(&"a".repeat(63)) && !is_label_value(&"a".repeat(64)));
    }

    #[test]
    fn qualified_names() {
        for (text, want) in [
            ("tier", true),
            ("example.com/tier", true),
            ("Example.com/tier", false),
            ("/tier", false),
            ("example.com/", false),
            ("a/b/c", false),
            ("", false),
        ] {
            assert_eq!(is_qualified_name(text), want, "{text:?}");
        }
    }

    #[test]
    fn dns_labels() {
        for (text, want) in
            [("a", true), ("a-1", true), ("1", true), ("A", false), ("a.b", false), ("-a", false), ("", false)]
        {
            assert_eq!(is_dns_label(text), want, "{text:?}");
        }
    }
}

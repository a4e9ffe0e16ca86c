//! Limits of what is read and told: anybody may make an object that is nested 10,000 deep, or a status of a megabyte. Pure.

use serde_json::Value;

/// How deep an object may be nested to be read. Less than the 128 levels of `serde_json`, since parts of objects are put
/// into others, which must be readable, too.
pub const MAX_DEPTH: usize = 100;

/// How large an object may be made. etcd takes no request beyond it.
pub const MAX_BYTES: usize = 3 << 19;

/// Field that stands in for what is left out of an object, with the reason why.
pub const OMITTED: &str = "airdock.dev/omitted";

/// Refuses what is nested deeper than [`MAX_DEPTH`].
pub fn check_depth(json: &str) -> Result<(), String> {
    match depth(json) {
        depth if depth > MAX_DEPTH => Err(format!("is nested {depth} levels deep; at most {MAX_DEPTH} are read")),
        _ => Ok(()),
    }
}

/// How deep lists and objects are nested in a JSON text.
#[must_use]
pub fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// How deep lists and objects are nested in a value that was read within [`MAX_DEPTH`].
#[must_use]
pub fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(all) => 1 + all.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(all) => 1 + all.values().map(depth_of).max().unwrap_or(0),
        _ => 0,
    }
}

/// Goes on to the end of a string whose first quote is past.
fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => return,
            _ => {}
        }
    }
}

/// Cuts a text to so many bytes, at a character, and says so by an ellipsis.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(depth("1"), 0);
        assert_eq!(depth(r#"{"a": [{}], "b": "[[[\"{{\\"}"#), 2 + 1);
        assert_eq!(depth(&nested(200)), 200);
        for text in ["1", r#"{"a": [{}], "b": "[["}"#, &nested(100)] {
            assert_eq!(depth_of(&serde_json::from_str(text).unwrap()), depth(text), "{text}");
        }
        assert!(check_depth(&nested(MAX_DEPTH)).is_ok() && check_depth(&nested(MAX_DEPTH + 1)).is_err());
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let text = shorten(&"é".repeat(2000), 1024);
        assert!(text.len() <= 1024 && text.ends_with('…'));
        assert_eq!(shorten("short", 1024), "short");
    }
}

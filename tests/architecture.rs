//! What may import what. Decisions stay pure when the modules that take them cannot name a client, a clock or a runtime.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that decide, and do nothing else.
const PURE: [&str; 10] = [
    "src/application",
    "src/placement",
    "src/overrides",
    "src/interpret",
    "src/distribute.rs",
    "src/karmada",
    "src/instance",
    "src/limits.rs",
    "src/machinery",
    "src/engine/index",
];

/// What talks to somebody, waits, or asks for the time; and what is made of that.
const IMPURE: [&str; 24] = [
    "tokio",
    "tokio_util",
    "futures",
    "hyper",
    "tower",
    "kube::Api",
    "kube::Client",
    "kube::Config",
    "kube::api::Api",
    "kube::client",
    "kube::discovery",
    "kube::runtime",
    "k8s_openapi::jiff::Timestamp::now",
    "Timestamp::now",
    "rand",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "crate::controllers",
    "crate::runtime",
];

/// Imports that break the rule, each with the reason why it may: (file or folder, path, reason).
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The sources below a path, without their tests.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let paths = entries.map(|entry| entry.expect("entry").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| {
            path.file_name().is_some_and(|name| !["tests", "tests.rs", "fixtures.rs"].iter().any(|test| name == *test))
        })
        .filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs"))
        .flat_map(|path| sources(&path))
        .collect();
    files.sort();
    files
}

/// The code of a file, without comments and unit tests.
fn code(path: &Path) -> String {
    without_tests(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// Code without comments, and without the unit tests at its end.
fn without_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every path that code names: those of `use` declarations in full, and those in between as they stand.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some(start) = rest.find("use ") {
        let (before, after) = rest.split_at(start);
        inline_paths(before, &mut found);
        let is_declaration = before.trim_end().is_empty()
            || before.trim_end().ends_with([';', '}', '{', ']'])
            || before.trim_end().ends_with("pub")
            || before.trim_end().ends_with(')');
        let tree = &after["use ".len()..];
        let end = tree.find(';').unwrap_or(tree.len());
        if is_declaration {
            expand("", &tree[..end], &mut found);
            rest = &tree[end..];
        } else {
            rest = tree;
        }
    }
    inline_paths(rest, &mut found);
    found
}

fn inline_paths(code: &str, found: &mut BTreeSet<String>) {
    let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    found.extend(words.filter(|word| word.contains("::")).map(|word| word.trim_matches(':').to_owned()));
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(prefix: &str, tree: &str, found: &mut BTreeSet<String>) {
    let mut depth = 0;
    let mut start = 0;
    let mut parts = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[start..]);
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('{') {
            Some((outer, inner)) => {
                let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
                expand(&format!("{prefix}{outer}"), inner, found);
            }
            None => {
                let name = part.split(" as ").next().unwrap_or(part).trim();
                let path = format!("{prefix}{name}");
                found.insert(path.strip_suffix("::self").unwrap_or(&path).to_owned());
            }
        }
    }
}

fn is_below(path: &str, of: &str) -> bool {
    path == of || path.strip_prefix(of).is_some_and(|rest| rest.starts_with("::"))
}

/// What the files below `folder` name of `forbidden`, less the exceptions.
fn violations(folder: &str, forbidden: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in sources(&root().join(folder)) {
        let name = file.strip_prefix(root()).expect("below the root").display().to_string();
        for path in paths(&code(&file)) {
            let excepted = EXCEPTIONS.iter().any(|(of, allowed, _)| name.starts_with(of) && is_below(&path, allowed));
            if !excepted && forbidden.iter().any(|forbidden| is_below(&path, forbidden)) {
                found.push(format!("{name} names {path}"));
            }
        }
    }
    found
}

#[test]
fn pure_modules_name_no_client_no_clock_and_no_runtime() {
    let found: Vec<String> = PURE.iter().flat_map(|folder| violations(folder, &IMPURE)).collect();
    assert!(found.is_empty(), "pure modules must not do this: {found:#?}");
}

/// A second served version of the API is then a matter of `src/api` alone.
#[test]
fn no_version_of_the_api_is_named_outside_of_it() {
    let files = sources(&root().join("src"));
    let outside = files.iter().filter(|file| !file.starts_with(root().join("src/api")));
    let naming: Vec<_> = outside.filter(|file| code(file).contains("airdock.dev/v1")).collect();
    assert!(naming.is_empty(), "these take it from the types of src/api instead: {naming:#?}");
}

#[test]
fn the_command_line_imports_no_controller() {
    let found = violations("src/cli", &["crate::controllers"]);
    assert!(found.is_empty(), "move what the command line needs to a room of its own: {found:#?}");
}

/// Whatever a file of `application` needs of another one, that one needs nothing of it.
#[test]
fn the_application_has_no_circle() {
    let folder = root().join("src/application");
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources(&folder) {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let named = paths(&code(&file)).into_iter().filter_map(|path| {
            let rest = path.strip_prefix("super::").or_else(|| path.strip_prefix("crate::application::"))?;
            Some(rest.split("::").next().unwrap_or_default().to_owned())
        });
        uses.insert(name, named.collect());
    }
    uses.remove("mod");
    assert!(uses.len() > 6 && uses.values().any(|used| used.contains("model")), "{uses:?}");
    while let Some(leaf) = uses.iter().find(|(_, used)| used.iter().all(|name| !uses.contains_key(name))) {
        let leaf = leaf.0.clone();
        uses.remove(&leaf);
    }
    assert!(uses.is_empty(), "these import each other: {uses:#?}");
}

#[test]
fn imports_are_read_in_every_form() {
    let code = "
use kube::{Client, ResourceExt};
use std::{collections::BTreeMap, time::{Duration, Instant as Clock}};
pub use self::plan::{self, Plan};

fn now() -> Time { k8s_openapi::jiff::Timestamp::now() }
";
    let found = paths(code);
    for path in [
        "kube::Client",
        "kube::ResourceExt",
        "std::collections::BTreeMap",
        "std::time::Duration",
        "std::time::Instant",
        "self::plan",
        "self::plan::Plan",
        "k8s_openapi::jiff::Timestamp::now",
    ] {
        assert!(found.contains(path), "{path} is not among {found:?}");
    }
    assert!(is_below("kube::Client", "kube::Client") && is_below("tokio::time::sleep", "tokio"));
    assert!(!is_below("tokio_util", "tokio"));
}

#[test]
fn only_the_unit_tests_at_the_end_of_a_file_are_left_out() {
    let text = "#[cfg(test)]\nmod tests;\nuse a::b; // c\n#[cfg(test)]\nmod tests {\n    use d::e;\n}\n";
    assert_eq!(without_tests(text), "#[cfg(test)]\nmod tests;\nuse a::b; ");
}

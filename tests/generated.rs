//! What is generated from the Rust types and checked in must be what would be generated now.
//!
//! `AIRDOCK_REGENERATE=1` (set by `make crds` and `make docs`) writes the files in place of comparing them.

#![allow(clippy::expect_used, clippy::panic)]

mod files;

use std::fs;
use std::path::{Path, PathBuf};

use airdock::cli::{crds, docs};
use files::root;

/// Compares a checked-in file with what it should hold, or writes it.
fn settle(path: &Path, wanted: &str) {
    if std::env::var_os("AIRDOCK_REGENERATE").is_some() {
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("create the folder");
        fs::write(path, wanted).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        return;
    }
    let found =
        fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}; run `make crds docs`", path.display()));
    let difference = found.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    assert!(
        found == wanted,
        "{} is out of date (first difference near line {}); run `make crds docs` and commit the result",
        path.display(),
        difference.unwrap_or_else(|| found.lines().count().min(wanted.lines().count())) + 1
    );
}

/// Every definition, by its file name.
fn definitions() -> Vec<(String, String)> {
    crds::definitions()
        .iter()
        .map(|crd| {
            let name = crd.metadata.name.clone().expect("a definition has a name");
            (format!("{name}.yaml"), serde_saphyr::to_string(crd).expect("to YAML"))
        })
        .collect()
}

/// What is written once and also needed inside the chart, which cannot reach outside its folder.
#[test]
fn the_chart_has_the_same_monitoring() {
    for name in ["prometheusrule.yaml", "dashboard.json"] {
        let source = fs::read_to_string(root().join("manifests/monitoring").join(name)).expect("read the source");
        settle(&root().join("manifests/chart/files/monitoring").join(name), &source);
    }
}

/// Files in a folder that should not be there fail too: a renamed kind must not leave its old file behind.
fn only(folder: &Path, wanted: &[String]) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("read {}: {e}", folder.display())) {
        let name = entry.expect("entry").file_name().into_string().expect("UTF-8 file name");
        assert!(wanted.contains(&name), "{} is not generated any more; remove it", folder.join(&name).display());
    }
}

#[test]
fn definitions_are_current_in_crds_and_in_the_chart() {
    for folder in ["crds", "manifests/chart/files/crds"] {
        let folder = root().join(folder);
        let files = definitions();
        for (name, text) in &files {
            settle(&folder.join(name), text);
        }
        only(&folder, &files.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    }
}

#[test]
fn what_kubectl_explain_shows_first_is_written_for_users() {
    for crd in [crds::definitions(), airdock::karmada::definitions()].concat() {
        let text = serde_json::to_string(&crd).expect("serialize");
        assert!(!text.contains("Auto-generated"), "{:?} has no description of its own", crd.metadata.name);
    }
}

#[test]
fn definitions_fit_client_side_apply() {
    // `kubectl apply` keeps the whole object, as JSON, in an annotation; annotations end at 262,144 bytes.
    for crd in [crds::definitions(), airdock::karmada::definitions()].concat() {
        let size = serde_json::to_vec(&crd).expect("serialize").len();
        assert!(size < 200_000, "{:?} has {size} bytes", crd.metadata.name);
    }
}

#[test]
fn the_api_reference_is_current() {
    settle(&root().join("docs/api.md"), &docs::api_reference());
}

/// What is written by hand stands above the marker.
#[test]
fn the_table_of_karmadas_fields_is_current() {
    const MARKER: &str = "<!-- The tables below are made by `make docs` from src/karmada. Do not edit them. -->\n";
    let page = root().join("docs/compatibility.md");
    let text = fs::read_to_string(&page).expect("read docs/compatibility.md");
    let (head, _) = text.split_once(MARKER).expect("the page has the marker");
    settle(&page, &format!("{head}{MARKER}{}", airdock::karmada::compatibility::table()));
}

/// The words after `marker`, up to the next quotation mark, that look like reasons of conditions.
fn words<'a>(text: &'a str, marker: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(marker).skip(1).filter_map(|rest| rest.split('"').next()).filter(|word| {
        word.len() > 3
            && word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_alphanumeric())
    })
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("read {}: {e}", folder.display())) {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// A reason that people meet in a condition must say what to do in the operations guide.
#[test]
fn the_operations_guide_knows_every_reason() {
    let guide = fs::read_to_string(root().join("docs/operations.md")).expect("read docs/operations.md");
    let mut files = Vec::new();
    sources(&root().join("src/controllers"), &mut files);
    sources(&root().join("src/runtime"), &mut files);
    sources(&root().join("src/application"), &mut files);
    sources(&root().join("src/instance"), &mut files);
    let mut seen = 0;
    let mut missing = Vec::new();
    let mut all_code = String::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("read a source");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let mut reasons: Vec<&str> = words(code, "reason: \"").collect();
        for body in code.split("fn reason(").skip(1) {
            reasons.extend(words(body.split("\n    }\n").next().unwrap_or_default(), "=> \""));
        }
        for reason in reasons {
            seen += 1;
            // Whoever is ready has nothing to look up.
            let good = code.contains(&format!("::Ready {{ reason: \"{reason}\""));
            if !good && !guide.contains(&format!("`{reason}`")) {
                missing.push(format!("{reason} in {}", file.display()));
            }
        }
        all_code.push_str(code);
    }
    assert!(seen > 20, "only {seen} reasons found; has their form changed?");
    assert!(missing.is_empty(), "docs/operations.md does not explain {missing:#?}");

    // And nothing is explained that nobody says.
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let explained: Vec<&str> = rows
        .flat_map(|names| names.split(['`', ',', ' ']))
        .filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
        .collect();
    assert!(explained.len() > 20, "only {} reasons are explained; has the table's form changed?", explained.len());
    let unsaid: Vec<&str> = explained.into_iter().filter(|name| !all_code.contains(&format!("\"{name}\""))).collect();
    assert!(unsaid.is_empty(), "docs/operations.md explains what no code says: {unsaid:?}");
}

/// Whoever adds a dependency says what for.
#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("read Cargo.toml");
    let reasons = fs::read_to_string(root().join("docs/dependencies.md")).expect("read docs/dependencies.md");
    let told: Vec<&str> = reasons
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .flat_map(|names| names.split([',', ' ', '(', ')']))
        .collect();
    let mut section = "";
    let mut seen = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if matches!(section, "[dependencies]" | "[dev-dependencies]")
            && let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#'))
        {
            assert!(told.contains(&name.trim()), "docs/dependencies.md does not tell what {name}is for");
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} dependencies found");
}

/// Guarantees name the tests that hold them; those must be there.
#[test]
fn guarantees_name_tests_that_exist() {
    let mut seen = 0;
    for page in fs::read_dir(root().join("docs/guarantees")).expect("read docs/guarantees") {
        let page = page.expect("entry").path();
        let text = fs::read_to_string(&page).expect("read a page");
        for name in text.split('`').skip(1).step_by(2) {
            if name.starts_with("tests/") || name.starts_with("src/") {
                assert!(root().join(name).exists(), "{} names {name}, which does not exist", page.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "only {seen} tests named");
}

//! The project's files, and the tools that tests run on them.
//!
//! The tools come from the folder `AIRDOCK_TEST_BIN` (`.lab/bin` when unset; `make setup` puts them there).

#![allow(dead_code, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// The project's folder.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Path of a program that `make setup` provides.
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("AIRDOCK_TEST_BIN").map_or_else(|| root().join(".lab/bin"), PathBuf::from);
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing; run `make setup`, or point AIRDOCK_TEST_BIN at it", path.display());
    path
}

/// Such a program, run in the project's folder. It sees neither the caller's cluster, nor their helm settings, nor
/// their standard input.
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.current_dir(root()).stdin(Stdio::null());
    command.env_remove("KUBECONFIG").env("HELM_CONFIG_HOME", root().join("target/helm"));
    command
}

/// The documents of a YAML text that are not empty.
pub fn documents(yaml: &str) -> Vec<Value> {
    // A line of three dashes is a document's end; nothing that is rendered or checked in has one within a text.
    yaml.split("\n---")
        .filter(|text| text.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#') && line != "---"))
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}")))
        .collect()
}

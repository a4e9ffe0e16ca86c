//! The command line as people and scripts meet it: exit codes, forms of output, closed pipes, its name as a plugin.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const APP: &str = "examples/quickstart/30-application.yaml";
const MEMBERS: &str = "examples/quickstart/20-members.yaml";
const INSTANCE: &str = "examples/quickstart/10-instance.yaml";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_airdock"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    for variable in ["KUBECONFIG", "AIRDOCK_LOG", "AIRDOCK_LOG_FORMAT", "AIRDOCK_IMAGE"] {
        command.env_remove(variable);
    }
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    captured(command(arguments).output().unwrap())
}

fn captured(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A file with a text, gone when the tests' folder is.
fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn exit_codes_tell_what_became_of_it() {
    let nobody = file("cli-no-clusters.yaml", "apiVersion: v1\nkind: List\nitems: []\n");
    let nobody = nobody.to_str().unwrap();
    for (arguments, code, words) in [
        (["plan", "-f", APP, "--clusters", MEMBERS].as_slice(), 0, ""),
        (
            &["plan", "-f", APP, "--clusters", nobody],
            1,
            "has no member of KarmadaInstance quickstart/fleet) would run in no cluster",
        ),
        (&["plan", "-f", INSTANCE, "--clusters", MEMBERS], 1, "there is no MultiCloudApp"),
        (&["plan", "-f", APP], 2, "--clusters"),
        (&["render", "-f", INSTANCE], 0, ""),
        (&["render", "-f", "no-such-file"], 1, "no-such-file"),
        (&["status", "--kubeconfig", "no-such-file"], 1, "kubeconfig"),
        (&["crds"], 0, ""),
        (&["crds", "--output", "no/such/folder"], 1, "no/such/folder"),
        (&["docs"], 0, ""),
        (&["completion", "bash"], 0, ""),
        (&["nonsense"], 2, "nonsense"),
        (&[], 2, "Usage"),
        (&["--version"], 0, ""),
    ] {
        let (got, _, errors) = run(arguments);
        assert_eq!(got, Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(words) && (code != 0 || errors.is_empty()), "{arguments:?}: {errors}");
    }
}

/// As for kubectl: the files of a folder that end so, in the order of their names, and none of its subfolders.
#[test]
fn a_folder_stands_for_its_files() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-folder");
    std::fs::create_dir_all(folder.join("below.yaml")).unwrap();
    std::fs::create_dir_all(folder.join("empty")).unwrap();
    let app = |name: &str| {
        format!(
            "{{apiVersion: airdock.dev/v1alpha1, kind: MultiCloudApp, metadata: {{name: {name}, namespace: team}}, \
             spec: {{instanceRef: {{name: i}}, components: [{{name: c, manifests: [\
             {{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}]}}]}}}}"
        )
    };
    let cluster = r#"{"apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "eu"},
        "spec": {"syncMode": "Push"}}"#;
    for (name, text) in [
        ("b.yml", app("second")),
        ("c.json", cluster.to_owned()),
        ("a.yaml", app("first")),
        ("d.txt", "{".to_owned()),
        ("below.yaml/e.yaml", app("below")),
        ("empty/f.md", "{".to_owned()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let folder = folder.to_str().unwrap();
    let (code, text, errors) = run(&["plan", "-f", folder, "--clusters", folder, "-o", "json"]);
    assert_eq!(code, Some(0), "{errors}");
    let plans: serde_json::Value = serde_json::from_str(&text).unwrap();
    let names: Vec<&str> = plans.as_array().unwrap().iter().map(|plan| plan["app"].as_str().unwrap()).collect();
    assert_eq!(names, ["first", "second"]);

    let empty = format!("{folder}/empty");
    let (code, _, errors) = run(&["render", "-f", &empty]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("has no file that ends in .yaml, .yml, .json; name a file") && errors.contains(&empty),
        "{errors}"
    );

    let (code, text, errors) = run(&["render", "-f", "examples/quickstart", "-o", "table"]);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(text, run(&["render", "-f", INSTANCE, "-o", "table"]).1);
}

/// Every form that is offered is another one.
#[test]
fn forms_are_what_they_say() {
    let plan = ["plan", "-f", APP, "--clusters", MEMBERS];
    let plane = [plan.as_slice(), &["--plane"]].concat();
    for (base, default, heading) in [
        (plan.as_slice(), "table", "CLUSTER"),
        (&plane, "yaml", "KIND"),
        (&["render", "-f", INSTANCE], "yaml", "KIND"),
        (&["render", "-f", INSTANCE, "--plane"], "yaml", "KIND"),
    ] {
        let in_form = |form: &str| {
            let (code, text, errors) = run(&[base, &["-o", form]].concat());
            assert_eq!(code, Some(0), "{base:?} -o {form}: {errors}");
            text
        };
        assert!(in_form("table").lines().any(|line| line.starts_with(heading)), "{base:?}");
        assert!(in_form("yaml").starts_with("---\n"), "{base:?}");
        assert!(serde_json::from_str::<Vec<serde_json::Value>>(&in_form("json")).is_ok(), "{base:?}");
        assert_eq!(run(base).1, in_form(default), "{base:?}");
        assert_eq!(run(&[base, &["-o", "wide"]].concat()).0, Some(2), "{base:?} has no further columns");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    for arguments in [
        ["crds"].as_slice(),
        &["docs"],
        &["completion", "zsh"],
        &["render", "-f", INSTANCE],
        &["plan", "-f", APP, "--clusters", MEMBERS, "-o", "json"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(
            captured(output.wait_with_output().unwrap()),
            (Some(0), String::new(), String::new()),
            "{arguments:?}"
        );
    }
}

#[test]
fn people_get_text_and_programs_json() {
    // A filter that is not understood is the one thing that every command logs.
    for (arguments, json) in [
        (["crds"].as_slice(), false),
        (&["crds", "--log-format", "json"], true),
        (&["controller"], true),
        (&["engine", "--kubeconfig", "no-such-file"], true),
    ] {
        let mut command = command(arguments);
        let (_, _, errors) =
            captured(command.env("AIRDOCK_LOG", "a=b=c").env("KUBECONFIG", "no-such-file").output().unwrap());
        let first = errors.lines().find(|line| line.contains("not understood")).unwrap_or_else(|| panic!("{errors}"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(first).is_ok(), json, "{arguments:?}: {first}");
    }
}

#[test]
fn kubectl_finds_it_as_a_plugin() {
    let (code, help, _) =
        captured(command(&["plan", "--help"]).arg0("/usr/local/bin/kubectl-airdock").output().unwrap());
    assert_eq!(code, Some(0));
    assert!(help.contains("Usage: kubectl airdock plan "), "{help}");
}

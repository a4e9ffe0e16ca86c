//! The Go programs: pinned by the go.mod files beside this source, built once
//! into a cache that is keyed by those files and the Go version.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};

use crate::command::find;
use crate::failure::Advice;
use crate::layout::{self, make_dir};
use crate::progress::Progress;

/// A Go module of ours and the programs that it yields.
struct Module {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// Package and the name of its program.
    programs: &'static [(&'static str, &'static str)],
}

const KUBERNETES: Module = Module {
    name: "kubernetes",
    files: &[("go.mod", include_str!("../../go.mod")), ("go.sum", include_str!("../../go.sum"))],
    programs: &[
        ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
        ("k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
        ("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
        ("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
        ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
        ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ("go.etcd.io/etcd/server/v3", "etcd"),
        ("go.etcd.io/etcd/etcdctl/v3", "etcdctl"),
        ("go.etcd.io/etcd/etcdutl/v3", "etcdutl"),
    ],
};

const TOOLS: Module = Module {
    name: "tools",
    files: &[
        ("go.mod", include_str!("../../tools/go.mod")),
        ("go.sum", include_str!("../../tools/go.sum")),
        ("coredns/main.go", include_str!("../../tools/coredns/main.go")),
    ],
    programs: &[
        ("helm.sh/helm/v4/cmd/helm", "helm"),
        ("sigs.k8s.io/kwok/cmd/kwok", "kwok"),
        ("airdock.dev/lab/tools/coredns", "coredns"),
    ],
};

const APPS: Module = Module {
    name: "apps",
    files: &[
        ("go.mod", include_str!("../../apps/go.mod")),
        ("pause/main.go", include_str!("../../apps/pause/main.go")),
        ("hello/main.go", include_str!("../../apps/hello/main.go")),
    ],
    programs: &[("airdock.dev/lab/apps/pause", "pause"), ("airdock.dev/lab/apps/hello", "hello")],
};

/// kwok's stages: what makes its nodes and pods come alive. Read from its own
/// module, in the order in which they are joined.
const STAGES: [&str; 3] = ["node/fast", "node/heartbeat-with-lease", "pod/fast"];

/// The version that a go.mod pins a module at.
fn pinned<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten()
    })
}

fn version(module: &Module, path: &str) -> &'static str {
    module.files.first().and_then(|(_, go_mod)| pinned(go_mod, path)).unwrap_or("v0.0.0")
}

/// Kubernetes' version, such as `v1.36.3`.
pub fn kubernetes_version() -> &'static str {
    version(&KUBERNETES, "k8s.io/kubernetes")
}

/// etcd's version as its images are tagged, such as `3.6.8-0`.
pub fn etcd_tag() -> String {
    format!("{}-0", version(&KUBERNETES, "go.etcd.io/etcd/server/v3").trim_start_matches('v'))
}

/// CoreDNS's version.
pub fn coredns_version() -> &'static str {
    version(&TOOLS, "github.com/coredns/coredns")
}

/// kwok's version.
pub fn kwok_version() -> &'static str {
    version(&TOOLS, "sigs.k8s.io/kwok")
}

/// Where the programs are once built.
#[derive(Debug, Clone)]
pub struct Binaries {
    programs: BTreeMap<String, PathBuf>,
    stages: PathBuf,
    cache: PathBuf,
}

impl Binaries {
    /// One program.
    pub fn path(&self, program: &str) -> Result<&Path> {
        self.programs.get(program).map(PathBuf::as_path).with_context(|| format!("{program} was not built"))
    }

    /// kwok's stages as one file.
    pub fn stages(&self) -> &Path {
        &self.stages
    }

    /// The folder that also caches images.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Links every program into `.lab/bin`.
    pub fn link(&self, bin: &Path) -> Result<()> {
        for (name, target) in &self.programs {
            link(target, &bin.join(name))?;
        }
        Ok(())
    }
}

/// A symbolic link that replaces whatever had its name.
pub fn link(target: &Path, at: &Path) -> Result<()> {
    if fs::read_link(at).is_ok_and(|old| old == target) {
        return Ok(());
    }
    layout::remove(at)?;
    std::os::unix::fs::symlink(target, at).with_context(|| format!("linking {}", at.display()))
}

/// The cache: `$AIRDOCK_LAB_CACHE`, or below the user's own.
pub fn cache_folder() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("AIRDOCK_LAB_CACHE") {
        return std::path::absolute(dir).context("resolving AIRDOCK_LAB_CACHE");
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.map(|dir| dir.join("airdock-lab"))
        .ok_or_else(|| anyhow!("there is no folder for a cache").remedy("set AIRDOCK_LAB_CACHE"))
}

/// Builds what is not in the cache.
pub fn ensure(logs: &Path, progress: &Progress) -> Result<Binaries> {
    let cache = cache_folder()?;
    make_dir(&cache)?;
    let go = find("go").ok_or_else(|| {
        anyhow!("missing program: go").remedy("install Go 1.26 or newer from https://go.dev/dl/ and put it on PATH")
    })?;
    let go_version = go_output(&go, &cache, &["env", "GOVERSION"])?;
    // Two commands at once would build everything twice.
    let lock = File::create(cache.join("lock")).context("opening the cache's lock")?;
    lock.lock().context("waiting for another build")?;

    let mut programs = BTreeMap::new();
    for module in [&KUBERNETES, &TOOLS, &APPS] {
        let bin = cache.join("bin").join(format!("{}-{}", module.name, key(module, &go_version)));
        build(module, &go, &cache, &bin, logs, progress)?;
        programs.extend(module.programs.iter().map(|(_, name)| ((*name).to_owned(), bin.join(name))));
    }
    let stages = programs["kwok"].with_file_name("kwok-stages.yaml");
    if !stages.exists() {
        let source = sources(&TOOLS, &cache)?;
        let folder = go_output(&go, &source, &["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"])?;
        layout::write(&stages, join_stages(Path::new(&folder))?.as_bytes(), false)?;
    }
    Ok(Binaries { programs, stages, cache })
}

/// Changes whenever the result of a build could.
fn key(module: &Module, go_version: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(go_version);
    hash.update(linker_flags());
    for (name, content) in module.files {
        hash.update(name);
        hash.update(content);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Without these the servers call themselves v0.0.0.
fn linker_flags() -> String {
    let kubernetes = kubernetes_version();
    let mut numbers = kubernetes.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
    let component = "k8s.io/component-base/version";
    format!(
        "-s -w -X {component}.gitVersion={kubernetes} -X {component}.gitMajor={major} -X {component}.gitMinor={minor} \
         -X helm.sh/helm/v4/internal/version.version={}",
        version(&TOOLS, "helm.sh/helm/v4"),
    )
}

/// The module's files, in a folder of the cache for the go command to read.
fn sources(module: &Module, cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("src").join(module.name);
    for (name, content) in module.files {
        layout::write(&folder.join(name), content.as_bytes(), false)?;
    }
    Ok(folder)
}

fn build(module: &Module, go: &Path, cache: &Path, bin: &Path, logs: &Path, progress: &Progress) -> Result<()> {
    let wanted: Vec<_> = module.programs.iter().filter(|(_, name)| !bin.join(name).exists()).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let source = sources(module, cache)?;
    let packages: Vec<&str> = wanted.iter().map(|(package, _)| *package).collect();
    let names: Vec<&str> = wanted.iter().map(|(_, name)| *name).collect();

    let counting = progress.step(format!("fetching the sources of {}", names.join(", ")));
    let mut list = vec!["list", "-deps"];
    list.extend(&packages);
    let total = go_output(go, &source, &list)?.lines().count();
    counting.done();

    let step = progress.bar(format!("building {}", names.join(", ")), total as u64);
    let outputs = cache.join("tmp").join(module.name);
    layout::remove(&outputs)?;
    make_dir(&outputs)?;
    let log = logs.join(format!("build-{}.log", module.name));
    let mut record = File::create(&log).with_context(|| format!("opening {}", log.display()))?;
    let mut child = go_command(go, &source)
        .args(["build", "-v", "-trimpath", "-ldflags", &linker_flags(), "-o"])
        .arg(with_slash(&outputs))
        .args(&packages)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("starting go build")?;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
            // -v names each package as its compilation begins.
            step.advance();
            step.now(&*line);
            let _ = writeln!(record, "{line}");
        }
    }
    let status = child.wait().context("waiting for go build")?;
    if !status.success() {
        return Err(anyhow!("building {} failed:\n{}", names.join(", "), crate::process::tail(&log, 5))
            .log(&log)
            .remedy(
                "check the network (the Go module proxy must be reachable), the disk's free space, and try again",
            ));
    }
    make_dir(bin)?;
    for (package, name) in wanted {
        let from = outputs.join(default_name(package));
        let to = bin.join(name);
        fs::rename(&from, &to).with_context(|| format!("keeping {}", to.display()))?;
    }
    layout::remove(&outputs)?;
    step.done();
    Ok(())
}

/// The name that the go command gives a package's program: its last element
/// that is not a major version.
fn default_name(package: &str) -> &str {
    let is_major = |word: &str| word.strip_prefix('v').is_some_and(|n| n.parse::<u32>().is_ok());
    package.rsplit('/').find(|word| !is_major(word)).unwrap_or(package)
}

fn with_slash(dir: &Path) -> OsString {
    let mut dir = dir.as_os_str().to_owned();
    dir.push("/");
    dir
}

fn go_command(go: &Path, dir: &Path) -> Command {
    let mut command = Command::new(go);
    // A person's own settings must not change what is built.
    command.current_dir(dir).env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOWORK", "off").stdin(Stdio::null());
    command
}

fn go_output(go: &Path, dir: &Path, args: &[&str]) -> Result<String> {
    let output = go_command(go, dir).args(args).output().context("running go")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = complaint.trim().lines().rev().take(3).collect();
    Err(anyhow!("go {} failed: {}", args.join(" "), lines.into_iter().rev().collect::<Vec<_>>().join("; "))
        .remedy("check that the Go module proxy can be reached, and Go's version (1.26 or newer)"))
}

fn join_stages(module: &Path) -> Result<String> {
    let mut joined = String::new();
    for stage in STAGES {
        let folder = module.join("kustomize/stage").join(stage);
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .with_context(|| format!("reading kwok's stages in {}", folder.display()))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|file| file.extension().is_some_and(|e| e == "yaml") && !file.ends_with("kustomization.yaml"))
            .collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            joined.push_str("---\n");
            joined.push_str(text.trim());
            joined.push('\n');
        }
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_go_mod() {
        let go_mod = "module x\nrequire a.b/c v1.2.3\nrequire (\n\td/e v0.1.0 // indirect\n\ta.b/cd v9.9.9\n)\n";
        for (module, expected) in [("a.b/c", Some("v1.2.3")), ("d/e", Some("v0.1.0")), ("none", None)] {
            assert_eq!(pinned(go_mod, module), expected);
        }
    }

    #[test]
    fn every_version_that_names_an_image_is_pinned() {
        for version in [kubernetes_version(), coredns_version(), kwok_version()] {
            assert!(version.starts_with('v') && version != "v0.0.0", "{version}");
        }
        assert_ne!(etcd_tag(), "0.0.0-0");
    }

    #[test]
    fn programs_are_named_as_go_does() {
        for (package, name) in [
            ("go.etcd.io/etcd/server/v3", "server"),
            ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
            ("helm.sh/helm/v4/cmd/helm", "helm"),
        ] {
            assert_eq!(default_name(package), name);
        }
    }

    #[test]
    fn the_key_follows_the_go_version() {
        assert_eq!(key(&APPS, "go1"), key(&APPS, "go1"));
        assert_ne!(key(&APPS, "go1"), key(&APPS, "go2"));
    }
}

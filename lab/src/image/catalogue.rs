//! Which images there are: the lab's own, Airdock's, and upstream Karmada's
//! when its binaries are at hand.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::{ImageFile, ImageSpec, libraries};
use crate::command::run;
use crate::failure::Advice;
use crate::setup::binaries::{Binaries, coredns_version, etcd_tag, kubernetes_version, kwok_version};

/// The sandbox of every pod.
pub const PAUSE: &str = "lab.airdock.dev/pause:1";
/// The account that Airdock's image runs as.
const NONROOT: &str = "65532:65532";
/// Registries under which the demo application is found, as if mirrored.
const MIRRORS: [&str; 4] = ["lab.airdock.dev", "registry.eu.example", "registry.us.example", "registry.ap.example"];
/// Assumed when Karmada's binaries do not say their version.
const KARMADA_VERSION: &str = "v1.18.2";
/// Upstream's components, each in an image of its own.
const KARMADA_COMPONENTS: [&str; 9] = [
    "karmada-aggregated-apiserver",
    "karmada-controller-manager",
    "karmada-scheduler",
    "karmada-webhook",
    "karmada-agent",
    "karmada-descheduler",
    "karmada-search",
    "karmada-metrics-adapter",
    "karmada-scheduler-estimator",
];

/// CoreDNS's image, under its usual name.
pub fn coredns_image() -> String {
    format!("registry.k8s.io/coredns/coredns:{}", coredns_version())
}

/// kwok's image, under its usual name.
pub fn kwok_image() -> String {
    format!("registry.k8s.io/kwok/kwok:{}", kwok_version())
}

/// A Kubernetes component's image, under its usual name.
pub fn kubernetes_image(component: &str) -> String {
    format!("registry.k8s.io/{component}:{}", kubernetes_version())
}

/// etcd's image, under its usual name.
pub fn etcd_image() -> String {
    format!("registry.k8s.io/etcd:{}", etcd_tag())
}

/// What the first pods need; loaded before a kubelet starts.
pub fn first(binaries: &Binaries) -> Result<Vec<ImageSpec>> {
    Ok(vec![
        ImageSpec::of_program(PAUSE, binaries.path("pause")?)?,
        ImageSpec::of_program(&coredns_image(), binaries.path("coredns")?)?,
    ])
}

/// The lab's other images.
pub fn rest(binaries: &Binaries) -> Result<Vec<ImageSpec>> {
    let mut specs = Vec::new();
    for component in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        specs.push(ImageSpec::of_program(&kubernetes_image(component), binaries.path(component)?)?);
    }
    let mut etcd = ImageSpec::of_program(&etcd_image(), binaries.path("etcd")?)?;
    for tool in ["etcdctl", "etcdutl"] {
        etcd.files.push(ImageFile::program(binaries.path(tool)?)?);
    }
    specs.push(etcd);
    specs.push(ImageSpec::of_program(&kwok_image(), binaries.path("kwok")?)?);
    for version in ["1", "2"] {
        specs.push(hello(binaries.path("hello")?, version)?);
    }
    Ok(specs)
}

fn hello(program: &Path, version: &str) -> Result<ImageSpec> {
    let mut spec = ImageSpec::of_program("hello", program)?;
    spec.refs = MIRRORS.iter().map(|registry| format!("{registry}/hello:{version}")).collect();
    spec.env.insert("VERSION".into(), version.into());
    spec.user = Some(NONROOT.into());
    Ok(spec)
}

/// Airdock's own image from a local build, named as released.
pub fn airdock(program: &Path, version: &str) -> Result<ImageSpec> {
    if !program.is_file() {
        return Err(anyhow!("{} does not exist", program.display())
            .remedy("cargo build --release, or name the binary with --bin"));
    }
    let reference = format!("ghcr.io/airdock-dev/airdock:v{version}");
    let file = ImageFile { source: program.into(), dest: "/usr/local/bin/airdock".into() };
    let mut files = vec![file];
    files.extend(libraries::of(&files)?);
    Ok(ImageSpec {
        refs: vec![reference],
        files,
        entrypoint: vec!["/usr/local/bin/airdock".into()],
        user: Some(NONROOT.into()),
        ..ImageSpec::default()
    })
}

/// Upstream's binaries, from the folder that `KARMADA_BIN` names.
pub struct Karmada {
    /// One image per component found.
    pub images: Vec<ImageSpec>,
    /// The command line tool, if there.
    pub karmadactl: Option<PathBuf>,
    /// The CRDs as released, if there.
    pub bundle: Option<PathBuf>,
    /// The images' tag.
    pub version: String,
}

/// What `KARMADA_BIN` offers; `None` when it is not set.
pub fn karmada() -> Result<Option<Karmada>> {
    let Some(folder) = std::env::var_os("KARMADA_BIN").filter(|dir| !dir.is_empty()).map(PathBuf::from) else {
        return Ok(None);
    };
    let folder = folder
        .canonicalize()
        .with_context(|| format!("KARMADA_BIN={}", folder.display()))
        .remedy("name the folder with upstream's binaries, or unset KARMADA_BIN")?;
    let there = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    let present: Vec<_> = KARMADA_COMPONENTS.iter().filter_map(|c| there(c).map(|path| (*c, path))).collect();
    if present.is_empty() {
        return Err(anyhow!("KARMADA_BIN={} holds none of upstream's binaries", folder.display())
            .remedy(format!("expected are {}", KARMADA_COMPONENTS.join(", "))));
    }
    let version = match std::env::var("KARMADA_VERSION") {
        Ok(version) if !version.is_empty() => version,
        _ => asked_version(&present[0].1).unwrap_or_else(|| KARMADA_VERSION.to_owned()),
    };
    let mut images = Vec::new();
    for (component, path) in present {
        let dest = format!("/bin/{component}");
        let mut files = vec![ImageFile { source: path, dest: dest.clone() }];
        files.extend(libraries::of(&files)?);
        images.push(ImageSpec {
            refs: vec![format!("docker.io/karmada/{component}:{version}")],
            files,
            entrypoint: vec![dest],
            ..ImageSpec::default()
        });
    }
    Ok(Some(Karmada { images, karmadactl: there("karmadactl"), bundle: there("crds.tar.gz"), version }))
}

fn asked_version(program: &Path) -> Option<String> {
    parse_version(&run(program.to_str()?, &["version"]).ok()?)
}

/// Finds `v1.18.2` in `… version: version.Info{GitVersion:"v1.18.2", …`.
fn parse_version(output: &str) -> Option<String> {
    let (_, after) = output.split_once("GitVersion:\"")?;
    let version = after.split('"').next()?;
    let numbers = version.strip_prefix('v')?;
    // A build from a work tree says v0.0.0-master+$Format…, which names no image.
    let plain = numbers.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    (plain && numbers.starts_with(|c: char| c.is_ascii_digit()) && !numbers.starts_with("0.0.0"))
        .then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_version_is_read_when_it_is_a_release() {
        for (output, version) in [
            (r#"karmada-webhook version: version.Info{GitVersion:"v1.18.2", GitCommit:"5f"}"#, Some("v1.18.2")),
            (r#"version.Info{GitVersion:"v1.19.0-rc.0"}"#, Some("v1.19.0-rc.0")),
            (r#"version.Info{GitVersion:"v0.0.0-master+$Format:%H$"}"#, None),
            ("unknown command", None),
        ] {
            assert_eq!(parse_version(output).as_deref(), version, "{output}");
        }
    }
}

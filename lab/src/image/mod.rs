//! Container images made from local binaries: what goes in ([`ImageSpec`]),
//! how the archive is written ([`assemble`]), how nodes get it ([`load`]), and
//! which images the lab and Airdock need ([`catalogue`]).

pub mod assemble;
pub mod catalogue;
pub mod libraries;
pub mod load;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use crate::failure::Advice;
use serde::Serialize;

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageFile {
    /// Where it is on this machine.
    pub source: PathBuf,
    /// Where it goes, absolute.
    pub dest: String,
}

impl ImageFile {
    /// Parses `PATH` or `PATH=DEST`; programs go to /usr/local/bin by default.
    pub fn parse(text: &str) -> Result<Self> {
        let (source, dest) = match text.split_once('=') {
            Some((source, dest)) => (source, Some(dest)),
            None => (text, None),
        };
        let source = PathBuf::from(source);
        let name = source
            .file_name()
            .and_then(|n| n.to_str())
            .ok_or_else(|| anyhow!("{text:?} names no file").remedy("give files as PATH or PATH=/DESTINATION"))?;
        let dest = match dest {
            None => format!("/usr/local/bin/{name}"),
            Some(dest) if dest.ends_with('/') => format!("{dest}{name}"),
            Some(dest) => dest.to_owned(),
        };
        if !dest.starts_with('/') || dest.split('/').any(|part| part == "..") {
            bail!("the destination {dest:?} is not an absolute path inside the image");
        }
        Ok(Self { source, dest })
    }

    /// A program under /usr/local/bin.
    pub fn program(source: &Path) -> Result<Self> {
        Self::parse(&source.to_string_lossy())
    }
}

/// What an image holds and how it starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImageSpec {
    /// Its names; the first one labels progress and files.
    pub refs: Vec<String>,
    /// Its files, beside the few that every image gets.
    pub files: Vec<ImageFile>,
    /// What runs.
    pub entrypoint: Vec<String>,
    /// Variables beside PATH.
    pub env: BTreeMap<String, String>,
    /// Who runs it; root when absent.
    pub user: Option<String>,
}

impl ImageSpec {
    /// An image with one program as its entrypoint.
    pub fn of_program(reference: &str, program: &Path) -> Result<Self> {
        let file = ImageFile::program(program)?;
        Ok(Self {
            refs: vec![normalize(reference)],
            entrypoint: vec![file.dest.clone()],
            files: vec![file],
            ..Self::default()
        })
    }

    /// The name that people know it by.
    pub fn name(&self) -> &str {
        self.refs.first().map_or("", String::as_str)
    }
}

/// The full form of an image name, as the kubelet asks containerd for it.
pub fn normalize(reference: &str) -> String {
    let (name, tagged) = match reference.rsplit_once(':') {
        // A colon before a slash belongs to a registry's port.
        Some((_, after)) if !after.contains('/') => (reference.to_owned(), true),
        _ => (reference.to_owned(), reference.contains('@')),
    };
    let name = if tagged { name } else { format!("{name}:latest") };
    match name.split_once('/') {
        Some((host, _)) if host.contains('.') || host.contains(':') || host == "localhost" => name,
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_the_kubelet_does() {
        for (short, full) in [
            ("hello", "docker.io/library/hello:latest"),
            ("hello:1", "docker.io/library/hello:1"),
            ("karmada/karmada-agent:v1", "docker.io/karmada/karmada-agent:v1"),
            ("lab.airdock.dev/pause:1", "lab.airdock.dev/pause:1"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("registry.k8s.io/etcd:3.6.8-0", "registry.k8s.io/etcd:3.6.8-0"),
        ] {
            assert_eq!(normalize(short), full);
        }
    }

    #[test]
    fn files_have_a_destination() {
        for (text, source, dest) in [
            ("target/release/airdock", "target/release/airdock", "/usr/local/bin/airdock"),
            ("a=/bin/b", "a", "/bin/b"),
            ("x/a=/etc/", "x/a", "/etc/a"),
        ] {
            let file = ImageFile::parse(text).unwrap();
            assert_eq!((file.source.to_str().unwrap(), file.dest.as_str()), (source, dest));
        }
        for bad in ["", "/", "a=relative", "a=/../etc/passwd"] {
            assert!(ImageFile::parse(bad).is_err(), "{bad}");
        }
    }
}

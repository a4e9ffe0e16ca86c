//! What the lab needs from the machine: programs that Debian packages bring,
//! and Go, which they do not bring new enough.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};

use crate::command::find;
use crate::failure::Advice;
use crate::layout::Layout;
use crate::progress::Progress;

/// A program and the Debian package that has it.
const PROGRAMS: [(&str, &str); 12] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("conntrack", "conntrack"),
    ("socat", "socat"),
    ("ethtool", "ethtool"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("sysctl", "procps"),
    ("modprobe", "kmod"),
];

/// Where distributions put the CNI plugins.
const CNI_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// The folder with the CNI plugins.
pub fn cni_folder() -> Option<PathBuf> {
    CNI_FOLDERS
        .iter()
        .map(PathBuf::from)
        .find(|dir| ["bridge", "host-local", "portmap", "loopback"].iter().all(|plugin| dir.join(plugin).is_file()))
}

/// Packages whose programs are not there, each once.
fn missing() -> Vec<&'static str> {
    let mut packages: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if cni_folder().is_none() {
        packages.push("containernetworking-plugins");
    }
    packages.dedup();
    packages
}

/// Whether this process may do what the lab does.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_uid(&status) == Some(0)
}

fn effective_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn lines(packages: &[&str]) -> String {
    packages.iter().map(|package| format!("  missing package: {package}")).collect::<Vec<_>>().join("\n")
}

fn remedy(packages: &[&str]) -> String {
    format!("as root: apt-get install {}", packages.join(" "))
}

/// What is missing, one line each, and how to get it.
pub fn wanting() -> Option<String> {
    let packages = missing();
    (!packages.is_empty()).then(|| format!("{}\n  {}", lines(&packages), remedy(&packages)))
}

/// Installs what is missing, or names it, one line each.
pub fn ensure(layout: &Layout, progress: &Progress) -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let named = |why: &str| anyhow!("{why}\n{}", lines(&packages)).remedy(remedy(&packages));
    if find("apt-get").is_none() {
        return Err(named("this machine has no apt-get to install packages with"));
    }
    if !is_root() {
        return Err(named("installing packages needs root"));
    }
    let step = progress.step(format!("installing {}", packages.join(", ")));
    let log = layout.log("packages");
    let out = std::fs::File::create(&log).with_context(|| format!("opening {}", log.display()))?;
    let apt = |args: &[&str]| -> Result<bool> {
        let handles = out.try_clone().and_then(|o| Ok((o, out.try_clone()?))).context("sharing the log")?;
        let status = Command::new("apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(handles.0)
            .stderr(handles.1)
            .status()
            .context("running apt-get")?;
        Ok(status.success())
    };
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&packages);
    // The lists may be there and fresh enough; they are absent on a bare machine.
    let installed = apt(&install)? || (apt(&["update"])? && apt(&install)?);
    if !installed || !missing().is_empty() {
        return Err(named("apt-get could not install all packages").log(&log));
    }
    step.done();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_uid_counts() {
        assert_eq!(effective_uid("Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t5\n"), Some(0));
        assert_eq!(effective_uid("Uid:\t0\t1000\t0\t0\n"), Some(1000));
        assert_eq!(effective_uid("Name: x\n"), None);
    }
}

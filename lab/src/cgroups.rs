//! The control groups that hold the nodes' pods, on cgroup v1 and v2.
//!
//! Each node's kubelet gets a root of its own beneath `airdock-lab`, so that
//! the lab's pods are told from everybody else's and can be ended for certain.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::failure::Advice;

/// The lab's group, below each hierarchy's root.
const GROUP: &str = "airdock-lab";
/// What a kubelet cannot do without.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

/// The mounted hierarchies.
#[derive(Debug, PartialEq, Eq)]
pub enum Hierarchies {
    /// One per controller.
    V1(Vec<PathBuf>),
    /// One for all.
    V2(PathBuf),
}

/// A node's root as its kubelet wants it named.
pub fn root_of(node: &str) -> String {
    format!("/{GROUP}/{node}")
}

/// Finds the hierarchies in the mount table, or says what is missing.
pub fn detect() -> Result<Hierarchies> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mount table")?;
    choose(&mounts)
}

fn choose(mounts: &str) -> Result<Hierarchies> {
    let mut v1 = Vec::new();
    let mut v2 = None;
    let mut found = BTreeSet::new();
    for line in mounts.lines() {
        let mut fields = line.split_whitespace();
        let (Some(_), Some(at), Some(kind), Some(options)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        match kind {
            "cgroup" => {
                v1.push(PathBuf::from(at));
                found.extend(options.split(',').filter(|o| NEEDED.contains(o)).map(str::to_owned));
            }
            "cgroup2" => v2 = Some(PathBuf::from(at)),
            _ => {}
        }
    }
    if found.len() == NEEDED.len() {
        return Ok(Hierarchies::V1(v1));
    }
    // A v2 mount beside v1 controllers ("hybrid") has no controllers of its own.
    match v2 {
        Some(at) if v1.is_empty() => Ok(Hierarchies::V2(at)),
        _ => Err(anyhow!("the control groups {} are not all mounted", NEEDED.join(", "))
            .remedy("mount -t cgroup2 none /sys/fs/cgroup, or run the lab where they are")),
    }
}

/// Makes a node's group in every hierarchy.
pub fn ensure(node: &str) -> Result<()> {
    match detect()? {
        Hierarchies::V1(roots) => {
            for root in roots {
                make_v1(&root, &root.join(GROUP))?;
                make_v1(&root.join(GROUP), &root.join(GROUP).join(node))?;
            }
        }
        Hierarchies::V2(root) => {
            let group = root.join(GROUP);
            let leaf = group.join(node);
            fs::create_dir_all(&leaf).with_context(|| format!("making the control group {}", leaf.display()))?;
            for parent in [root, group] {
                let control = parent.join("cgroup.subtree_control");
                let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
                for controller in ["cpuset", "cpu", "io", "memory", "pids", "hugetlb"] {
                    if available.split_whitespace().any(|c| c == controller) {
                        fs::write(&control, format!("+{controller}"))
                            .with_context(|| format!("passing the {controller} controller on in {}", control.display()))
                            .remedy("in a container, start it with its own cgroup namespace (--cgroupns=private) and an init process in a child group")?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn make_v1(parent: &Path, group: &Path) -> Result<()> {
    fs::create_dir_all(group).with_context(|| format!("making the control group {}", group.display()))?;
    // A new cpuset is empty and holds no process until it names CPUs and memory.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), group.join(file));
        if let Ok(have) = fs::read_to_string(&to)
            && have.trim().is_empty()
        {
            let inherited = fs::read_to_string(&from).with_context(|| format!("reading {}", from.display()))?;
            fs::write(&to, inherited.trim()).with_context(|| format!("writing {}", to.display()))?;
        }
    }
    Ok(())
}

/// The lab's group in every hierarchy: the runtime makes it even in those that
/// the kubelet does not use.
fn groups() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let at = fields.next()?;
        matches!(fields.next()?, "cgroup" | "cgroup2").then(|| Path::new(at).join(GROUP))
    });
    mounted.filter(|group| group.exists()).collect()
}

/// Every process of every pod.
pub fn processes() -> BTreeSet<u32> {
    let mut pids = BTreeSet::new();
    for group in groups() {
        walk(&group, &mut |dir| {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        });
    }
    // A process of another pid namespace shows as 0.
    pids.remove(&0);
    pids
}

/// Removes the groups. The kernel calls a group busy for a moment after its last
/// process is gone.
pub fn remove() -> Result<()> {
    let begun = Instant::now();
    for group in groups() {
        while group.exists() {
            let mut failed = Ok(());
            walk(&group, &mut |dir| {
                let removed =
                    fs::remove_dir(dir).with_context(|| format!("removing the control group {}", dir.display()));
                if failed.is_ok() && dir.exists() {
                    failed = removed;
                }
            });
            if begun.elapsed() > Duration::from_secs(10) {
                failed?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// Children before parents, the order in which groups can be removed.
fn walk(dir: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&entry.path(), each);
        }
    }
    each(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
";

    #[test]
    fn hybrid_machines_count_as_v1() {
        let Hierarchies::V1(roots) = choose(V1).unwrap() else { panic!("not v1") };
        assert_eq!(roots.len(), 3);
    }

    #[test]
    fn a_lone_cgroup2_is_v2() {
        let mounts = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(choose(mounts).unwrap(), Hierarchies::V2("/sys/fs/cgroup".into()));
    }

    #[test]
    fn missing_controllers_are_named() {
        for mounts in ["", "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /u cgroup2 rw 0 0\n"] {
            let report = crate::failure::report(&choose(mounts).unwrap_err());
            assert!(report.contains("cpu, memory, pids") && report.contains("to do:"), "{report}");
        }
    }
}

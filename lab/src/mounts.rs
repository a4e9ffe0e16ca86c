//! What kubelets and containerd leave mounted beneath the lab's folders.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::command::run;
use crate::failure::Advice;

/// Mount points beneath `folders`, innermost first.
fn beneath(mountinfo: &str, folders: &[&Path]) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split_whitespace().nth(4))
        .map(|field| PathBuf::from(unescape(field)))
        .filter(|point| folders.iter().any(|folder| point.starts_with(folder)))
        .collect();
    // Later mounts lie on top of earlier ones.
    points.reverse();
    points
}

/// The kernel writes blanks and backslashes in octal.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match (first, code) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Unmounts everything beneath the folders.
pub fn remove_beneath(folders: &[&Path]) -> Result<()> {
    for attempt in 0..3 {
        let points = left(folders)?;
        if points.is_empty() {
            return Ok(());
        }
        let mut args: Vec<PathBuf> = vec!["-n".into()];
        if attempt > 0 {
            // Busy for another moment; gone once the last user is.
            args.push("-l".into());
        }
        args.extend(points);
        let _ = run("umount", &args);
    }
    match left(folders)?.first() {
        None => Ok(()),
        Some(point) => Err(anyhow!("{} stays mounted", point.display()).remedy(format!(
            "see who uses it with `fuser -vm {}`, then run `airdock-lab down` again",
            point.display()
        ))),
    }
}

fn left(folders: &[&Path]) -> Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("reading the mount table")?;
    Ok(beneath(&table, folders))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_only_what_lies_beneath_innermost_first() {
        let table = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:5 / /x/.lab/nodes rw shared:1 - tmpfs tmpfs rw
31 30 0:6 / /x/.lab/nodes/a\\040b rw shared:2 - tmpfs tmpfs rw
32 22 0:7 / /x/.laboratory rw - tmpfs tmpfs rw
";
        let points = beneath(table, &[Path::new("/x/.lab")]);
        assert_eq!(points, [PathBuf::from("/x/.lab/nodes/a b"), PathBuf::from("/x/.lab/nodes")]);
    }

    #[test]
    fn octal_escapes() {
        for (field, plain) in [("a\\040b", "a b"), ("a\\134b", "a\\b"), ("plain", "plain"), ("end\\04", "end\\04")] {
            assert_eq!(unescape(field), plain);
        }
    }
}

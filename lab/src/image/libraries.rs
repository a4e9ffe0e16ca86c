//! What a dynamically linked program needs beside itself: its loader, its
//! libraries and the certificate authorities that it trusts.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::ImageFile;

/// Where distributions keep the trusted CAs.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Paths in the output of ldd.
fn parse_ldd(output: &str) -> Vec<PathBuf> {
    output
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let path = line.split_once("=> ").map_or(line, |(_, path)| path);
            let path = path.split_whitespace().next()?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect()
}

/// The libraries of all given programs, each once; none for static ones.
pub fn of(programs: &[ImageFile]) -> Result<Vec<ImageFile>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for program in programs {
        let output = Command::new("ldd").arg(&program.source).output().context("running ldd")?;
        // ldd fails for static programs and for files that are none.
        if output.status.success() {
            found.extend(parse_ldd(&String::from_utf8_lossy(&output.stdout)));
        }
    }
    found.sort();
    found.dedup();
    if Path::new(CA_BUNDLE).is_file() {
        found.push(CA_BUNDLE.into());
    }
    Ok(found.into_iter().map(|path| ImageFile { dest: path.to_string_lossy().into_owned(), source: path }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_names_libraries_and_the_loader() {
        let output = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tlibgone.so => not found\n\tstatically linked\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse_ldd(output), expected);
    }
}

//! Writes an image as an OCI archive: one layer, a config, a manifest and an
//! index that carries the image's names. The same input gives the same bytes,
//! so the manifest's digest tells whether a node already has it.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, ImageConfiguration, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifest, ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, PlatformBuilder,
    RootFsBuilder, Sha256Digest,
};
use sha2::{Digest, Sha256};

use super::ImageSpec;
use crate::layout::{self, make_dir};

/// Containerd names an imported image by this annotation.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The account of programs that must not be root.
const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";

/// An archive on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The OCI archive.
    pub path: PathBuf,
    /// The manifest's digest, `sha256:…`.
    pub digest: String,
}

/// Assembles the image unless the folder has it from an earlier run.
pub fn assemble(spec: &ImageSpec, folder: &Path) -> Result<Archive> {
    let stem: String = spec.name().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let key = key(spec)?;
    let path = folder.join(format!("{stem}-{key}.tar"));
    let digest_file = folder.join(format!("{stem}-{key}.digest"));
    if path.exists()
        && let Ok(digest) = fs::read_to_string(&digest_file)
    {
        return Ok(Archive { path, digest });
    }
    make_dir(folder)?;
    forget_older(folder, &stem);
    let digest = write_archive(spec, &path).with_context(|| format!("assembling {}", spec.name()))?;
    layout::write(&digest_file, digest.as_bytes(), false)?;
    Ok(Archive { path, digest })
}

/// Changes whenever the archive would: by the spec, and by the size, time and
/// place of each file.
fn key(spec: &ImageSpec) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(spec).context("describing an image")?);
    hash.update(PASSWD);
    for file in &spec.files {
        let meta = fs::metadata(&file.source).with_context(|| format!("looking at {}", file.source.display()))?;
        hash.update(format!("{} {} {} {}\n", meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino()));
    }
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

fn forget_older(folder: &Path, stem: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let of_this = name.to_str().and_then(|n| n.strip_prefix(stem)).is_some_and(|rest| {
            let key = rest.strip_prefix('-').and_then(|r| r.split_once('.')).map(|(key, _)| key);
            key.is_some_and(|key| key.len() == 12 && key.bytes().all(|b| b.is_ascii_hexdigit()))
        });
        if of_this {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn write_archive(spec: &ImageSpec, path: &Path) -> Result<String> {
    let layer_path = path.with_extension(format!("layer.{}", std::process::id()));
    let partial = path.with_extension(format!("partial.{}", std::process::id()));
    let result = (|| {
        let (layer_digest, layer_size) = write_layer(spec, &layer_path)?;
        let config = serde_json::to_vec(&configuration(spec, &layer_digest)?)?;
        let manifest = serde_json::to_vec(&manifest(&config, &layer_digest, layer_size)?)?;
        let manifest_digest = hex_digest(&manifest);

        let mut archive = tar::Builder::new(BufWriter::new(File::create(&partial)?));
        let marker = OciLayoutBuilder::default().image_layout_version("1.0.0".to_owned()).build()?;
        append(&mut archive, "oci-layout", &serde_json::to_vec(&marker)?)?;
        append(&mut archive, "index.json", &index(spec, &manifest)?)?;
        append(&mut archive, &blob(&manifest_digest), &manifest)?;
        append(&mut archive, &blob(&hex_digest(&config)), &config)?;
        let mut header = header(layer_size, 0o644, tar::EntryType::Regular);
        let mut layer = BufReader::new(File::open(&layer_path)?);
        archive.append_data(&mut header, blob(&layer_digest), &mut layer)?;
        archive.into_inner()?.flush()?;
        fs::rename(&partial, path)?;
        Ok(format!("sha256:{manifest_digest}"))
    })();
    let _ = fs::remove_file(&layer_path);
    let _ = fs::remove_file(&partial);
    result
}

fn write_layer(spec: &ImageSpec, path: &Path) -> Result<(String, u64)> {
    let mut layer =
        tar::Builder::new(Hashing { inner: BufWriter::new(File::create(path)?), hash: Sha256::new(), size: 0 });
    let mut folders: BTreeSet<String> = ["etc", "tmp", "usr", "usr/local", "usr/local/bin"].map(Into::into).into();
    for file in &spec.files {
        let inside = file.dest.trim_start_matches('/');
        folders.extend(inside.match_indices('/').map(|(at, _)| inside[..at].to_owned()));
    }
    for folder in folders {
        let mode = if folder == "tmp" { 0o1777 } else { 0o755 };
        layer.append_data(&mut header(0, mode, tar::EntryType::Directory), format!("{folder}/"), io::empty())?;
    }
    for (name, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/nsswitch.conf", "hosts: files dns\n")] {
        append(&mut layer, name, text.as_bytes())?;
    }
    for file in &spec.files {
        let source = File::open(&file.source).with_context(|| format!("opening {}", file.source.display()))?;
        let meta = source.metadata()?;
        let mode = if meta.mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        let mut header = header(meta.len(), mode, tar::EntryType::Regular);
        layer.append_data(&mut header, file.dest.trim_start_matches('/'), source)?;
    }
    let mut hashing = layer.into_inner()?;
    hashing.flush()?;
    Ok((to_hex(&hashing.hash.finalize()), hashing.size))
}

fn header(size: u64, mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_entry_type(kind);
    // No clock and no owner of ours: the same files give the same bytes.
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append<W: Write>(archive: &mut tar::Builder<W>, name: &str, content: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(content.len() as u64, 0o644, tar::EntryType::Regular), name, content)
}

fn architecture() -> Arch {
    match std::env::consts::ARCH {
        "x86_64" => Arch::Amd64,
        "aarch64" => Arch::ARM64,
        other => Arch::Other(other.to_owned()),
    }
}

fn configuration(spec: &ImageSpec, layer: &str) -> Result<ImageConfiguration> {
    let mut env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    env.extend(spec.env.iter().map(|(name, value)| format!("{name}={value}")));
    let mut config = ConfigBuilder::default().env(env).working_dir("/".to_owned());
    if !spec.entrypoint.is_empty() {
        config = config.entrypoint(spec.entrypoint.clone());
    }
    if let Some(user) = &spec.user {
        config = config.user(user.clone());
    }
    let rootfs = RootFsBuilder::default().typ("layers").diff_ids(vec![format!("sha256:{layer}")]).build()?;
    let configuration = ImageConfigurationBuilder::default()
        .architecture(architecture())
        .os(Os::Linux)
        .config(config.build()?)
        .rootfs(rootfs);
    Ok(configuration.build()?)
}

fn descriptor(kind: MediaType, size: u64, digest: &str) -> Result<Descriptor> {
    Ok(Descriptor::new(kind, size, Sha256Digest::from_str(digest)?))
}

fn manifest(config: &[u8], layer: &str, layer_size: u64) -> Result<ImageManifest> {
    Ok(ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, config.len() as u64, &hex_digest(config))?)
        .layers(vec![descriptor(MediaType::ImageLayer, layer_size, layer)?])
        .build()?)
}

fn index(spec: &ImageSpec, manifest: &[u8]) -> Result<Vec<u8>> {
    let platform = PlatformBuilder::default().os(Os::Linux).architecture(architecture()).build()?;
    let digest = Sha256Digest::from_str(&hex_digest(manifest))?;
    let mut named = Vec::new();
    for reference in &spec.refs {
        let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag).to_owned();
        let annotations = HashMap::from([
            (NAME_ANNOTATION.to_owned(), reference.clone()),
            ("org.opencontainers.image.ref.name".to_owned(), tag),
        ]);
        named.push(
            DescriptorBuilder::default()
                .media_type(MediaType::ImageManifest)
                .size(manifest.len() as u64)
                .digest(digest.clone())
                .platform(platform.clone())
                .annotations(annotations)
                .build()?,
        );
    }
    let index =
        ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex).manifests(named).build()?;
    Ok(serde_json::to_vec(&index)?)
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn hex_digest(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes what passes through, so that a layer is read only once.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The sha256 of a file, in hex.
pub fn file_digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))?;
        if read == 0 {
            return Ok(to_hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageFile;
    use serde_json::Value;
    use std::collections::BTreeMap;

    fn in_scratch(name: &str, test: impl FnOnce(&Path)) {
        let dir = std::env::temp_dir().join(format!("lab-image-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        test(&dir);
        fs::remove_dir_all(&dir).unwrap();
    }

    fn spec(program: &Path) -> ImageSpec {
        ImageSpec {
            refs: vec!["a.example/x:1".into(), "b.example/x:1".into()],
            files: vec![ImageFile { source: program.into(), dest: "/opt/deep/x".into() }],
            entrypoint: vec!["/opt/deep/x".into()],
            env: BTreeMap::from([("VERSION".into(), "1".into())]),
            user: Some("65532".into()),
        }
    }

    fn entries(archive: impl Read) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let read = |entry: io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn the_archive_is_a_whole_image_with_right_digests() {
        in_scratch("whole", |dir| {
            let program = dir.join("x");
            fs::write(&program, b"#!/bin/true\n").unwrap();
            let archive = assemble(&spec(&program), dir).unwrap();
            let files = entries(File::open(&archive.path).unwrap());
            for (name, content) in files.iter().filter(|(name, _)| name.starts_with("blobs/")) {
                assert_eq!(*name, blob(&hex_digest(content)));
            }
            let json = |digest: &str| -> Value { serde_json::from_slice(&files[&blob(&digest[7..])]).unwrap() };
            let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
            let names: Vec<_> =
                index["manifests"].as_array().unwrap().iter().map(|m| &m["annotations"][NAME_ANNOTATION]).collect();
            assert_eq!(names, ["a.example/x:1", "b.example/x:1"]);
            assert_eq!(index["manifests"][0]["digest"], *archive.digest);
            let manifest = json(&archive.digest);
            let config = json(manifest["config"]["digest"].as_str().unwrap());
            assert_eq!(config["os"], "linux");
            assert_eq!(config["architecture"], if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" });
            assert_eq!(config["config"]["Entrypoint"][0], "/opt/deep/x");
            assert_eq!(config["config"]["User"], "65532");
            assert_eq!(config["config"]["Env"][1], "VERSION=1");
            let layer = manifest["layers"][0]["digest"].as_str().unwrap();
            assert_eq!(config["rootfs"]["diff_ids"][0], layer);
            let inside = entries(files[&blob(&layer[7..])].as_slice());
            assert_eq!(inside["opt/deep/x"], b"#!/bin/true\n");
            for name in ["opt/deep/", "tmp/", "etc/passwd"] {
                assert!(inside.contains_key(name), "{name} of {:?}", inside.keys());
            }
        });
    }

    #[test]
    fn an_unchanged_image_is_not_assembled_again_and_an_old_one_is_forgotten() {
        in_scratch("cache", |dir| {
            let program = dir.join("x");
            fs::write(&program, b"one").unwrap();
            let first = assemble(&spec(&program), dir).unwrap();
            let made = fs::metadata(&first.path).unwrap().ino();
            assert_eq!(assemble(&spec(&program), dir).unwrap(), first);
            assert_eq!(fs::metadata(&first.path).unwrap().ino(), made);
            fs::write(&program, b"another").unwrap();
            let second = assemble(&spec(&program), dir).unwrap();
            assert_ne!(second.digest, first.digest);
            assert!(!first.path.exists() && second.path.exists());
        });
    }

    #[test]
    fn a_missing_file_is_named() {
        let report = format!("{:#}", assemble(&spec(Path::new("/nonexistent/x")), &std::env::temp_dir()).unwrap_err());
        assert!(report.contains("/nonexistent/x"), "{report}");
    }
}

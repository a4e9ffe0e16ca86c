//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cluster::state::{Host, State};
use crate::cluster::{down, up};
use crate::failure::Advice;
use crate::image::{ImageFile, ImageSpec, catalogue, libraries, load, normalize};
use crate::layout::Layout;
use crate::member::{Place, Size};
use crate::progress::Progress;
use crate::setup::binaries;
use crate::{exporter, logs, member, progress, setup, status};

/// Real clusters on one machine, for the demo, the tests and the benches.
#[derive(Debug, Parser)]
#[command(name = "airdock-lab", version)]
pub struct Cli {
    /// The folder that holds the lab.
    #[arg(long, global = true, env = "AIRDOCK_LAB_DIR", default_value = ".lab")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install the packages and build the programs that the lab needs.
    Setup,
    /// Bring up the host cluster, or repair a running one.
    Up(Up),
    /// End the lab and leave nothing behind but its cached images.
    Down {
        /// Remove the cached images and the whole folder too.
        #[arg(long)]
        purge: bool,
    },
    /// Show the parts of the lab; fails when one is not ready.
    Status {
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Add and remove member clusters.
    #[command(subcommand)]
    Member(Member),
    /// Make container images from local files and load them into the nodes.
    #[command(subcommand)]
    Image(Image),
    /// Show a component's log, or list the logs.
    Logs {
        /// A name of the list, member/NAME or member/NAME/CONTAINER.
        component: Option<String>,
        /// How many lines from the end.
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: usize,
    },
    /// The background process; `up` starts it.
    #[command(hide = true)]
    Exporter,
}

#[derive(Debug, Args)]
struct Up {
    /// How many real nodes the host cluster has.
    #[arg(long, conflicts_with = "kubeconfig")]
    nodes: Option<u8>,
    /// Use this existing cluster as the host instead of making one.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum Member {
    /// Add member clusters and wait until they are ready.
    Add {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
        /// The region of their nodes.
        #[arg(long)]
        region: String,
        /// Zones that the nodes take in turn; REGION-a when none is given.
        #[arg(long = "zone", value_delimiter = ',')]
        zones: Vec<String>,
        /// Who runs them.
        #[arg(long, default_value = "lab")]
        provider: String,
        /// How many simulated nodes each has.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1000))]
        nodes: u16,
        /// CPUs of each node.
        #[arg(long, default_value = "32")]
        cpu: String,
        /// Memory of each node.
        #[arg(long, default_value = "256Gi")]
        memory: String,
    },
    /// Remove member clusters.
    Remove {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Image {
    /// Make an image from files and load it.
    Load {
        /// The image's name, such as registry.example/app:1.
        reference: String,
        /// PATH, which goes to /usr/local/bin, or PATH=/DESTINATION.
        #[arg(required = true)]
        files: Vec<String>,
        /// What the image runs; the first file when not given. Words are
        /// separated by blanks.
        #[arg(long)]
        entrypoint: Option<String>,
        /// Who runs it, such as 65532.
        #[arg(long)]
        user: Option<String>,
        /// Variables of its environment.
        #[arg(long = "env", value_name = "NAME=VALUE")]
        env: Vec<String>,
        /// Add the shared libraries that the files need, and the trusted
        /// certificate authorities.
        #[arg(long)]
        with_libs: bool,
    },
    /// Load Airdock's own image from a local build.
    Airdock {
        /// The program.
        #[arg(long, default_value = "target/release/airdock")]
        bin: PathBuf,
    },
}

impl Cli {
    /// Whether this is the background process, which logs; the commands report.
    pub fn is_background(&self) -> bool {
        matches!(self.command, Command::Exporter)
    }

    /// Does what was asked. `Ok(false)` means: done, but not everything is ready.
    pub async fn run(self) -> Result<bool> {
        let layout = Layout::new(&self.dir)?;
        let progress = Progress::new();
        match self.command {
            Command::Setup => setup::machine(&layout, &progress)?,
            Command::Up(Up { kubeconfig: Some(file), .. }) => up::existing(&layout, &file, &progress).await?,
            Command::Up(Up { nodes, kubeconfig: None }) => match State::read(&layout) {
                // The host that was named once stands.
                Some(State { host: Host::Existing, .. }) if nodes.is_none() => {
                    up::existing(&layout, &layout.host_kubeconfig(), &progress).await?;
                }
                _ => up::own(&layout, nodes, &progress).await?,
            },
            Command::Down { purge } => down::down(&layout, purge, &progress).await?,
            Command::Status { output } => {
                let report = status::Report::collect(&layout).await?;
                progress::print(&match output {
                    Output::Table => report.table(),
                    Output::Json => report.json()?,
                });
                return Ok(report.healthy());
            }
            Command::Member(command) => command.run(&layout, &progress).await?,
            Command::Image(command) => command.run(&layout, &progress).await?,
            Command::Logs { component, lines } => logs::show(&layout, component.as_deref(), lines).await?,
            Command::Exporter => exporter::run(&layout).await?,
        }
        Ok(true)
    }
}

impl Member {
    async fn run(self, layout: &Layout, progress: &Progress) -> Result<()> {
        match self {
            Member::Add { names, region, mut zones, provider, nodes, cpu, memory } => {
                if zones.is_empty() {
                    zones.push(format!("{region}-a"));
                }
                State::require(layout)?;
                let binaries = setup::programs(layout, progress)?;
                let place = Place { region, zones, provider };
                let size = Size { nodes, cpu, memory };
                let adding = names.iter().map(|name| member::add(layout, &binaries, name, &place, &size, progress));
                futures::future::try_join_all(adding).await?;
            }
            Member::Remove { names } => {
                for name in names {
                    member::remove(layout, &name).await?;
                }
            }
        }
        Ok(())
    }
}

impl Image {
    async fn run(self, layout: &Layout, progress: &Progress) -> Result<()> {
        let state = State::require(layout)?;
        let _shared = layout.lock(false)?;
        let program = match &self {
            Image::Airdock { bin } => {
                Some(std::path::absolute(bin).with_context(|| format!("resolving {}", bin.display()))?)
            }
            Image::Load { .. } => None,
        };
        let spec = self.spec()?;
        if let Some(program) = program {
            // By this name kubectl finds it as a plugin.
            binaries::link(&program, &layout.bin().join("kubectl-airdock"))?;
        }
        let cache = binaries::cache_folder()?;
        load::everywhere(layout, &state, &cache, vec![spec], progress).await
    }

    fn spec(self) -> Result<ImageSpec> {
        match self {
            Image::Airdock { bin } => catalogue::airdock(&bin, env!("CARGO_PKG_VERSION")),
            Image::Load { reference, files, entrypoint, user, env, with_libs } => {
                let mut files = files.iter().map(|text| ImageFile::parse(text)).collect::<Result<Vec<_>>>()?;
                let first = files.first().map(|file| file.dest.clone()).unwrap_or_default();
                let entrypoint = entrypoint.unwrap_or(first).split_whitespace().map(str::to_owned).collect();
                if with_libs {
                    files.extend(libraries::of(&files)?);
                }
                let variable = |text: &String| {
                    let (name, value) = text
                        .split_once('=')
                        .ok_or_else(|| anyhow!("{text:?} is no variable").remedy("give variables as NAME=VALUE"))?;
                    Ok((name.to_owned(), value.to_owned()))
                };
                let env = env.iter().map(variable).collect::<Result<_>>()?;
                Ok(ImageSpec { refs: vec![normalize(&reference)], files, entrypoint, env, user })
            }
        }
    }
}

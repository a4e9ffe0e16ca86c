//! What the terminal shows: bars and spinners for people, plain lines for logs.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Where steps are announced.
#[derive(Clone)]
pub struct Progress {
    bars: Option<MultiProgress>,
}

/// One step under way. Dropped without [`Step::done`], it vanishes and the
/// error that ended it speaks.
pub struct Step {
    bar: Option<ProgressBar>,
    bars: Option<MultiProgress>,
    label: String,
    begun: Instant,
}

impl Progress {
    /// Bars when a person is watching, lines otherwise.
    pub fn new() -> Self {
        Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }

    /// A step of unknown length.
    pub fn step(&self, label: impl Into<String>) -> Step {
        self.begin(label.into(), None)
    }

    /// A step of `length` parts.
    pub fn bar(&self, label: impl Into<String>, length: u64) -> Step {
        self.begin(label.into(), Some(length))
    }

    /// One line that stays.
    pub fn say(&self, line: &str) {
        print_line(self.bars.as_ref(), line);
    }

    fn begin(&self, label: String, length: Option<u64>) -> Step {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(length.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
            let template = if length.is_some() {
                "{spinner} {prefix} [{bar:24}] {pos}/{len} {elapsed} {wide_msg}"
            } else {
                "{spinner} {prefix} {elapsed} {wide_msg}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(label.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            self.say(&format!("{label} …"));
        }
        Step { bar, bars: self.bars.clone(), label, begun: Instant::now() }
    }
}

impl Step {
    /// What the step is busy with right now.
    pub fn now(&self, message: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.into());
        }
    }

    /// One part of the length is done.
    pub fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// The step ended well.
    pub fn done(self) {
        let took = self.begun.elapsed();
        // Lines of a log keep the steps that took a while; a terminal keeps all.
        if self.bars.is_some() || took > Duration::from_secs(2) {
            if let Some(bar) = &self.bar {
                bar.finish_and_clear();
            }
            print_line(self.bars.as_ref(), &format!("{} ({:.1} s)", self.label, took.as_secs_f32()));
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn print_line(bars: Option<&MultiProgress>, line: &str) {
    match bars {
        Some(bars) => {
            let _ = bars.println(line);
        }
        None => {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

/// Results go to standard output; a closed pipe is the reader's choice.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

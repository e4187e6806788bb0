//! `fencepost caps`: what the kernel, each DRM device and its EGL can do for buffer synchronisation, and what follows.
//!
//! Owns the questions and the report. Everything that can be found by doing is: a capability is used once, on objects of
//! our own. Must not change what is on a screen, and needs no rights beyond opening the devices: what only a device's
//! master may try is reported as unknown where another process is.
//!
//! [`kernel`] asks about fences, [`kms`] about planes and displays, [`gpu`] about EGL; [`conclusion`] says what this
//! compositor would do with the answers, [`tree`] prints them.

mod conclusion;
mod gpu;
mod kernel;
mod kms;
mod tree;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use serde::Serialize;

use crate::errors::chain;

/// The command line of `fencepost caps`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// One JSON object instead of a tree.
    #[arg(long)]
    pub json: bool,
    /// Only this device, a primary or a render node.
    #[arg(long, value_name = "NODE")]
    pub device: Option<PathBuf>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing under /dev/dri.
    #[error(
        "there is no DRM device (/dev/dri/card* or renderD*): without one there are no syncobjs and no displays"
    )]
    NoDevice,
    /// Standard output is closed or full.
    #[error("could not print the report")]
    Print(#[source] io::Error),
}

/// The answer to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Can {
    /// Seen working, or said by the object's properties where doing would change a screen.
    Yes,
    /// Seen failing, or not there.
    No,
    /// Could not be tried here.
    Unknown,
}

/// One thing that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name, the kernel's or EGL's where it has one.
    pub name: &'static str,
    /// The answer.
    pub can: Can,
    /// What was seen; may be empty.
    pub seen: String,
}

impl Finding {
    fn yes(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, can: Can::Yes, seen: seen.into() }
    }

    fn no(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, can: Can::No, seen: seen.into() }
    }

    fn unknown(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, can: Can::Unknown, seen: seen.into() }
    }

    /// Yes if it was there.
    fn present(name: &'static str, present: bool) -> Self {
        Self { name, can: if present { Can::Yes } else { Can::No }, seen: String::new() }
    }

    /// Yes if it worked, else what the kernel said.
    fn tried<T, E: std::error::Error>(name: &'static str, result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::yes(name, "tried"),
            Err(error) => Self::no(name, chain(&error)),
        }
    }
}

/// Findings about one object, and the objects that belong to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The object, for people.
    pub name: String,
    /// What was asked about it.
    pub findings: Vec<Finding>,
    /// Its parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

impl Group {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The findings of this group and of all its parts.
    fn all(&self) -> Vec<&Finding> {
        self.findings.iter().chain(self.groups.iter().flat_map(Group::all)).collect()
    }
}

/// Everything that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// What the kernel can for any device's fences and dma-bufs.
    pub fences: Group,
    /// The devices.
    pub devices: Vec<Group>,
    /// What fencepost makes of it.
    pub conclusions: Vec<Finding>,
}

/// Asks, and prints the answers.
///
/// # Errors
/// [`Error`]; each a sentence for the terminal.
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let nodes = options.device.clone().map_or_else(nodes, |node| vec![node]);
    if nodes.is_empty() {
        return Err(Error::NoDevice);
    }
    let fences = kernel::fences(&nodes);
    let devices: Vec<_> = nodes.iter().map(|node| device(node)).collect();
    let conclusions = conclusion::conclude(&fences, &devices);
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let report = Report { kernel, fences, devices, conclusions };
    let mut out = io::stdout().lock();
    let printed = match options.json {
        true => {
            serde_json::to_writer(&mut out, &report).map_err(io::Error::from).and_then(|()| writeln!(out))
        }
        false => tree::print(&report, &mut out),
    };
    printed.map_err(Error::Print)?;
    Ok(ExitCode::SUCCESS)
}

/// The primary nodes, then the render nodes.
fn nodes() -> Vec<PathBuf> {
    let cards = (0..64).map(|minor| format!("/dev/dri/card{minor}"));
    let render = (128..192).map(|minor| format!("/dev/dri/renderD{minor}"));
    cards.chain(render).map(PathBuf::from).filter(|node| node.exists()).collect()
}

fn device(node: &std::path::Path) -> Group {
    let mut group = Group::new(node.display().to_string());
    match kernel::open(node) {
        Ok(fd) => {
            group.findings.extend(kernel::syncobjs(&fd));
            kms::ask(&fd, &mut group);
            group.groups.push(gpu::ask(&fd, node));
        }
        Err(error) => group.findings.push(Finding::unknown("open", error.to_string())),
    }
    group
}

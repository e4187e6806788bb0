//! fencepost's commands as their users run them, where that needs neither DRM nor root.

// Always so here. It tells clippy that the helpers are tests too, and may panic.
#![cfg(test)]

mod log;
mod probe;
mod watch;

use std::{fs, path::PathBuf, process::Command};

const FENCEPOST: &str = env!("CARGO_BIN_EXE_fencepost");

/// A folder for sockets, which goes at the end of the test.
struct Runtime(PathBuf);

impl Runtime {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("fencepost-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    /// A compositor without a display that ends with the client that it starts: fencepost with these arguments.
    fn serve(&self, client: &[&str]) -> Command {
        self.serve_with(&[], client)
    }

    /// The same, with more options for the compositor.
    fn serve_with(&self, options: &[&str], client: &[&str]) -> Command {
        let mut command = Command::new(FENCEPOST);
        command.args(["run", "--backend", "headless", "--socket", "wayland-test"]).args(options);
        command.args(["--", FENCEPOST]).args(client).env("XDG_RUNTIME_DIR", &self.0);
        command
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

//! The rules of ARCHITECTURE.md that a compiler does not check: layers, unsafe, openings, length; and our protocols.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Which modules of the crate a module may name. Fences are at the bottom, the compositor at the top; `wayland`,
/// `render` and `output` do not see each other. `wayland` and `input` name the compositor because smithay's handlers
/// are implemented on the loop's state.
const LAYERS: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("errors", &[]),
    ("halves", &[]),
    ("logging", &["trace"]),
    ("protocol", &[]),
    ("fence", &["sys"]),
    ("trace", &["fence"]),
    ("surface", &["fence", "halves"]),
    ("buffer", &["fence", "sys", "trace"]),
    ("shell", &["buffer"]),
    ("render", &["buffer", "fence", "sys", "trace"]),
    ("output", &["buffer", "errors", "fence", "halves", "sys", "trace"]),
    ("client", &["errors", "fence", "halves", "sys"]),
    ("watch", &["errors", "halves", "protocol", "trace"]),
    ("overlay", &["client", "halves", "protocol", "sys", "trace", "watch"]),
    ("caps", &["errors", "fence", "output", "render", "sys"]),
    ("wayland", &["buffer", "compositor", "fence", "halves", "protocol", "shell", "surface", "sys", "trace"]),
    ("input", &["compositor", "shell", "trace"]),
    (
        "compositor",
        &[
            "buffer", "errors", "fence", "input", "output", "protocol", "render", "shell", "surface", "sys",
            "trace", "wayland",
        ],
    ),
];

/// The pure core: it is driven by simulated fences and a time that is passed in.
const PURE: &[&str] =
    &["src/surface", "src/buffer/lease.rs", "src/output/frame.rs", "src/output/schedule.rs"];

/// What the pure core must not know.
const IMPURE: &[&str] =
    &["smithay", "os::fd", "Instant", "SystemTime", "trace::now", "rustix", "wayland_server"];

/// A file that is longer than this is more than one room. Tests are lists, and may be longer.
const MAX_LINES: &[(&str, usize)] = &[("src", 500), ("tests", 600)];

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The lines of code, numbered from 1, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The module of the crate that the file belongs to; `None` for lib.rs and main.rs.
    fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let module = rest.split(['/', '.']).next()?;
        (!matches!(module, "lib" | "main")).then_some(module)
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    assert!(!files.is_empty());
    files
        .into_iter()
        .map(|path| Source {
            text: fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(root).unwrap().display().to_string(),
        })
        .collect()
}

fn assert_none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// The modules of the crate that a line names, as `crate::module`.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
}

/// The modules that a file imports in a nested `use crate::{…}` or names anywhere else.
fn modules_named(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut nested = false;
    for (number, line) in source.code() {
        found.extend(named(line).filter(|name| !name.is_empty()).map(|name| (number, name.to_owned())));
        if nested && line.starts_with("    ") && !line.starts_with("     ") {
            let name: String =
                line.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push((number, name));
        }
        nested = (nested || line.contains("use crate::{")) && !line.contains("};");
        if line.contains("use crate::{") && line.contains("};") {
            let inside = line.split_once("use crate::{").unwrap().1;
            found.extend(inside.split([',', ' ']).filter_map(|part| {
                let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                LAYERS.iter().any(|(layer, _)| *layer == name).then_some((number, name))
            }));
        }
    }
    found
}

#[test]
fn no_module_names_one_that_it_must_not_see() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let Some(module) = source.module() else { continue };
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == module) else {
            wrong.push(format!("{}: the module has no place in the layers", source.path));
            continue;
        };
        for (line, name) in modules_named(&source) {
            let is_module = LAYERS.iter().any(|(layer, _)| *layer == name);
            if is_module && name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{}:{line}: {module} must not see {name}", source.path));
            }
        }
    }
    assert_none("layers", wrong);
}

#[test]
fn the_pure_core_knows_no_fd_no_smithay_and_no_clock() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        if !PURE.iter().any(|pure| source.path.starts_with(pure)) {
            continue;
        }
        for (line, code) in source.code() {
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|word| code.contains(*word))
                    .map(|word| format!("{}:{line}: {word}", source.path)),
            );
        }
    }
    assert_none("impure", wrong);
}

#[test]
fn unsafe_is_in_sys_only() {
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().filter(|source| source.module() != Some("sys")) {
        for (line, code) in source.code() {
            if code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe") {
                wrong.push(format!("{}:{line}", source.path));
            }
        }
    }
    assert_none("unsafe outside sys", wrong);
}

#[test]
fn every_file_says_first_what_it_owns() {
    let silent =
        sources("src").into_iter().chain(sources("tests")).filter(|source| !source.text.starts_with("//!"));
    assert_none("no //!", silent.map(|source| source.path).collect());
}

#[test]
fn files_are_read_in_one_go() {
    let mut long = Vec::new();
    for (folder, limit) in MAX_LINES {
        let lengths = sources(folder).into_iter().map(|source| (source.text.lines().count(), source.path));
        long.extend(
            lengths.filter(|(lines, _)| lines > limit).map(|(lines, path)| format!("{path}: {lines} lines")),
        );
    }
    assert_none("too long", long);
}

#[test]
fn nothing_is_switched_off_or_left_to_do() {
    // Put together here, so that this file does not find itself.
    let words = ["#[ign".to_owned() + "ore", "to".to_owned() + "do!(", "unimple".to_owned() + "mented!("];
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        for (line, code) in source.code() {
            if words.iter().any(|word| code.contains(word)) {
                wrong.push(format!("{}:{line}", source.path));
            }
        }
    }
    assert_none("unfinished", wrong);
}

#[test]
fn our_own_protocols_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocols");
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        for side in ["client-header", "server-header", "private-code"] {
            let mut scanner = Command::new("wayland-scanner");
            let run = scanner.args(["--strict", side]).arg(&file).arg("/dev/null").output();
            let output = run.expect("wayland-scanner, of Debian's libwayland-bin");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{}: {said}", file.display());
        }
    }
}

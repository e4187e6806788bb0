//! The report as a tree, for people.

use std::io::{self, Write};

use super::{Can, Finding, Group, Report};

/// Prints the report.
pub(super) fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "Linux {}", report.kernel)?;
    let parts: Vec<_> = std::iter::once(&report.fences).chain(&report.devices).collect();
    for part in parts {
        group(part, "", out)?;
    }
    writeln!(out, "\nSo:")?;
    report.conclusions.iter().try_for_each(|finding| line(finding, "  ", out))
}

fn group(of: &Group, indent: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{indent}{}", of.name)?;
    let inside = format!("{indent}  ");
    of.findings.iter().try_for_each(|finding| line(finding, &inside, out))?;
    of.groups.iter().try_for_each(|part| group(part, &inside, out))
}

fn line(finding: &Finding, indent: &str, out: &mut impl Write) -> io::Result<()> {
    let mark = match finding.can {
        Can::Yes => "yes",
        Can::No => "no ",
        Can::Unknown => " ? ",
    };
    let space = if finding.seen.is_empty() { "" } else { ": " };
    writeln!(out, "{indent}{mark} {}{space}{}", finding.name, finding.seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_indented_below_what_they_belong_to() {
        let egl =
            Group { name: "EGL".into(), findings: vec![Finding::no("fences", "too old")], groups: vec![] };
        let card =
            Group { name: "card0".into(), findings: vec![Finding::yes("syncobj", "")], groups: vec![egl] };
        let report = Report {
            kernel: "7.2".into(),
            fences: Group::new("fences"),
            devices: vec![card],
            conclusions: vec![Finding::unknown("tearing", "not tried")],
        };
        let mut text = Vec::new();
        print(&report, &mut text).unwrap();
        let expected = "Linux 7.2\nfences\ncard0\n  yes syncobj\n  EGL\n    no  fences: too old\n\nSo:\n   ?  tearing: not tried\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}

//! A case: one rule, and how to see whether it is kept. And which cases are asked for.

use super::Probe;
use super::verdict::{Outcome, sure};

/// One rule.
#[derive(Clone, Copy)]
pub(super) struct Case {
    /// `family.rule.variant`, in small letters: what `--only` names.
    pub(super) id: &'static str,
    /// What must be so, in a sentence.
    pub(super) rule: &'static str,
    /// The protocol, and the interface, request or event whose description says so.
    pub(super) spec: &'static str,
    /// Finds out. Each run has connections of its own.
    pub(super) body: fn(&mut Probe) -> Outcome,
    /// How often it has to pass: a race that was won once says little.
    pub(super) rounds: u32,
}

/// Makes an entry of a list of cases.
pub(super) const fn case(
    id: &'static str,
    rule: &'static str,
    spec: &'static str,
    body: fn(&mut Probe) -> Outcome,
) -> Case {
    Case { id, rule, spec, body, rounds: 1 }
}

impl Case {
    /// For a body that looks once whether something happens too early.
    pub(super) const fn thrice(self) -> Self {
        Self { rounds: 3, ..self }
    }

    /// Finds out, as often as it takes to be sure.
    pub(super) fn find_out(&self, probe: &mut Probe) -> Outcome {
        sure(self.rounds, || (self.body)(probe))
    }
}

/// Whether `pattern` names `id`: `*` stands for anything, `?` for one character.
pub(super) fn is_named(id: &str, pattern: &str) -> bool {
    matches(id.as_bytes(), pattern.as_bytes())
}

fn matches(text: &[u8], pattern: &[u8]) -> bool {
    match (text, pattern) {
        ([], []) => true,
        (_, [b'*', pattern @ ..]) => (0..=text.len()).any(|taken| match text.get(taken..) {
            Some(rest) => matches(rest, pattern),
            None => false,
        }),
        ([_, text @ ..], [b'?', pattern @ ..]) => matches(text, pattern),
        ([a, text @ ..], [b, pattern @ ..]) if a == b => matches(text, pattern),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn a_pattern_names_itself_and_what_its_stars_stand_for() {
        for (id, pattern) in [
            ("syncobj.s1.second", "syncobj.s1.second"),
            ("syncobj.s1.second", "syncobj.*"),
            ("syncobj.s1.second", "*.s?.*"),
            ("syncobj.s1.second", "*"),
            ("syncobj.s1.second", "*second*"),
        ] {
            assert!(is_named(id, pattern), "{pattern}");
        }
        for (id, pattern) in [
            ("syncobj.s1.second", "syncobj"),
            ("syncobj.s1.second", "syncobj.s1.secon"),
            ("syncobj.s1.second", "*.s2.*"),
            ("syncobj.s1.second", ""),
            ("syncobj.s1.second", "syncobj.s1.second?"),
        ] {
            assert!(!is_named(id, pattern), "{pattern}");
        }
    }
}

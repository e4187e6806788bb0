//! What is said of each rule, and how it is told: as rows for people, JSON, and JUnit. Pure.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

/// The four answers to "does this compositor keep the rule?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does, as far as was seen.
    Pass,
    /// It was seen not to.
    Fail,
    /// It does not offer the protocol, or not the version, that the rule is about.
    NotOffered,
    /// This machine lacks what it takes to find out.
    CannotTest,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotOffered => "not offered",
            Self::CannotTest => "cannot be tested here",
        })
    }
}

/// Why a case ended before its last step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The rule is broken: what was seen.
    Fail(String),
    /// What the compositor does not offer.
    NotOffered(String),
    /// What this machine lacks.
    CannotTest(String),
}

impl Stop {
    /// The rule is broken.
    pub(super) fn fail(seen: impl Into<String>) -> Self {
        Self::Fail(seen.into())
    }
}

/// What a case comes to: what was seen of a rule that is kept, or why there is no more to see.
pub(super) type Outcome = Result<String, Stop>;

/// What comes of looking `rounds` times: the first that is no pass, or the last.
pub(super) fn sure(rounds: u32, mut look: impl FnMut() -> Outcome) -> Outcome {
    (1..rounds).fold(look(), |outcome, _| outcome.and_then(|_| look()))
}

/// One rule and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The case.
    pub id: &'static str,
    /// The rule in a sentence.
    pub rule: &'static str,
    /// Where the rule is written.
    pub spec: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// What the answer rests on.
    pub seen: String,
    /// How long it took.
    pub took_ms: u64,
}

impl Finding {
    /// The finding of the case `(id, rule, spec)`.
    pub(super) fn new(
        (id, rule, spec): (&'static str, &'static str, &'static str),
        outcome: Outcome,
        took: Duration,
    ) -> Self {
        let (verdict, seen) = match outcome {
            Ok(seen) => (Verdict::Pass, seen),
            Err(Stop::Fail(seen)) => (Verdict::Fail, seen),
            Err(Stop::NotOffered(what)) => (Verdict::NotOffered, what),
            Err(Stop::CannotTest(why)) => (Verdict::CannotTest, why),
        };
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Self { id, rule, spec, verdict, seen, took_ms }
    }

    /// The first part of the id: the protocol, or what else the rule is about.
    fn family(&self) -> &str {
        self.id.split_once('.').map_or(self.id, |(family, _)| family)
    }
}

/// Two lines of the table: the verdict and the rule, and below what was seen.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<11}  {:<WIDTH$}  {}", self.verdict, self.id, self.rule, WIDTH = ID_WIDTH)?;
        write!(f, "{:<11}  {:<WIDTH$}  -> {}", "", "", self.seen, WIDTH = ID_WIDTH)
    }
}

/// Wide enough for most ids.
pub(super) const ID_WIDTH: usize = 38;

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The socket of the compositor.
    pub display: String,
    /// What the machine had to test with.
    pub machine: Vec<String>,
    /// One for each case, in order.
    pub findings: Vec<Finding>,
}

impl Report {
    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// Whether no rule was seen broken.
    pub fn is_clean(&self) -> bool {
        self.count(Verdict::Fail) == 0
    }

    /// One line of totals.
    pub(super) fn summary(&self) -> String {
        let counts = [Verdict::Pass, Verdict::Fail, Verdict::NotOffered, Verdict::CannotTest]
            .map(|verdict| format!("{} {verdict}", self.count(verdict)));
        format!("{} rules: {}", self.findings.len(), counts.join(", "))
    }

    /// One object, for programs.
    ///
    /// # Errors
    /// None that a report can cause.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The XML that CI systems read: what could not be tested is skipped.
    pub fn junit(&self) -> String {
        let skipped = self.count(Verdict::NotOffered) + self.count(Verdict::CannotTest);
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        xml += &format!(
            "<testsuite name=\"fencepost probe\" tests=\"{}\" failures=\"{}\" skipped=\"{skipped}\">\n",
            self.findings.len(),
            self.count(Verdict::Fail),
        );
        for finding in &self.findings {
            xml += &test_case(finding);
        }
        xml += "</testsuite>\n";
        xml
    }
}

fn test_case(finding: &Finding) -> String {
    let Finding { id, rule, spec, verdict, seen, took_ms } = finding;
    let (family, rule, seen) = (escaped(finding.family()), escaped(rule), escaped(seen));
    let seconds = Duration::from_millis(*took_ms).as_secs_f64();
    let inside = match verdict {
        Verdict::Pass => format!("<system-out>{seen}</system-out>"),
        Verdict::Fail => format!("<failure message=\"{rule}\">{seen} ({})</failure>", escaped(spec)),
        Verdict::NotOffered | Verdict::CannotTest => format!("<skipped message=\"{verdict}: {seen}\"/>"),
    };
    format!(
        "  <testcase classname=\"{family}\" name=\"{}\" time=\"{seconds:.3}\">{inside}</testcase>\n",
        escaped(id)
    )
}

/// For XML text and attributes. Characters that XML does not have become the replacement character: messages of protocol
/// errors are the compositor's.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\t' | '\n' | '\r' => drop(write!(escaped, "&#{};", u32::from(character))),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: (&str, &str, &str) = ("family.name", "a rule", "a spec");

    fn report(outcomes: Vec<Outcome>) -> Report {
        let finding = |outcome| Finding::new(CASE, outcome, Duration::from_millis(1500));
        let findings = outcomes.into_iter().map(finding).collect();
        Report { display: "wayland-0".into(), machine: vec!["a GPU".into()], findings }
    }

    fn one_of_each() -> Report {
        report(vec![
            Ok("well".into()),
            Err(Stop::fail("badly")),
            Err(Stop::NotOffered("wp_thing".into())),
            Err(Stop::CannotTest("no GPU".into())),
        ])
    }

    #[test]
    fn every_outcome_has_its_verdict_and_says_what_it_rests_on() {
        let found = one_of_each().findings.into_iter().map(|finding| (finding.verdict, finding.seen));
        let wanted = [
            (Verdict::Pass, "well"),
            (Verdict::Fail, "badly"),
            (Verdict::NotOffered, "wp_thing"),
            (Verdict::CannotTest, "no GPU"),
        ];
        assert_eq!(found.collect::<Vec<_>>(), wanted.map(|(verdict, seen)| (verdict, seen.to_owned())));
    }

    #[test]
    fn one_round_of_several_that_does_not_pass_decides() {
        let rounds = |outcomes: [Outcome; 3]| {
            let mut outcomes = outcomes.into_iter();
            let outcome = sure(3, || outcomes.next().expect("no more than three"));
            (outcome, outcomes.count())
        };
        let pass = |seen: &str| Ok(seen.to_owned());
        assert_eq!(rounds([pass("a"), pass("b"), pass("c")]), (pass("c"), 0));
        assert_eq!(rounds([pass("a"), Err(Stop::fail("b")), pass("c")]), (Err(Stop::fail("b")), 1));
        assert_eq!(sure(1, || pass("once")), pass("once"));
    }

    #[test]
    fn only_a_broken_rule_makes_a_report_unclean() {
        assert!(!one_of_each().is_clean());
        let mut rest = one_of_each();
        rest.findings.retain(|finding| finding.verdict != Verdict::Fail);
        assert!(rest.is_clean());
        assert!(report(vec![]).is_clean());
    }

    #[test]
    fn the_summary_counts_every_verdict() {
        let summary = "4 rules: 1 pass, 1 FAIL, 1 not offered, 1 cannot be tested here";
        assert_eq!(one_of_each().summary(), summary);
    }

    #[test]
    fn a_row_names_verdict_case_rule_and_what_was_seen() {
        let row = one_of_each().findings[1].to_string();
        let (first, second) = row.split_once('\n').expect("two lines");
        assert_eq!(first.split_whitespace().collect::<Vec<_>>(), ["FAIL", "family.name", "a", "rule"]);
        assert_eq!(second.trim(), "-> badly");
    }

    #[test]
    fn json_has_all_of_it() {
        let json: serde_json::Value =
            serde_json::from_str(&one_of_each().json().expect("json")).expect("json");
        assert_eq!(json["display"], "wayland-0");
        let finding = &json["findings"][3];
        assert_eq!(finding["verdict"], "cannot_test");
        assert_eq!((&finding["id"], &finding["spec"]), (&"family.name".into(), &"a spec".into()));
        assert_eq!((&finding["seen"], &finding["took_ms"]), (&"no GPU".into(), &1500.into()));
    }

    #[test]
    fn junit_counts_and_skips_what_was_not_tested() {
        let xml = one_of_each().junit();
        assert!(xml.contains("tests=\"4\" failures=\"1\" skipped=\"2\""), "{xml}");
        assert!(xml.contains("<failure message=\"a rule\">badly (a spec)</failure>"), "{xml}");
        assert!(xml.contains("<skipped message=\"not offered: wp_thing\"/>"), "{xml}");
        assert!(xml.contains("classname=\"family\" name=\"family.name\" time=\"1.500\""), "{xml}");
    }

    #[test]
    fn what_a_compositor_says_cannot_break_the_xml() {
        let xml = report(vec![Err(Stop::fail("<a href=\"x\">&\u{1}\n\u{ffff}"))]).junit();
        assert!(xml.contains(">&lt;a href=&quot;x&quot;&gt;&amp;\u{fffd}&#10;\u{fffd} ("), "{xml}");
    }
}

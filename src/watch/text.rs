//! A snapshot in words: for scripts, for tests, and for the cells of the live view.
//!
//! Owns the words. Pure.

use wayland_client::WEnum;

use super::{
    model::{Model, Output, Surface, Wait},
    words::Word,
};
use crate::protocol::client::fencepost_debug_v1::Cause;

const MS: u64 = 1_000_000;

/// A time span, for people: "0.3 ms", "503 ms", "12.3 s".
pub fn span(ns: u64) -> String {
    let tenths = |value: u64, unit: u64| format!("{}.{}", value / unit, value % unit / (unit / 10));
    match ns {
        _ if ns < 100 * MS => format!("{} ms", tenths(ns, MS)),
        _ if ns < 10_000 * MS => format!("{} ms", ns / MS),
        _ => format!("{} s", tenths(ns, 1000 * MS)),
    }
}

/// What is waited for.
pub fn cause(wait: &Wait, now: u64) -> String {
    let Wait { timeline, value, name, .. } = wait;
    match wait.cause {
        WEnum::Value(Cause::Point) => format!("point {value} of timeline {timeline}"),
        WEnum::Value(Cause::Fence) => format!("fence {name}"),
        WEnum::Value(Cause::DmaBuf) => "the writers of its dma-buf".to_owned(),
        WEnum::Value(Cause::Barrier) => "the fifo barrier".to_owned(),
        WEnum::Value(Cause::Time) => format!("its time, in {}", span(value.saturating_sub(now))),
        WEnum::Value(Cause::Order) => "the commit before it".to_owned(),
        WEnum::Value(Cause::Tree) => "its tree".to_owned(),
        WEnum::Value(Cause::HandedOver) => format!("its reader, for fence {name}"),
        WEnum::Unknown(_) => "something unknown".to_owned(),
    }
}

/// What a surface waits for, and for how long.
pub fn waits_for(surface: &Surface, now: u64) -> Option<(String, Option<u64>)> {
    let (commit, wait) = surface.waiting()?;
    let known = (commit.since > 0).then(|| now.saturating_sub(commit.since));
    Some((cause(wait, now), known))
}

/// What stands behind the content.
pub fn buffer(surface: &Surface) -> String {
    match (surface.width, surface.height) {
        (0, _) | (_, 0) => "none".to_owned(),
        (width, height) => format!("{} {width}x{height}", surface.buffer.word()),
    }
}

/// How long until a fence has to have signalled for the next refresh.
pub fn deadline(output: &Output, now: u64) -> String {
    match output.deadline {
        0 => "-".to_owned(),
        at if at >= now => format!("in {}", span(at - now)),
        at => format!("{} ago", span(now - at)),
    }
}

/// A table of words, its columns as wide as they have to be.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(|row| line(row) + "\n").collect()
}

fn row<const N: usize>(cells: [String; N]) -> Vec<String> {
    cells.into()
}

/// The last snapshot, for a terminal or a pipe.
pub fn snapshot(model: &Model) -> String {
    let (of, now) = (&model.compositor, &model.now);
    let mut text = format!("fencepost {}, process {}, --acquire {}\n\n", of.version, of.pid, of.acquire);
    let heads = ["OUTPUT", "STATE", "REFRESH", "FRAME TIME", "MARGIN", "DEADLINE", "FRAMES", "MISSES"];
    let mut rows = vec![row(heads.map(str::to_owned))];
    rows.extend(now.outputs.iter().map(|output| {
        row([
            output.name.clone(),
            output.state.word().to_owned(),
            span(output.refresh_ns.into()),
            span(output.frame_time_ns.into()),
            span(output.margin_ns.into()),
            deadline(output, now.time),
            output.frames.to_string(),
            output.misses.to_string(),
        ])
    }));
    text += &table(&rows);
    text.push('\n');
    let heads =
        ["SURFACE", "NAME", "CLIENT", "ROLE", "BUFFER", "POLICY", "QUEUED", "OWED", "WAITS FOR", "FOR"];
    let mut rows = vec![row(heads.map(str::to_owned))];
    rows.extend(now.surfaces.iter().map(|surface| {
        let (cause, known) = waits_for(surface, now.time).unwrap_or(("-".to_owned(), None));
        let policy = match surface.reason.as_str() {
            "" => surface.policy.word().to_owned(),
            reason => format!("{} ({reason})", surface.policy.word()),
        };
        row([
            surface.surface.to_string(),
            surface.name().to_owned(),
            format!("{} {}", surface.client, surface.pid),
            surface.role.clone(),
            buffer(surface),
            policy,
            surface.queued.to_string(),
            surface.unreleased.to_string(),
            cause,
            known.map_or(String::new(), span),
        ])
    }));
    text += &table(&rows);
    if now.surfaces_left_out > 0 {
        text += &format!("and {} more surfaces\n", now.surfaces_left_out);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_short() {
        let spans = [0, 49_999, 2_150_000, 99_999_999, 503_000_000, 9_999_000_000, 12_340_000_000];
        let words = ["0.0 ms", "0.0 ms", "2.1 ms", "99.9 ms", "503 ms", "9999 ms", "12.3 s"];
        assert_eq!(spans.map(span), words);
    }

    #[test]
    fn a_table_is_as_wide_as_its_widest_words() {
        let rows = [["A", "BCD"], ["ÄÖÜ", "E"], ["", "F"]];
        let text = table(&rows.map(|cells| row(cells.map(str::to_owned))));
        assert_eq!(text, "A    BCD\nÄÖÜ  E\n     F\n");
    }
}

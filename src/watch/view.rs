//! The live view: outputs, surfaces, and a graph of what each surface's commits have done of late.
//!
//! Owns what the screen looks like. Pure: it draws a [`Model`] into a frame of ratatui's, and keeps what the user has chosen.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span, Text},
    widgets::{Cell, Paragraph, Row, Table},
};
use wayland_client::WEnum;

use super::{
    lanes::{Graph, LANES, Phase, graph},
    model::{Model, Output, Surface},
    text,
    words::Word,
};
use crate::protocol::client::fencepost_debug_v1::CommitState;

/// What the rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Who has waited longest comes first.
    #[default]
    Wait,
    /// Who is owed most releases.
    Owed,
    /// By name.
    Name,
    /// The oldest surface first.
    Age,
}

impl Sort {
    /// The next one.
    pub fn next(self) -> Self {
        match self {
            Self::Wait => Self::Owed,
            Self::Owed => Self::Name,
            Self::Name => Self::Age,
            Self::Age => Self::Wait,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Owed => "owed",
            Self::Name => "name",
            Self::Age => "age",
        }
    }
}

/// What the user has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What the rows are sorted by.
    pub sort: Sort,
    /// The picture stands still.
    pub paused: bool,
    /// How much time the graphs show, in nanoseconds.
    pub length: u64,
}

/// The least and the most that graphs can show.
const LENGTHS: std::ops::RangeInclusive<u64> = 125_000_000..=super::model::REMEMBERED;

impl Default for View {
    fn default() -> Self {
        Self { sort: Sort::default(), paused: false, length: 1_000_000_000 }
    }
}

impl View {
    /// Graphs show less, or more.
    pub fn zoom(&mut self, closer: bool) {
        let length = if closer { self.length / 2 } else { self.length.saturating_mul(2) };
        self.length = length.clamp(*LENGTHS.start(), *LENGTHS.end());
    }

    /// The surfaces in their order.
    pub fn sorted<'a>(&self, model: &'a Model) -> Vec<&'a Surface> {
        let now = model.now.time;
        let waited = |surface: &Surface| text::waits_for(surface, now).map(|(_, known)| known.unwrap_or(0));
        let mut surfaces: Vec<_> = model.now.surfaces.iter().collect();
        match self.sort {
            Sort::Wait => surfaces.sort_by_key(|surface| std::cmp::Reverse(waited(surface))),
            Sort::Owed => surfaces.sort_by_key(|surface| std::cmp::Reverse(surface.unreleased)),
            Sort::Name => surfaces.sort_by_key(|surface| surface.name().to_lowercase()),
            Sort::Age => {}
        }
        surfaces
    }

    /// Draws everything.
    pub fn draw(&self, model: &Model, frame: &mut Frame<'_>) {
        let outputs = u16::try_from(model.now.outputs.len()).unwrap_or(u16::MAX).saturating_add(2);
        let areas =
            [Constraint::Length(1), Constraint::Length(outputs), Constraint::Min(0), Constraint::Length(1)];
        let [head, of_outputs, of_surfaces, foot] = Layout::vertical(areas).areas(frame.area());
        frame.render_widget(Paragraph::new(self.head(model)), head);
        draw_outputs(model, frame, of_outputs);
        self.draw_surfaces(model, frame, of_surfaces);
        frame.render_widget(Paragraph::new(foot_line(model)), foot);
    }

    fn head(&self, model: &Model) -> Line<'static> {
        let of = &model.compositor;
        let mut line = Line::from(format!(
            "fencepost {}  process {}  --acquire {}  sorted by {}",
            of.version,
            of.pid,
            of.acquire,
            self.sort.word()
        ));
        if self.paused {
            line.push_span(Span::from("  PAUSED").yellow().bold());
        }
        let behind = model.now.time.saturating_sub(model.known_until());
        if behind > 0 {
            line.push_span(Span::from(format!("  graphs are {} behind", text::span(behind))).yellow());
        }
        if model.lost > 0 {
            line.push_span(Span::from(format!("  {} events lost", model.lost)).red());
        }
        line
    }

    fn draw_surfaces(&self, model: &Model, frame: &mut Frame<'_>, area: Rect) {
        let widths = [24, 18, 12, 6, 4, 30].map(Constraint::Length);
        let cells = area.width.saturating_sub(24 + 18 + 12 + 6 + 4 + 30 + 6);
        let lanes = format!("LAST {}  {LEGEND}", text::span(self.length));
        let heads = ["SURFACE", "BUFFER", "POLICY", "QUEUED", "OWED", "WAITS FOR", lanes.as_str()];
        let rows = self.sorted(model).into_iter().map(|surface| self.row(model, surface, cells.into()));
        let table = Table::new(rows, widths.into_iter().chain([Constraint::Min(0)]));
        frame.render_widget(table.header(header(&heads)), area);
    }

    fn row(&self, model: &Model, surface: &Surface, cells: usize) -> Row<'static> {
        let name = Line::from(surface.name().to_owned()).bold();
        let client = Line::from(format!("{} {}", surface.client, surface.pid)).dim();
        let role = Line::from(surface.role.clone()).dim();
        let policy = [surface.policy.word().to_owned(), surface.reason.clone()];
        let shown = WEnum::Value(CommitState::Shown);
        let shows = surface.commits.iter().any(|commit| commit.state == shown);
        let until = model.known_until();
        let graph = graph(&model.story, surface.surface, shows, until, self.length, cells);
        let columns = [
            Cell::from(Text::from(vec![name, client, role])),
            Cell::from(text::buffer(surface)),
            Cell::from(Text::from(policy.map(Line::from).to_vec())),
            Cell::from(surface.queued.to_string()),
            Cell::from(surface.unreleased.to_string()),
            Cell::from(waiting(model, surface)),
            Cell::from(lines(&graph)),
        ];
        Row::new(columns).height(u16::try_from(LANES).unwrap_or(1)).bottom_margin(1)
    }
}

/// What the graphs are made of.
const LEGEND: &str = "▒ waits ░ ready █ shown ─ owed";

fn header(heads: &[&str]) -> Row<'static> {
    let heads = heads.iter().map(|head| Cell::from((*head).to_owned()));
    Row::new(heads).style(Style::new().add_modifier(Modifier::UNDERLINED))
}

fn foot_line(model: &Model) -> Line<'static> {
    let keys = "q quit  s sort  p pause  d dump the trace  +/- zoom";
    match &model.dump {
        None => Line::from(keys).dim(),
        Some(Ok(path)) => Line::from(format!("the trace is in {path}")).green(),
        Some(Err(why)) => Line::from(format!("the trace could not be written: {why}")).red(),
    }
}

fn draw_outputs(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let now = model.now.time;
    let row = |output: &Output| {
        let missed = if output.misses > 0 { Style::new().red() } else { Style::new() };
        Row::new([
            Cell::from(output.name.clone()),
            Cell::from(output.state.word()),
            Cell::from(text::span(output.refresh_ns.into())),
            Cell::from(text::span(output.frame_time_ns.into())),
            Cell::from(text::span(output.margin_ns.into())),
            Cell::from(text::deadline(output, now)),
            Cell::from(output.frames.to_string()),
            Cell::from(output.misses.to_string()).style(missed),
        ])
    };
    let widths = [24, 10, 9, 10, 9, 12, 9, 6].map(Constraint::Length);
    let heads = ["OUTPUT", "STATE", "REFRESH", "FRAME TIME", "MARGIN", "DEADLINE", "FRAMES", "MISSES"];
    frame.render_widget(Table::new(model.now.outputs.iter().map(row), widths).header(header(&heads)), area);
}

/// What the surface waits for: red once that has taken more than a refresh.
fn waiting(model: &Model, surface: &Surface) -> Text<'static> {
    let Some((cause, known)) = text::waits_for(surface, model.now.time) else {
        return Text::from("-").dim();
    };
    let refresh = model.now.outputs.iter().find(|output| output.output == surface.output);
    let refresh = refresh.map_or(u64::MAX, |output| output.refresh_ns.into());
    let colour = if known.is_some_and(|known| known > refresh) { Color::Red } else { Color::Yellow };
    let known = known.map_or(String::new(), |known| format!("for {}", text::span(known)));
    Text::from(vec![Line::from(cause), Line::from(known)]).style(Style::new().fg(colour))
}

fn lines(Graph(lanes): &Graph) -> Text<'static> {
    let line = |lane: &Vec<Phase>| {
        let runs = lane.chunk_by(|one, other| one == other).map(|run| {
            let phase = run.first().copied().unwrap_or_default();
            let (symbol, colour) = match phase {
                Phase::Nothing => (" ", Color::Reset),
                Phase::Held => ("─", Color::DarkGray),
                Phase::Ready => ("░", Color::Cyan),
                Phase::Shown => ("█", Color::Green),
                Phase::Waits => ("▒", Color::Yellow),
            };
            Span::from(symbol.repeat(run.len())).fg(colour)
        });
        runs.collect::<Line<'_>>()
    };
    lanes.iter().map(line).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::{
        halves::halves,
        protocol::{
            EVENTS,
            client::fencepost_debug_v1::{Buffer, Cause, Event, OutputState, Policy},
        },
        trace::{self, event::Entry},
    };

    const MS: u64 = 1_000_000;
    const NOW: u64 = 5_000 * MS;

    /// What a compositor with one output tells of two surfaces: one waits since 503 ms for a point, one is shown.
    fn told() -> Model {
        let mut model = Model::default();
        let compositor = Event::Compositor { pid: 7, version: "0.1.0".into(), acquire: "auto".into() };
        let (now, deadline, since) = (halves(NOW), halves(NOW + 9 * MS), halves(NOW - 503 * MS));
        let output = Event::Output {
            output: 1,
            name: "HDMI-A-1".into(),
            state: WEnum::Value(OutputState::Idle),
            refresh_ns: 16_666_666,
            frame_time_ns: 2_100_000,
            margin_ns: 1_000_000,
            deadline_hi: deadline.0,
            deadline_lo: deadline.1,
            frames: 99,
            misses: 3,
        };
        let commit = |number, state, since: (u32, u32)| Event::Commit {
            commit_hi: 0,
            commit_lo: number,
            state: WEnum::Value(state),
            since_hi: since.0,
            since_lo: since.1,
        };
        let wait = Event::Wait {
            cause: WEnum::Value(Cause::Point),
            timeline: 3,
            value_hi: 0,
            value_lo: 12,
            name: String::new(),
        };
        let events = [
            compositor,
            Event::Snapshot { time_hi: now.0, time_lo: now.1 },
            output,
            surface(1, "clock", 1),
            commit(1, CommitState::Shown, since),
            surface(2, "late", 2),
            commit(2, CommitState::Unmaterialised, since),
            wait,
            Event::SnapshotDone { surfaces_left_out: 0, commits_left_out: 0 },
        ];
        events.into_iter().for_each(|event| model.hear(event));
        model
    }

    fn surface(number: u32, app_id: &str, unreleased: u32) -> Event {
        Event::Surface {
            surface: number,
            pid: 40 + number,
            client: "client".into(),
            app_id: app_id.into(),
            title: String::new(),
            role: "xdg_toplevel".into(),
            width: 256,
            height: 128,
            buffer: WEnum::Value(Buffer::Dmabuf),
            output: 1,
            policy: WEnum::Value(Policy::Wait),
            reason: "unproven".into(),
            queued: unreleased - 1,
            unreleased,
        }
    }

    /// The screen's lines.
    fn drawn(view: &View, model: &Model) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(160, 16)).expect("a terminal");
        terminal.draw(|frame| view.draw(model, frame)).expect("a picture");
        let buffer = terminal.backend().buffer();
        let line = |y| (0..160).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..16).map(line).map(|line| line.trim_end().to_owned()).collect()
    }

    fn position(lines: &[String], part: &str) -> usize {
        lines.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part} in {lines:#?}"))
    }

    #[test]
    fn a_surface_is_seen_with_what_it_waits_for_and_how_long() {
        let lines = drawn(&View::default(), &told());
        let late = position(&lines, "late");
        assert!(lines[late].contains("point 12 of timeline 3"), "{lines:#?}");
        assert!(lines[late].contains("dmabuf 256x128") && lines[late].contains("wait"), "{lines:#?}");
        assert!(lines[late + 1].contains("for 503 ms") && lines[late + 1].contains("unproven"), "{lines:#?}");
        let output = &lines[position(&lines, "HDMI-A-1")];
        for part in ["idle", "16.6 ms", "2.1 ms", "1.0 ms", "in 9.0 ms", "99", "3"] {
            assert!(output.contains(part), "{part} in {output}");
        }
    }

    #[test]
    fn who_waits_longest_comes_first_unless_sorted_otherwise() {
        let (model, mut view) = (told(), View::default());
        let mut orders = Vec::new();
        for _ in 0..4 {
            let lines = drawn(&view, &model);
            orders.push((view.sort, position(&lines, "late") < position(&lines, "clock")));
            view.sort = view.sort.next();
        }
        assert_eq!(orders, [(Sort::Wait, true), (Sort::Owed, true), (Sort::Name, false), (Sort::Age, false)]);
        assert_eq!(view.sort, Sort::Wait);
    }

    #[test]
    fn the_graph_shows_what_waits_and_what_is_shown() {
        let mut model = told();
        let event = trace::Event::Commit {
            commit: 2,
            pid: 42,
            surface: 2,
            id: 4,
            buffer: 1,
            sync: trace::SyncKind::Explicit,
            fences: 1,
            acquire: None,
            release: None,
        };
        let json = serde_json::to_string(&Entry { t: NOW - 503 * MS, event }).expect("JSON");
        model.hear(Event::Entry { json });
        let lines = drawn(&View::default(), &model);
        let of = |name| lines[position(&lines, name)..].iter().take(3).cloned().collect::<String>();
        assert!(of("clock").contains("██████") && !of("clock").contains('▒'), "{lines:#?}");
        assert!(of("late").contains("▒▒▒▒▒▒"), "{lines:#?}");
    }

    #[test]
    fn the_head_says_that_it_is_paused_and_what_was_lost_and_the_foot_where_the_trace_is() {
        let mut model = told();
        assert!(!drawn(&View::default(), &model)[0].contains("PAUSED"));
        model.hear(Event::Lost { count: 17 });
        model.hear(Event::Dumped { path: "/run/user/1/trace".into() });
        let lines = drawn(&View { paused: true, ..View::default() }, &model);
        assert!(lines[0].contains("PAUSED") && lines[0].contains("17 events lost"), "{lines:#?}");
        assert!(lines[15].contains("/run/user/1/trace"), "{lines:#?}");
    }

    #[test]
    fn a_story_that_is_behind_ends_where_it_is_and_says_so() {
        let mut model = told();
        let json = format!(r#"{{"t":{},"event":"open","surface":2,"id":1}}"#, NOW - 2_000 * MS);
        let answer = |events| {
            let entries = std::iter::repeat_with(|| Event::Entry { json: json.clone() }).take(events);
            entries.chain([Event::EventsDone]).collect::<Vec<_>>()
        };
        answer(EVENTS).into_iter().for_each(|event| model.hear(event));
        assert!(drawn(&View::default(), &model)[0].contains("graphs are 2000 ms behind"));
        answer(EVENTS - 1).into_iter().for_each(|event| model.hear(event));
        assert!(!drawn(&View::default(), &model)[0].contains("behind"));
        assert_eq!(model.answers, 2);
    }

    #[test]
    fn a_small_terminal_is_no_failure() {
        for (width, height) in [(1, 1), (20, 3), (80, 4)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
            terminal.draw(|frame| View::default().draw(&told(), frame)).expect("a picture");
        }
    }

    #[test]
    fn graphs_show_an_eighth_of_a_second_to_ten() {
        let mut view = View::default();
        (0..9).for_each(|_| view.zoom(true));
        assert_eq!(view.length, 125 * MS);
        (0..90).for_each(|_| view.zoom(false));
        assert_eq!(view.length, 10_000 * MS);
    }
}

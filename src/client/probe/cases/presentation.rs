//! presentation-time: when a commit turned into light, told once and truthfully.

use rustix::time::{ClockId, clock_gettime};
use wayland_protocols::wp::presentation_time::client::wp_presentation::{self, WpPresentation};
use wayland_protocols::wp::presentation_time::client::wp_presentation_feedback::{
    Event, WpPresentationFeedback,
};

use crate::client::probe::Probe;
use crate::client::probe::app::{App, Fate, Window, flags};
use crate::client::probe::case::{Case, case};
use crate::client::probe::connection::{Inbox, inbox, take};
use crate::client::probe::verdict::{Outcome, Stop};
use wayland_protocols::wp::presentation_time::client::wp_presentation_feedback::Kind;

const FEEDBACK: &str = "presentation-time: wp_presentation_feedback";
const PRESENTED: &str = "presentation-time: wp_presentation_feedback.presented";
const DISCARDED: &str = "presentation-time: wp_presentation_feedback.discarded";
const KIND: &str = "presentation-time: wp_presentation_feedback.kind";
const CLOCK: &str = "presentation-time: wp_presentation.clock_id";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("presentation.clock", "the presentation clock is named at bind, and can be read", CLOCK, clock),
    case("presentation.once", "every commit is presented or discarded, once", FEEDBACK, once),
    case("presentation.times", "presentation times go up, and lie between commit and event", PRESENTED, times),
    case("presentation.same", "two feedbacks of one commit say the same", "presentation-time: wp_presentation.feedback", same),
    case("presentation.surface-destroyed", "the end of a surface answers a commit that was not shown yet", DISCARDED, surface_destroyed),
    case("presentation.zero-copy", "shared memory is not presented as zero_copy", KIND, zero_copy),
];

const FRAMES: usize = 20;

/// A client with a window, and the clock of presentation times.
struct Theatre {
    app: App,
    window: Window,
    presentation: WpPresentation,
}

impl Theatre {
    fn new(probe: &mut Probe) -> Result<Self, Stop> {
        let mut app = probe.app()?;
        let presentation = app.client.bind(1..=2)?;
        probe.clock()?;
        let window = app.window()?;
        app.client.roundtrip()?;
        Ok(Self { app, window, presentation })
    }

    fn clock(&self) -> Result<ClockId, Stop> {
        let named = take(&self.presentation).into_iter().find_map(|event| match event {
            wp_presentation::Event::ClockId { clk_id } => Some(clk_id),
            _ => None,
        });
        let named = named.ok_or(Stop::fail("no clock_id"))?;
        let known = [
            ClockId::Monotonic,
            ClockId::MonotonicRaw,
            ClockId::Boottime,
            ClockId::Realtime,
            ClockId::MonotonicCoarse,
        ];
        known
            .into_iter()
            .find(|clock| *clock as u32 == named)
            .ok_or(Stop::Fail(format!("clock {named} cannot be read")))
    }

    fn feedback(&self) -> WpPresentationFeedback {
        self.presentation.feedback(&self.window.surface, &self.app.client.handle(), Inbox::default())
    }
}

fn now_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn clock(probe: &mut Probe) -> Outcome {
    let theatre = Theatre::new(probe)?;
    let clock = theatre.clock()?;
    Ok(format!("{clock:?}"))
}

/// How often a feedback object has been presented and discarded.
fn answers(feedback: &WpPresentationFeedback) -> (usize, usize) {
    inbox(feedback, |events| {
        let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
        (
            count(|event| matches!(event, Event::Presented { .. })),
            count(|event| matches!(event, Event::Discarded)),
        )
    })
}

fn once(probe: &mut Probe) -> Outcome {
    let mut theatre = Theatre::new(probe)?;
    let buffers = [theatre.app.shm_buffer()?, theatre.app.shm_buffer()?];
    // All at once, so that some are superseded.
    let mut feedbacks = Vec::new();
    for buffer in buffers.iter().cycle().take(FRAMES) {
        feedbacks.push(theatre.feedback());
        theatre.app.show(&theatre.window.surface, buffer);
    }
    let answered = || feedbacks.iter().all(|feedback| answers(feedback) != (0, 0));
    theatre.app.client.until("every commit is answered", answered)?;
    probe.settle(&mut theatre.app.client)?;
    let all: Vec<_> = feedbacks.iter().map(answers).collect();
    let presented = all.iter().filter(|answer| **answer == (1, 0)).count();
    let discarded = all.iter().filter(|answer| **answer == (0, 1)).count();
    let seen = format!("{FRAMES} commits in a row: {presented} presented, {discarded} discarded");
    match presented + discarded == FRAMES && presented > 0 {
        true => Ok(seen),
        false => Err(Stop::Fail(seen)),
    }
}

fn times(probe: &mut Probe) -> Outcome {
    let mut theatre = Theatre::new(probe)?;
    let clock = theatre.clock()?;
    let buffers = [theatre.app.shm_buffer()?, theatre.app.shm_buffer()?];
    let (mut last, mut shortest) = (0, u64::MAX);
    for buffer in buffers.iter().cycle().take(FRAMES) {
        let committed = now_ns(clock);
        let commit = theatre.app.show(&theatre.window.surface, buffer);
        theatre.app.until_shown(&commit, "soon")?;
        let heard = now_ns(clock);
        let Fate::Shown(at) = commit.fate() else { continue };
        if at <= last || at < committed {
            return Err(Stop::Fail(format!(
                "presented at {at} ns; committed at {committed}, the one before at {last}"
            )));
        }
        // The time may be that of the light, which a display shows a little after its flip.
        const DISPLAY_LATENCY_NS: u64 = 100_000_000;
        if at > heard + DISPLAY_LATENCY_NS {
            return Err(Stop::Fail(format!("presented at {at} ns, and told so at {heard} ns")));
        }
        if last > 0 {
            shortest = shortest.min(at - last);
        }
        last = at;
    }
    Ok(format!("{FRAMES} frames, the closest {} us apart", shortest / 1000))
}

fn same(probe: &mut Probe) -> Outcome {
    let mut theatre = Theatre::new(probe)?;
    let buffer = theatre.app.shm_buffer()?;
    let (one, two) = (theatre.feedback(), theatre.feedback());
    theatre.app.show(&theatre.window.surface, &buffer);
    theatre.app.client.until("both are answered", || answers(&one) != (0, 0) && answers(&two) != (0, 0))?;
    let told = |feedback| {
        take(feedback).into_iter().find_map(|event| match event {
            Event::Presented { tv_sec_hi, tv_sec_lo, tv_nsec, refresh, seq_hi, seq_lo, flags } => {
                Some((tv_sec_hi, tv_sec_lo, tv_nsec, refresh, seq_hi, seq_lo, flags))
            }
            _ => None,
        })
    };
    match (told(&one), told(&two)) {
        (one, two) if one == two => Ok(format!("{one:?}")),
        (one, two) => Err(Stop::Fail(format!("{one:?} and {two:?}"))),
    }
}

fn surface_destroyed(probe: &mut Probe) -> Outcome {
    let mut theatre = Theatre::new(probe)?;
    let buffers = [theatre.app.shm_buffer()?, theatre.app.shm_buffer()?];
    let commit = theatre.app.show(&theatre.window.surface, &buffers[0]);
    theatre.app.until_shown(&commit, "soon")?;
    let feedback = theatre.feedback();
    theatre.app.show(&theatre.window.surface, &buffers[1]);
    theatre.window.destroy();
    theatre.app.client.until("the feedback is answered", || answers(&feedback) != (0, 0))?;
    theatre.app.client.roundtrip()?;
    match answers(&feedback) {
        (0, 1) => Ok("discarded".into()),
        (1, 0) => Ok("presented: it was shown before its surface went".into()),
        answers => Err(Stop::Fail(format!("presented and discarded came {answers:?} times"))),
    }
}

fn zero_copy(probe: &mut Probe) -> Outcome {
    let mut theatre = Theatre::new(probe)?;
    let buffer = theatre.app.shm_buffer()?;
    let feedback = theatre.feedback();
    let commit = theatre.app.show(&theatre.window.surface, &buffer);
    theatre.app.until_shown(&commit, "soon")?;
    let presented = || answers(&feedback) != (0, 0);
    theatre.app.client.until("the feedback is answered", presented)?;
    match flags(&feedback) {
        Some(flags) if flags.contains(Kind::ZeroCopy) => Err(Stop::Fail(format!("{flags:?}"))),
        flags => Ok(format!("{flags:?}")),
    }
}

//! linux-dmabuf-v1: what is advertised, how, and how often.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use wayland_client::WEnum;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_feedback_v1::{
    Event, TrancheFlags, ZwpLinuxDmabufFeedbackV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::{
    Event as FactoryEvent, ZwpLinuxDmabufV1,
};

use crate::client::probe::Probe;
use crate::client::probe::app::App;
use crate::client::probe::case::{Case, case};
use crate::client::probe::connection::{Inbox, inbox, take};
use crate::client::probe::parameters::{ENTRY, Pair, Parameters, Sent, assemble, duplicate, entries};
use crate::client::probe::verdict::{Outcome, Stop};
use crate::halves::whole;

const FEEDBACK: &str = "linux-dmabuf-v1: zwp_linux_dmabuf_feedback_v1";
const MAIN_DEVICE: &str = "linux-dmabuf-v1: zwp_linux_dmabuf_feedback_v1.main_device";
const TABLE: &str = "linux-dmabuf-v1: zwp_linux_dmabuf_feedback_v1.format_table";
const FORMATS: &str = "linux-dmabuf-v1: zwp_linux_dmabuf_feedback_v1.tranche_formats";
const FLAGS: &str = "linux-dmabuf-v1: zwp_linux_dmabuf_feedback_v1.tranche_flags";
const SURFACE: &str = "linux-dmabuf-v1: zwp_linux_dmabuf_v1.get_surface_feedback";
const FORMAT: &str = "linux-dmabuf-v1: zwp_linux_dmabuf_v1.format and modifier";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("dmabuf.bind.old", "below version 4, formats are sent at bind, each once", FORMAT, bind_old),
    case("dmabuf.bind.new", "from version 4 on, format and modifier are not sent", FORMAT, bind_new),
    case("dmabuf.feedback.default", "default feedback is complete: table, device, whole tranches, one done", FEEDBACK, default_feedback),
    case("dmabuf.feedback.surface", "surface feedback is complete: table, device, whole tranches, one done", SURFACE, surface_feedback),
    case("dmabuf.feedback.main-device", "up to version 5, there is one main device, and a tranche for it", MAIN_DEVICE, main_device),
    case("dmabuf.feedback.sampling", "from version 6 on, there is no main device, every tranche has a flag and one has sampling", FLAGS, sampling),
    case("dmabuf.feedback.duplicates", "no pair is there twice for one device and flags", FORMATS, duplicates),
    case("dmabuf.feedback.table-stays", "the format table does not change once it is sent", TABLE, table_stays),
    case("dmabuf.feedback.no-resend", "the same parameters should not be sent twice in a row", FEEDBACK, no_resend),
    case("dmabuf.feedback.inert", "the feedback object of a destroyed surface is inert", SURFACE, inert),
];

fn read(fd: &OwnedFd, size: u32) -> Result<Vec<u8>, Stop> {
    if size == 0 || !(size as usize).is_multiple_of(ENTRY) {
        return Err(Stop::Fail(format!("a format table of {size} bytes: entries have {ENTRY}")));
    }
    let mut bytes = vec![0; size as usize];
    match rustix::io::pread(fd, bytes.as_mut_slice(), 0) {
        Ok(read) if read == bytes.len() => Ok(bytes),
        answer => Err(Stop::Fail(format!("a format table of {size} bytes cannot be read: {answer:?}"))),
    }
}

/// A feedback object of a client, with the events of it so far.
struct Listener {
    object: ZwpLinuxDmabufFeedbackV1,
    version: u32,
    received: Vec<Parameters>,
    table: Option<(OwnedFd, Vec<u8>)>,
}

impl Listener {
    /// Binds the factory in a version, and waits for the first parameters.
    fn new(app: &mut App, version: u32, surface: Option<&WlSurface>) -> Result<Self, Stop> {
        let factory: ZwpLinuxDmabufV1 = app.client.bind(version..=version)?;
        let handle = app.client.handle();
        let object = match surface {
            Some(surface) => factory.get_surface_feedback(surface, &handle, Inbox::default()),
            None => factory.get_default_feedback(&handle, Inbox::default()),
        };
        let done = || inbox(&object, |events| events.iter().any(|event| matches!(event, Event::Done)));
        app.client.until("the feedback is done", done)?;
        app.client.roundtrip()?;
        let mut listener = Self { object, version, received: Vec::new(), table: None };
        listener.listen()?;
        Ok(listener)
    }

    /// Takes the events that have come.
    fn listen(&mut self) -> Result<(), Stop> {
        let mut sent = Vec::new();
        for event in take(&self.object) {
            sent.push(match event {
                Event::FormatTable { fd, size } => {
                    let bytes = read(&fd, size)?;
                    let entries = entries(&bytes);
                    self.table = Some((fd, bytes));
                    Sent::Table(entries)
                }
                Event::MainDevice { device } => Sent::MainDevice(device),
                Event::TrancheTargetDevice { device } => Sent::TargetDevice(device),
                Event::TrancheFlags { flags: WEnum::Value(flags) } => Sent::Flags(flags.bits()),
                Event::TrancheFlags { flags: WEnum::Unknown(flags) } => Sent::Flags(flags),
                Event::TrancheFormats { indices } => Sent::Formats(
                    indices.as_chunks::<2>().0.iter().map(|index| u16::from_ne_bytes(*index)).collect(),
                ),
                Event::TrancheDone => Sent::TrancheDone,
                Event::Done => Sent::Done,
                _ => continue,
            });
        }
        self.received.extend(assemble(sent).map_err(Stop::Fail)?);
        Ok(())
    }

    fn last(&self) -> Result<&Parameters, Stop> {
        self.received.last().ok_or(Stop::fail("no parameters"))
    }
}

/// The versions with feedback that are offered.
fn versions(app: &App) -> Result<std::ops::RangeInclusive<u32>, Stop> {
    let offered = app.client.offered::<ZwpLinuxDmabufV1>();
    let last = offered
        .filter(|version| *version >= 4)
        .ok_or(Stop::NotOffered("zwp_linux_dmabuf_v1, version 4".into()))?;
    Ok(4..=last.min(6))
}

/// The formats that binding the factory brings: codes, and pairs with modifiers.
fn bound(probe: &Probe, version: u32) -> Result<(Vec<u32>, Vec<Pair>), Stop> {
    let mut app = probe.app()?;
    let factory: ZwpLinuxDmabufV1 = app.client.bind(version..=version)?;
    app.client.roundtrip()?;
    let (mut codes, mut pairs) = (Vec::new(), Vec::new());
    for event in take(&factory) {
        match event {
            FactoryEvent::Format { format } => codes.push(format),
            FactoryEvent::Modifier { format, modifier_hi, modifier_lo } => {
                pairs.push((format, whole(modifier_hi, modifier_lo)));
            }
            _ => {}
        }
    }
    Ok((codes, pairs))
}

fn bind_old(probe: &mut Probe) -> Outcome {
    let mut seen = Vec::new();
    let offered = probe
        .app()?
        .client
        .offered::<ZwpLinuxDmabufV1>()
        .ok_or(Stop::NotOffered("zwp_linux_dmabuf_v1".into()))?;
    for version in 1..=offered.min(3) {
        let (codes, pairs) = bound(probe, version)?;
        let unique: HashSet<_> = pairs.iter().collect();
        if unique.len() != pairs.len() {
            return Err(Stop::Fail(format!(
                "version {version}: a pair of format and modifier was sent twice"
            )));
        }
        if version < 3 && !pairs.is_empty() {
            return Err(Stop::Fail(format!(
                "version {version}: {} modifier events, which came with version 3",
                pairs.len()
            )));
        }
        if codes.is_empty() && pairs.is_empty() {
            return Err(Stop::Fail(format!("version {version}: no formats")));
        }
        seen.push(format!("version {version}: {} formats, {} pairs", codes.len(), pairs.len()));
    }
    Ok(seen.join("; "))
}

fn bind_new(probe: &mut Probe) -> Outcome {
    for version in versions(&probe.app()?)? {
        let (codes, pairs) = bound(probe, version)?;
        if !codes.is_empty() || !pairs.is_empty() {
            return Err(Stop::Fail(format!(
                "version {version}: {} format and {} modifier events",
                codes.len(),
                pairs.len()
            )));
        }
    }
    Ok("neither was sent".into())
}

/// Looks at the parameters of every version.
fn each_version(probe: &Probe, look: impl Fn(&mut App, &Listener) -> Outcome) -> Outcome {
    let mut seen = Vec::new();
    for version in versions(&probe.app()?)? {
        let mut app = probe.app()?;
        let listener = Listener::new(&mut app, version, None)?;
        seen.push(format!("version {version}: {}", look(&mut app, &listener)?));
    }
    Ok(seen.join("; "))
}

fn described(listener: &Listener) -> Outcome {
    if listener.received.len() != 1 {
        return Err(Stop::Fail(format!(
            "version {}: done came {} times",
            listener.version,
            listener.received.len()
        )));
    }
    let Parameters { table, tranches, .. } = listener.last()?;
    if tranches.is_empty() {
        return Err(Stop::fail("no tranches"));
    }
    Ok(format!("{} pairs, {} tranches", table.len(), tranches.len()))
}

fn default_feedback(probe: &mut Probe) -> Outcome {
    each_version(probe, |_, listener| described(listener))
}

fn surface_feedback(probe: &mut Probe) -> Outcome {
    let mut seen = Vec::new();
    for version in versions(&probe.app()?)? {
        let mut app = probe.app()?;
        let surface = app.surface();
        let listener = Listener::new(&mut app, version, Some(&surface))?;
        seen.push(format!("version {version}: {}", described(&listener)?));
    }
    Ok(seen.join("; "))
}

fn main_device(probe: &mut Probe) -> Outcome {
    each_version(probe, |_, listener| {
        let Parameters { main_device, tranches, .. } = listener.last()?;
        match (main_device, listener.version) {
            (_, 6..) => Ok("not sent".into()),
            (None, _) => Err(Stop::fail("no main_device")),
            (Some(device), _) if device.len() != size_of::<rustix::fs::Dev>() => {
                Err(Stop::Fail(format!("a main device of {} bytes", device.len())))
            }
            (Some(device), _) => match tranches.iter().any(|tranche| tranche.device == *device) {
                true => Ok("a tranche for it".into()),
                false => Err(Stop::fail("no tranche has the main device as its target")),
            },
        }
    })
}

fn sampling(probe: &mut Probe) -> Outcome {
    let mut app = probe.app()?;
    if *versions(&app)?.end() < 6 {
        return Err(Stop::NotOffered("zwp_linux_dmabuf_v1, version 6".into()));
    }
    let listener = Listener::new(&mut app, 6, None)?;
    let Parameters { main_device, tranches, .. } = listener.last()?;
    let sampling = TrancheFlags::Sampling.bits();
    match (main_device, tranches.iter().all(|tranche| tranche.flags != 0)) {
        (Some(_), _) => Err(Stop::fail("main_device was sent")),
        (_, false) => Err(Stop::fail("a tranche without a flag")),
        _ if !tranches.iter().any(|tranche| tranche.flags & sampling != 0) => {
            Err(Stop::fail("no tranche with sampling"))
        }
        _ => Ok("every tranche has a flag, and one sampling".into()),
    }
}

fn duplicates(probe: &mut Probe) -> Outcome {
    each_version(probe, |_, listener| match duplicate(listener.last()?) {
        Some((format, modifier)) => {
            Err(Stop::Fail(format!("format {format:#x} with modifier {modifier:#x} is there twice")))
        }
        None => Ok("none".into()),
    })
}

fn table_stays(probe: &mut Probe) -> Outcome {
    let mut app = probe.app()?;
    let version = *versions(&app)?.end();
    let listener = Listener::new(&mut app, version, None)?;
    // What might make a careless compositor write to it again.
    let surface = app.surface();
    let _others = [Listener::new(&mut app, version, Some(&surface))?, Listener::new(&mut app, 4, None)?];
    probe.settle(&mut app.client)?;
    let (fd, before) = listener.table.ok_or(Stop::fail("no table"))?;
    let after = read(&fd, u32::try_from(before.len()).unwrap_or(u32::MAX))?;
    match before == after {
        true => Ok(format!("{} bytes, the same afterwards", after.len())),
        false => Err(Stop::fail("its content has changed")),
    }
}

fn no_resend(probe: &mut Probe) -> Outcome {
    const FRAMES: usize = 10;
    let mut app = probe.app()?;
    let version = *versions(&app)?.end().min(&5);
    probe.clock()?;
    let window = app.window()?;
    let mut listeners =
        [Listener::new(&mut app, version, Some(&window.surface))?, Listener::new(&mut app, version, None)?];
    let images = [probe.machine.image()?, probe.machine.image()?];
    let buffers = images.iter().map(|image| app.buffer(image.as_ref())).collect::<Result<Vec<_>, _>>()?;
    for buffer in buffers.iter().cycle().take(FRAMES) {
        let commit = app.show(&window.surface, buffer);
        app.until_shown(&commit, "when nobody writes to its dma-buf")?;
    }
    let mut sets = 0;
    for listener in &mut listeners {
        listener.listen()?;
        sets += listener.received.len();
        if listener.received.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(Stop::Fail(format!(
                "the same parameters came twice in a row within {FRAMES} frames"
            )));
        }
    }
    Ok(format!("{FRAMES} frames, {sets} sets of parameters for two objects"))
}

fn inert(probe: &mut Probe) -> Outcome {
    let mut app = probe.app()?;
    let version = *versions(&app)?.end();
    let surface = app.surface();
    let mut listener = Listener::new(&mut app, version, Some(&surface))?;
    surface.destroy();
    app.client.roundtrip()?;
    probe.settle(&mut app.client)?;
    listener.listen()?;
    if listener.received.len() > 1 {
        return Err(Stop::fail("parameters came after the surface was destroyed"));
    }
    listener.object.destroy();
    app.client.expect_no_error()
}

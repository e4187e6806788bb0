//! What linux-dmabuf feedback says, put together from its events, and what is wrong with it. Pure.

use std::collections::HashSet;

/// A format and a modifier.
pub(super) type Pair = (u32, u64);

/// The length of one entry of the format table.
pub(super) const ENTRY: usize = 16;

/// What ends with a `done`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameters {
    /// The pairs of format and modifier.
    pub(super) table: Vec<Pair>,
    /// A `dev_t`, up to version 5.
    pub(super) main_device: Option<Vec<u8>>,
    /// The preferred first.
    pub(super) tranches: Vec<Tranche>,
}

/// What ends with a `tranche_done`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tranche {
    /// A `dev_t`.
    pub(super) device: Vec<u8>,
    /// Bits of `tranche_flags`.
    pub(super) flags: u32,
    /// Pairs of format and modifier.
    pub(super) pairs: Vec<Pair>,
}

/// One event, with its table read. Without fds, so that tests can make them.
pub(super) enum Sent {
    /// `format_table`
    Table(Vec<Pair>),
    /// `main_device`
    MainDevice(Vec<u8>),
    /// `tranche_target_device`
    TargetDevice(Vec<u8>),
    /// `tranche_flags`
    Flags(u32),
    /// `tranche_formats`
    Formats(Vec<u16>),
    /// `tranche_done`
    TrancheDone,
    /// `done`
    Done,
}

/// Puts events together, one entry for each `done`; what does not fit is the compositor's fault.
pub(super) fn assemble(events: Vec<Sent>) -> Result<Vec<Parameters>, String> {
    let mut all: Vec<Parameters> = Vec::new();
    let (mut table, mut main_device) = (None, None);
    let (mut tranches, mut device, mut flags, mut pairs) = (Vec::new(), None, None, None::<Vec<Pair>>);
    let once = |is_first: bool, what: &str| match is_first {
        true => Ok(()),
        false => Err(format!("{what} came twice")),
    };
    for event in events {
        match event {
            // A table may be sent again only with new parameters; those of the last `done` still count otherwise.
            Sent::Table(sent) => once(table.replace(sent).is_none(), "format_table")?,
            Sent::MainDevice(sent) => once(main_device.replace(sent).is_none(), "main_device")?,
            Sent::TargetDevice(sent) => once(device.replace(sent).is_none(), "tranche_target_device")?,
            Sent::Flags(sent) => once(flags.replace(sent).is_none(), "tranche_flags")?,
            Sent::Formats(indices) => {
                let last = all.last().map(|parameters| &parameters.table);
                let table = table.as_ref().or(last).ok_or("tranche_formats came before format_table")?;
                let pair = |index: u16| {
                    table
                        .get(usize::from(index))
                        .copied()
                        .ok_or(format!("index {index} is outside the table"))
                };
                let found = indices.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
                pairs.get_or_insert_default().extend(found);
            }
            Sent::TrancheDone => tranches.push(Tranche {
                device: device.take().ok_or("a tranche without tranche_target_device")?,
                flags: flags.take().ok_or("a tranche without tranche_flags")?,
                pairs: pairs
                    .take()
                    .filter(|pairs| !pairs.is_empty())
                    .ok_or("a tranche without tranche_formats")?,
            }),
            Sent::Done => {
                if device.is_some() || flags.is_some() || pairs.is_some() {
                    return Err("done came in the middle of a tranche".into());
                }
                let last = all.last().map(|parameters| parameters.table.clone());
                let table = table.take().or(last).ok_or("done came without a format_table")?;
                let tranches = std::mem::take(&mut tranches);
                all.push(Parameters { table, main_device: main_device.take(), tranches });
            }
        }
    }
    let is_open = table.is_some() || main_device.is_some() || !tranches.is_empty() || device.is_some();
    match is_open {
        true => Err("parameters without a done at the end".into()),
        false => Ok(all),
    }
}

/// The pairs of a table of `size` bytes.
pub(super) fn entries(bytes: &[u8]) -> Vec<Pair> {
    let entry = |entry: &[u8; ENTRY]| {
        let [a, b, c, d, _, _, _, _, modifier @ ..] = *entry;
        (u32::from_ne_bytes([a, b, c, d]), u64::from_ne_bytes(modifier))
    };
    bytes.as_chunks::<ENTRY>().0.iter().map(entry).collect()
}

/// A pair that is there twice in one kind of tranche.
pub(super) fn duplicate(parameters: &Parameters) -> Option<Pair> {
    let mut seen = HashSet::new();
    let kinds = parameters.tranches.iter().flat_map(|tranche| {
        tranche.pairs.iter().map(move |pair| ((&tranche.device, tranche.flags, *pair), *pair))
    });
    kinds.into_iter().find(|(key, _)| !seen.insert(*key)).map(|(_, pair)| pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [(u32, u64); 3] = [(1, 10), (1, 11), (2, 10)];

    fn tranche(device: u8, flags: u32, indices: &[u16]) -> Vec<Sent> {
        let formats = indices.iter().map(|index| Sent::Formats(vec![*index]));
        let start = [Sent::TargetDevice(vec![device]), Sent::Flags(flags)];
        start.into_iter().chain(formats).chain([Sent::TrancheDone]).collect()
    }

    fn sent(tranches: Vec<Vec<Sent>>) -> Vec<Sent> {
        let start = [Sent::Table(PAIRS.to_vec()), Sent::MainDevice(vec![1])];
        start.into_iter().chain(tranches.into_iter().flatten()).chain([Sent::Done]).collect()
    }

    #[test]
    fn whole_parameters_are_put_together() {
        let all = assemble(sent(vec![tranche(2, 1, &[0, 1]), tranche(1, 0, &[2])])).expect("whole");
        let [parameters] = &all[..] else { panic!("{all:?}") };
        assert_eq!(parameters.main_device.as_deref(), Some(&[1][..]));
        assert_eq!(
            parameters.tranches[0],
            Tranche { device: vec![2], flags: 1, pairs: vec![(1, 10), (1, 11)] }
        );
        assert_eq!(parameters.tranches[1], Tranche { device: vec![1], flags: 0, pairs: vec![(2, 10)] });
    }

    #[test]
    fn a_second_set_may_do_without_a_new_table() {
        let mut events = sent(vec![tranche(1, 0, &[2])]);
        events.extend(tranche(1, 0, &[1]));
        events.push(Sent::Done);
        let all = assemble(events).expect("whole");
        assert_eq!(all[1].tranches[0].pairs, [(1, 11)]);
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let without = |mut events: Vec<Sent>, index: usize| {
            events.remove(index);
            assemble(events).expect_err("a fault")
        };
        let whole = || sent(vec![tranche(1, 0, &[0])]);
        assert_eq!(without(whole(), 0), "tranche_formats came before format_table");
        assert_eq!(without(whole(), 2), "a tranche without tranche_target_device");
        assert_eq!(without(whole(), 3), "a tranche without tranche_flags");
        assert_eq!(without(whole(), 4), "a tranche without tranche_formats");
        assert_eq!(without(whole(), 5), "done came in the middle of a tranche");
        assert_eq!(without(whole(), 6), "parameters without a done at the end");
        assert_eq!(
            assemble(sent(vec![tranche(1, 0, &[3])])).expect_err("a fault"),
            "index 3 is outside the table"
        );
        let mut twice = whole();
        twice.insert(1, Sent::MainDevice(vec![2]));
        assert_eq!(assemble(twice).expect_err("a fault"), "main_device came twice");
    }

    #[test]
    fn a_pair_may_be_there_twice_only_for_other_devices_or_flags() {
        let found = |tranches| duplicate(&assemble(sent(tranches)).expect("whole")[0]);
        assert_eq!(found(vec![tranche(1, 0, &[0, 1]), tranche(1, 1, &[0]), tranche(2, 0, &[0])]), None);
        assert_eq!(found(vec![tranche(1, 0, &[0, 0])]), Some((1, 10)));
        assert_eq!(found(vec![tranche(1, 0, &[0, 2]), tranche(1, 0, &[2])]), Some((2, 10)));
    }

    #[test]
    fn an_entry_of_the_table_is_a_format_four_bytes_and_a_modifier() {
        let bytes = [7_u32.to_ne_bytes().as_slice(), &[9; 4], &(1_u64 << 40).to_ne_bytes()].concat();
        assert_eq!(entries(&bytes), [(7, 1 << 40)]);
    }
}

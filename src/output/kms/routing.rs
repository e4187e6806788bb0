//! Which CRTC drives which connector: a matching, as pure arithmetic on indices.
//!
//! Owns the rule: *what is routed stays routed*, so that an output that is lit keeps its CRTC when another one is
//! plugged in, and the first picture comes without a detour through black. The rest are matched so that as
//! many connectors as possible get a CRTC.

/// What a connector can be driven by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The CRTC that drives it at present.
    pub current: Option<usize>,
    /// All that could.
    pub possible: Vec<usize>,
}

/// A CRTC for each connector, by index; `None` where there is none left.
pub fn assign(wishes: &[Wish]) -> Vec<Option<usize>> {
    // Fixed: connectors that keep what they have. The first wins, should two be clones on one CRTC.
    let mut owner: Vec<(usize, usize, bool)> = Vec::new();
    for (connector, wish) in wishes.iter().enumerate() {
        let current = wish.current.filter(|crtc| wish.possible.contains(crtc));
        let free = current.filter(|crtc| !owner.iter().any(|(taken, ..)| taken == crtc));
        owner.extend(free.map(|crtc| (crtc, connector, true)));
    }
    for connector in 0..wishes.len() {
        if !owner.iter().any(|&(_, owner, _)| owner == connector) {
            let mut tried = Vec::new();
            // One that finds none stays dark.
            let _found = place(connector, wishes, &mut owner, &mut tried);
        }
    }
    let crtc_of = |connector| owner.iter().find(|&&(_, owner, _)| owner == connector).map(|&(crtc, ..)| crtc);
    (0..wishes.len()).map(crtc_of).collect()
}

/// Finds a CRTC for `connector`, moving connectors that are not fixed (an augmenting path).
fn place(
    connector: usize,
    wishes: &[Wish],
    owner: &mut Vec<(usize, usize, bool)>,
    tried: &mut Vec<usize>,
) -> bool {
    let Some(wish) = wishes.get(connector) else { return false };
    for &crtc in &wish.possible {
        if tried.contains(&crtc) {
            continue;
        }
        tried.push(crtc);
        match owner.iter().find(|&&(taken, ..)| taken == crtc).copied() {
            Some((_, _, true)) => continue,
            Some((_, other, false)) if !place(other, wishes, owner, tried) => continue,
            Some(_) | None => {}
        }
        owner.retain(|&(taken, owner, _)| taken != crtc && owner != connector);
        owner.push((crtc, connector, false));
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(current: Option<usize>, possible: &[usize]) -> Wish {
        Wish { current, possible: possible.to_vec() }
    }

    #[test]
    fn a_routed_connector_keeps_its_crtc() {
        let wishes = [wish(None, &[0, 1]), wish(Some(0), &[0, 1])];
        assert_eq!(assign(&wishes), [Some(1), Some(0)]);
    }

    #[test]
    fn a_choosy_connector_moves_an_easy_one() {
        let wishes = [wish(None, &[0, 1]), wish(None, &[0])];
        assert_eq!(assign(&wishes), [Some(1), Some(0)]);
        let wishes = [wish(None, &[0, 1]), wish(None, &[1, 2]), wish(None, &[0])];
        assert_eq!(assign(&wishes), [Some(1), Some(2), Some(0)]);
    }

    #[test]
    fn a_lit_connector_is_not_moved_for_another() {
        let wishes = [wish(Some(0), &[0, 1]), wish(None, &[0])];
        assert_eq!(assign(&wishes), [Some(0), None]);
    }

    #[test]
    fn clones_are_parted() {
        let wishes = [wish(Some(0), &[0, 1]), wish(Some(0), &[0, 1])];
        assert_eq!(assign(&wishes), [Some(0), Some(1)]);
    }

    #[test]
    fn where_crtcs_are_short_some_connector_stays_dark_and_none_shares() {
        let wishes = [wish(None, &[0]), wish(None, &[0]), wish(None, &[])];
        assert_eq!(assign(&wishes), [Some(0), None, None]);
    }

    #[test]
    fn every_small_case_lights_as_many_as_the_best_assignment() {
        for bits in 0..1_u32 << 9 {
            let possible =
                |connector| (0..3_usize).filter(|crtc| bits >> (connector * 3 + *crtc) & 1 == 1).collect();
            let wishes: Vec<_> =
                (0..3_usize).map(|connector| Wish { current: None, possible: possible(connector) }).collect();
            let lit = assign(&wishes);
            for (connector, crtc) in lit.iter().enumerate() {
                if let Some(crtc) = crtc {
                    assert!(wishes[connector].possible.contains(crtc), "{wishes:?}");
                    assert_eq!(lit.iter().filter(|other| **other == Some(*crtc)).count(), 1, "{wishes:?}");
                }
            }
            assert_eq!(lit.iter().flatten().count(), best(&wishes, &mut Vec::new()), "{wishes:?} {lit:?}");
        }
    }

    fn best(wishes: &[Wish], taken: &mut Vec<usize>) -> usize {
        let Some((first, rest)) = wishes.split_first() else { return 0 };
        let mut most = best(rest, taken);
        for &crtc in &first.possible {
            if !taken.contains(&crtc) {
                taken.push(crtc);
                most = most.max(1 + best(rest, taken));
                taken.pop();
            }
        }
        most
    }
}

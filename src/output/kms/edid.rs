//! Who a display is, from its EDID.
//!
//! Owns the few bytes of VESA E-EDID 1.4, section 3 that name a display, and believes none of them: what cannot be read
//! is empty.

/// The names of a display; empty where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The maker's three letters (PNP ID).
    pub make: String,
    /// The display's name, else its product code as 0x and four digits.
    pub model: String,
    /// Its serial number as text, else as 0x and eight digits.
    pub serial: String,
}

const MAGIC: [u8; 8] = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
/// Four descriptors of 18 bytes.
const DESCRIPTORS: std::ops::Range<usize> = 54..126;
const NAME: u8 = 0xfc;
const SERIAL: u8 = 0xff;

impl Identity {
    /// Reads the first block of an EDID.
    pub fn parse(edid: &[u8]) -> Self {
        Self::try_parse(edid).unwrap_or_default()
    }

    fn try_parse(edid: &[u8]) -> Option<Self> {
        if edid.get(..8)? != MAGIC {
            return None;
        }
        let maker = u16::from_be_bytes(*edid.get(8..)?.first_chunk()?);
        let letter = |shift: u16| match u8::try_from((maker >> shift) & 31) {
            Ok(number @ 1..=26) => Some(char::from(b'A' - 1 + number)),
            _ => None,
        };
        let make: Option<String> = [10, 5, 0].into_iter().map(letter).collect();
        let product = u16::from_le_bytes(*edid.get(10..)?.first_chunk()?);
        let number = u32::from_le_bytes(*edid.get(12..)?.first_chunk()?);
        let descriptors = edid.get(DESCRIPTORS)?;
        let text = |tag| descriptors.chunks_exact(18).find_map(|descriptor| text_of(descriptor, tag));
        Some(Self {
            make: make.unwrap_or_default(),
            model: text(NAME).unwrap_or_else(|| format!("0x{product:04X}")),
            serial: text(SERIAL).unwrap_or_else(|| match number {
                0 => String::new(),
                number => format!("0x{number:08X}"),
            }),
        })
    }
}

/// The text of a display descriptor with this tag: up to 13 bytes, ended by a line feed.
fn text_of(descriptor: &[u8], tag: u8) -> Option<String> {
    if descriptor.get(..5)? != [0, 0, 0, tag, 0] {
        return None;
    }
    let text = descriptor.get(5..)?;
    let text = text.split(|byte| *byte == b'\n').next()?;
    let text: String = text.iter().map(|byte| char::from(*byte)).filter(|c| !c.is_control()).collect();
    let text = text.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edid() -> Vec<u8> {
        let mut edid = vec![0; 128];
        edid[..8].copy_from_slice(&MAGIC);
        // DEL, 0xa0c4, serial number 0x30334c32
        edid[8..16].copy_from_slice(&[0x10, 0xac, 0xc4, 0xa0, 0x32, 0x4c, 0x33, 0x30]);
        edid[72..90].copy_from_slice(b"\0\0\0\xfc\0DELL U2720Q\n ");
        edid
    }

    #[test]
    fn a_display_is_known_by_maker_name_and_number() {
        let identity = Identity::parse(&edid());
        assert_eq!((identity.make.as_str(), identity.model.as_str()), ("DEL", "DELL U2720Q"));
        assert_eq!(identity.serial, "0x30334C32");
    }

    #[test]
    fn a_serial_number_as_text_is_preferred() {
        let mut edid = edid();
        edid[90..108].copy_from_slice(b"\0\0\0\xff\0FYT1234567\n\0\0");
        assert_eq!(Identity::parse(&edid).serial, "FYT1234567");
    }

    #[test]
    fn nonsense_names_nobody() {
        assert_eq!(Identity::parse(&[]), Identity::default());
        assert_eq!(Identity::parse(&edid()[..100]), Identity::default());
        assert_eq!(Identity::parse(&[0; 128]), Identity::default());
        let mut anonymous = edid();
        anonymous[8..10].copy_from_slice(&[0, 0]);
        anonymous[72..90].fill(0xff);
        let identity = Identity::parse(&anonymous);
        assert_eq!((identity.make.as_str(), identity.model.as_str()), ("", "0xA0C4"));
    }
}

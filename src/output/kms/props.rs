//! The KMS properties we use: names in one place, ids looked up once per object.
//!
//! Owns the enums and the tables. Sets nothing; [`super::request`] does. A property is missing where the driver or the
//! kernel does not have it, and [`Props::has`] is how the rest of the code asks what a device can do.

use std::io;
use std::marker::PhantomData;

use drm::control::{Device, RawResourceHandle, ResourceHandle, property};

/// The properties of one kind of object.
pub trait Property: Copy + PartialEq + 'static {
    /// All of them, in the order of [`Property::index`].
    const ALL: &'static [Self];
    /// The kernel's name.
    fn name(self) -> &'static str;
    /// The place in a table.
    fn index(self) -> usize;
}

macro_rules! properties {
    ($(#[$doc:meta])* $kind:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind { $($(#[$variant_doc])* $variant,)* }

        impl Property for $kind {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

properties! {
    /// Properties of a connector.
    ConnectorProp {
        /// The CRTC that drives it, or 0.
        CrtcId = "CRTC_ID",
        /// The identification data of the display, a blob.
        Edid = "EDID",
        /// 0 = good; the driver sets 1 = bad when the link has to be trained anew by a modeset.
        LinkStatus = "link-status",
        /// How its colours are encoded; 0 is the default.
        Colorspace = "Colorspace",
        /// What is said to a display of high dynamic range, a blob, or 0.
        HdrOutputMetadata = "HDR_OUTPUT_METADATA",
        /// 1 if the display refreshes when a frame comes.
        VrrCapable = "vrr_capable",
        /// Writeback connectors: the framebuffer that the CRTC's output is written to, for one commit.
        WritebackFbId = "WRITEBACK_FB_ID",
        /// Writeback connectors: where the kernel puts a sync_file that signals when the output is written.
        WritebackOutFencePtr = "WRITEBACK_OUT_FENCE_PTR",
        /// Writeback connectors: the fourccs that can be written, a blob of u32.
        WritebackPixelFormats = "WRITEBACK_PIXEL_FORMATS",
    }
}

properties! {
    /// Properties of a CRTC.
    CrtcProp {
        /// Whether it is on.
        Active = "ACTIVE",
        /// The mode, a blob.
        ModeId = "MODE_ID",
        /// Where the kernel puts a sync_file that signals with the flip of the commit (Linux 4.10).
        OutFencePtr = "OUT_FENCE_PTR",
        /// Colours before the planes are blended, a blob, or 0 for as they are.
        DegammaLut = "DEGAMMA_LUT",
        /// A matrix for colours, a blob, or 0.
        Ctm = "CTM",
        /// Colours on their way to the display, a blob, or 0.
        GammaLut = "GAMMA_LUT",
        /// Whether the display waits for frames: variable refresh (Linux 4.21).
        VrrEnabled = "VRR_ENABLED",
    }
}

properties! {
    /// Properties of a plane.
    PlaneProp {
        /// Overlay, primary or cursor; fixed.
        Type = "type",
        /// The CRTC that shows it, or 0.
        CrtcId = "CRTC_ID",
        /// What it shows, or 0.
        FbId = "FB_ID",
        /// The part of the framebuffer that is shown, 16.16 fixed point.
        SrcX = "SRC_X",
        /// See [`PlaneProp::SrcX`].
        SrcY = "SRC_Y",
        /// See [`PlaneProp::SrcX`].
        SrcW = "SRC_W",
        /// See [`PlaneProp::SrcX`].
        SrcH = "SRC_H",
        /// Where it is shown, in pixels of the mode.
        CrtcX = "CRTC_X",
        /// See [`PlaneProp::CrtcX`].
        CrtcY = "CRTC_Y",
        /// See [`PlaneProp::CrtcX`].
        CrtcW = "CRTC_W",
        /// See [`PlaneProp::CrtcX`].
        CrtcH = "CRTC_H",
        /// A sync_file that the commit waits for before it shows the framebuffer (Linux 4.10).
        InFenceFd = "IN_FENCE_FD",
        /// What changed since the last commit, a blob of rectangles of the framebuffer (Linux 5.0).
        FbDamageClips = "FB_DAMAGE_CLIPS",
        /// The formats and modifiers it can show, a blob.
        InFormats = "IN_FORMATS",
        /// A bitmask; others may have left the plane rotated.
        Rotation = "rotation",
        /// Opacity; others may have left the plane translucent.
        Alpha = "alpha",
        /// Where the plane lies in the stack: higher is in front; others may have moved it where it can be set. Missing where the
        /// driver does not say.
        Zpos = "zpos",
        /// What an alpha channel means.
        PixelBlendMode = "pixel blend mode",
        /// Which colours a YUV buffer's numbers are.
        ColorEncoding = "COLOR_ENCODING",
        /// Which of its numbers are black and white.
        ColorRange = "COLOR_RANGE",
        /// The pixel of a pointer's image that points, on virtual devices, whose host draws it (Linux 6.6).
        HotspotX = "HOTSPOT_X",
        /// See [`PlaneProp::HotspotX`].
        HotspotY = "HOTSPOT_Y",
    }
}

/// The ids, and the values at the time of the look-up, of one object's properties.
#[derive(Clone, Debug)]
pub struct Props<P> {
    object: RawResourceHandle,
    table: Vec<Option<Entry>>,
    kind: PhantomData<P>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: property::Handle,
    value: property::RawValue,
    mutable: bool,
}

impl<P: Property> Props<P> {
    /// Asks the kernel about an object: one ioctl, and one for each of its properties.
    ///
    /// # Errors
    /// `ENOENT` if the object has gone, and those of OBJ_GETPROPERTIES and GETPROPERTY.
    pub fn read(device: &impl Device, object: impl ResourceHandle) -> io::Result<Self> {
        let mut table = vec![None; P::ALL.len()];
        for (&id, &value) in &device.get_properties(object)? {
            let info = device.get_property(id)?;
            let known = P::ALL.iter().find(|known| info.name().to_bytes() == known.name().as_bytes());
            if let Some(slot) = known.and_then(|known| table.get_mut(known.index())) {
                *slot = Some(Entry { id, value, mutable: info.mutable() });
            }
        }
        Ok(Self { object: object.into(), table, kind: PhantomData })
    }

    /// The object.
    pub fn object(&self) -> RawResourceHandle {
        self.object
    }

    /// Whether the object has this property.
    pub fn has(&self, prop: P) -> bool {
        self.id(prop).is_some()
    }

    /// The property's id.
    pub fn id(&self, prop: P) -> Option<property::Handle> {
        self.entry(prop).map(|entry| entry.id)
    }

    /// The value when the table was read: for what never changes, such as types and lists of formats, and for what is
    /// [restored](super::request::Request::restore) wherever it counts.
    pub fn initial(&self, prop: P) -> Option<property::RawValue> {
        self.entry(prop).map(|entry| entry.value)
    }

    /// Whether the property can be set.
    pub fn is_mutable(&self, prop: P) -> bool {
        self.entry(prop).is_some_and(|entry| entry.mutable)
    }

    fn entry(&self, prop: P) -> Option<Entry> {
        self.table.get(prop.index()).copied().flatten()
    }
}

#[cfg(test)]
impl<P: Property> Props<P> {
    /// Of an object that there is not, with these values and whether each can be set.
    pub(super) fn of(object: u32, values: &[(P, property::RawValue, bool)]) -> Self {
        use drm::control::from_u32;

        let mut table = vec![None; P::ALL.len()];
        for &(prop, value, mutable) in values {
            let id = u32::try_from(prop.index()).ok().and_then(|index| from_u32(index + 1));
            table[prop.index()] = id.map(|id| Entry { id, value, mutable });
        }
        Self { object: from_u32(object).expect("not 0"), table, kind: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_property_has_its_own_place_in_the_table() {
        fn check<P: Property + std::fmt::Debug>() {
            for (place, prop) in P::ALL.iter().enumerate() {
                assert_eq!(prop.index(), place, "{prop:?}");
                // DRM_PROP_NAME_LEN with the terminating zero; a longer name would never match.
                assert!(prop.name().len() < 32, "{prop:?}");
            }
        }
        check::<ConnectorProp>();
        check::<CrtcProp>();
        check::<PlaneProp>();
    }
}

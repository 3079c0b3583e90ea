//! Descriptors: what the directory says of each slot, and how the slot's memory is laid out.
//! `docs/format.md` says the same in prose.

use bytemuck::{Pod, Zeroable};

use crate::format::layout::{LINE, MAX_LINES, PAGE};
use crate::format::regions::Regions;
use crate::protocol::{Areas, Form};
use crate::types::scalar_type::ScalarType;
use crate::types::shape::Shape;
use crate::types::slot_type::SlotType;

/// The fixed part of a descriptor. Its name, fields, doc and unit of measure follow, then zeros up
/// to the end of its last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct DescriptorHead {
    /// CRC-32 of all its lines after these four bytes.
    pub(crate) crc: u32,
    /// How many lines it takes: 1 to 32.
    pub(crate) lines: u8,
    /// 1 value, 2 array, 3 text, 4 bytes, 5 record, 6 buffer, 7 counter (version 1.1).
    pub(crate) kind: u8,
    /// The scalar type's number; 0 if it has none.
    pub(crate) scalar: u8,
    /// K; 0 for a value, 1 for a buffer or a counter.
    pub(crate) areas: u8,
    /// Dimensions; 0 if it has no shape.
    pub(crate) rank: u8,
    /// Bytes of the name.
    pub(crate) name_len: u8,
    /// Bytes of a record's fields.
    pub(crate) fields_len: u16,
    /// Bytes of the doc.
    pub(crate) doc_len: u16,
    /// Bytes of the unit of measure.
    pub(crate) unit_len: u16,
    /// The dimensions. The first is also the capacity of a text or of bytes.
    pub(crate) dims: [u64; 4],
    /// Where the slot is in the file.
    pub(crate) live: u64,
    /// Its first checkpoint segment's number.
    pub(crate) first_segment: u64,
    /// Where that segment's two copies are.
    pub(crate) copies: u64,
    /// Where the slot is in that segment, counted from the segment's head.
    pub(crate) offset_in_segment: u64,
    /// Line + 1 of the slot that this one replaces; 0: none.
    pub(crate) replaces: u64,
}

pub(crate) const KIND_VALUE: u8 = 1;
const KIND_ARRAY: u8 = 2;
const KIND_TEXT: u8 = 3;
const KIND_BYTES: u8 = 4;
const KIND_BUFFER: u8 = 6;
const KIND_COUNTER: u8 = 7;

/// Bytes of a descriptor before its name.
pub(crate) const DESCRIPTOR_HEAD: usize = size_of::<DescriptorHead>();

const _: () = assert!(DESCRIPTOR_HEAD == 88);

/// What a descriptor says of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) name: String,
    /// What the slot is for; may be empty.
    pub(crate) doc: String,
    /// What its numbers are measured in; may be empty.
    pub(crate) unit: String,
    pub(crate) slot_type: SlotType,
    pub(crate) outline: Outline,
}

/// Where a slot is, and how large. This is all that a sync needs to know of each slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    /// K; 0 for a value, 1 for a buffer or a counter.
    pub(crate) areas: u8,
    /// Bytes of its content: one area.
    pub(crate) content_len: u64,
    pub(crate) live: u64,
    pub(crate) first_segment: u64,
    pub(crate) copies: u64,
    pub(crate) offset_in_segment: u64,
}

/// A descriptor is its outline plus the texts and the type.
impl std::ops::Deref for Descriptor {
    type Target = Outline;

    fn deref(&self) -> &Outline {
        &self.outline
    }
}

/// How many lines a descriptor with these texts takes.
pub(crate) fn lines_of(name: &str, doc: &str, unit: &str) -> usize {
    (DESCRIPTOR_HEAD + name.len() + doc.len() + unit.len()).div_ceil(LINE)
}

impl Descriptor {
    /// How many lines it takes.
    pub(crate) fn lines(&self) -> usize {
        lines_of(&self.name, &self.doc, &self.unit)
    }

    /// The fixed part of its lines, without the CRC.
    pub(crate) fn head(&self) -> DescriptorHead {
        let mut head = DescriptorHead::zeroed();
        head.lines = self.lines() as u8;
        (head.kind, head.scalar, head.rank, head.dims) = type_fields(&self.slot_type);
        head.areas = self.areas;
        head.name_len = self.name.len() as u8;
        (head.doc_len, head.unit_len) = (self.doc.len() as u16, self.unit.len() as u16);
        (head.live, head.copies, head.offset_in_segment) =
            (self.live, self.copies, self.offset_in_segment);
        head.first_segment = self.first_segment;
        head
    }

    /// Its lines.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let len = self.lines() * LINE;
        let mut lines = Vec::with_capacity(len);
        lines.extend_from_slice(bytemuck::bytes_of(&self.head()));
        for text in [&self.name, &self.doc, &self.unit] {
            lines.extend_from_slice(text.as_bytes());
        }
        lines.resize(len, 0);
        let crc = crc32fast::hash(&lines[4..]);
        lines[..4].copy_from_slice(&crc.to_le_bytes());
        lines
    }

    /// The descriptor in these lines. They must be intact, and a store with these regions must be
    /// able to have every number in them. Otherwise, what is wrong.
    pub(crate) fn decode(
        lines: &[u8],
        regions: &Regions,
        max_size: u64,
    ) -> Result<Descriptor, &'static str> {
        let [name, doc, unit] = checked_texts(lines)?.map(str::to_owned);
        let outline = Outline::decode(lines, regions, max_size)?;
        let head = bytemuck::pod_read_unaligned(&lines[..DESCRIPTOR_HEAD]);
        let slot_type = slot_type(&head).ok_or(NO_TYPE)?;
        Ok(Descriptor { name, doc, unit, slot_type, outline })
    }

    /// A descriptor in place of one that can no longer be read, for a slot of this kind and scalar
    /// type.
    pub(crate) fn stand_in(name: String, kind: u8, scalar: u8, outline: Outline) -> Descriptor {
        let size = ScalarType::from_code(scalar).map_or(1, |t| t.size() as u64);
        let len = outline.content_len;
        let of_dim = |dim: u64| {
            let dims = [dim, 0, 0, 0];
            slot_type(&DescriptorHead { kind, scalar, rank: 1, dims, ..Zeroable::zeroed() })
        };
        let types = [len / size, len.saturating_sub(8)].into_iter().filter_map(of_dim);
        let fits = |t: &SlotType| t.content_len().map(|n| n as u64) == Some(len);
        let slot_type = types.into_iter().find(fits).unwrap_or(SlotType::Bytes(len as usize));
        Descriptor { name, doc: String::new(), unit: String::new(), slot_type, outline }
    }
}

/// The name, the doc and the unit of measure in a descriptor's lines, if these are intact.
pub(crate) fn checked_texts(lines: &[u8]) -> Result<[&str; 3], &'static str> {
    let head: DescriptorHead = bytemuck::pod_read_unaligned(&lines[..DESCRIPTOR_HEAD]);
    if crc32fast::hash(&lines[4..]) != head.crc {
        return Err("its descriptor's CRC is wrong");
    }
    let mut rest = &lines[DESCRIPTOR_HEAD..];
    let mut text = |len: u16| {
        let (text, behind) = rest.split_at_checked(len.into())?;
        rest = behind;
        std::str::from_utf8(text).ok()
    };
    let name = text(head.name_len.into()).ok_or("its name is not text")?;
    let doc = text(head.doc_len).ok_or("its doc is not text")?;
    let unit = text(head.unit_len).ok_or("its unit of measure is not text")?;
    if has_control(unit) {
        return Err("its unit of measure has a control character");
    }
    if name_problem(name).is_some() {
        return Err("no slot can have its name");
    }
    Ok([name, doc, unit])
}

impl Outline {
    /// The outline in a descriptor's lines, if a store with these regions can have every number in
    /// them. Otherwise, what is wrong. Does not check the texts or the CRC.
    #[inline]
    pub(crate) fn decode(
        lines: &[u8],
        regions: &Regions,
        max_size: u64,
    ) -> Result<Outline, &'static str> {
        let head: DescriptorHead = bytemuck::pod_read_unaligned(&lines[..DESCRIPTOR_HEAD]);
        // Reserved for later kinds and versions; this one does not support them.
        if head.fields_len != 0 || head.replaces != 0 {
            return Err("it uses something that format 1.0 does not have");
        }
        let texts = [head.name_len.into(), head.doc_len, head.unit_len].map(usize::from);
        let len = DESCRIPTOR_HEAD + texts.iter().sum::<usize>();
        if usize::from(head.lines) * LINE != lines.len() || len.div_ceil(LINE) != lines.len() / LINE
        {
            return Err("its descriptor's length is wrong");
        }
        let slot_type = slot_type(&head).ok_or(NO_TYPE)?;
        let content_len = slot_type.content_len().ok_or(NO_TYPE)? as u64;
        let areas_fit = match slot_type {
            SlotType::Value(_) => head.areas == 0,
            SlotType::Buffer(..) | SlotType::Counter => head.areas == 1,
            _ => matches!(head.areas, 2 | 4 | 8),
        };
        if !areas_fit {
            return Err("its number of areas is wrong");
        }
        let DescriptorHead { areas, live, first_segment, copies, offset_in_segment, .. } = head;
        let outline =
            Outline { areas, content_len, live, first_segment, copies, offset_in_segment };
        // In this order: the length is computed only for an offset inside the store.
        let inside = live < max_size && live.is_multiple_of(64) && {
            let end = live + outline.live_len();
            end <= max_size && regions.may_hold_slots(live..end)
        };
        if !inside {
            return Err("it lies outside the store");
        }
        Ok(outline)
    }

    /// What follows its control word.
    pub(crate) fn form(&self) -> Form {
        form(self.live, self.content_len, self.areas)
    }

    /// Bytes it takes in the live region.
    #[inline]
    pub(crate) fn live_len(&self) -> u64 {
        live_len(self.live, self.content_len, self.areas)
    }

    /// Whether it is raw memory: a buffer, or a counter.
    pub(crate) fn is_buffer(&self) -> bool {
        self.areas == 1
    }
}

/// Bytes that a value takes: its cell and a draft.
pub(crate) const VALUE_LEN: u64 = 64;

/// Bytes that a slot at `live` takes: control word and all areas.
#[inline]
pub(crate) fn live_len(live: u64, content_len: u64, areas: u8) -> u64 {
    match areas {
        0 => VALUE_LEN,
        k => {
            let areas = place_areas(live, content_len, k);
            8 * (areas.first as u64 + areas.count * areas.stride as u64)
        }
    }
}

/// What follows the control word of a slot at `live`.
pub(crate) fn form(live: u64, content_len: u64, areas: u8) -> Form {
    match areas {
        0 => Form::Scalar,
        k => Form::Areas(place_areas(live, content_len, k)),
    }
}

/// Areas start on a cache line; from a page's size on, on a page of the file.
fn place_areas(live: u64, content_len: u64, count: u8) -> Areas {
    let align = if content_len < PAGE { 64 } else { PAGE };
    let stale_end = live + 16 + 8 * u64::from(count);
    let first = stale_end.next_multiple_of(align) - live;
    Areas {
        count: u64::from(count),
        first: first as usize / 8,
        stride: content_len.next_multiple_of(align) as usize / 8,
        words: content_len.div_ceil(8) as usize,
    }
}

const NO_TYPE: &str = "its type is unknown";

/// What a descriptor says of this type: its kind, scalar type, rank and dimensions.
pub(crate) fn type_fields(slot_type: &SlotType) -> (u8, u8, u8, [u64; 4]) {
    let shaped = |kind: u8, t: ScalarType, shape: &Shape| {
        let mut dims = [0; 4];
        for (to, from) in dims.iter_mut().zip(shape.dims()) {
            *to = *from as u64;
        }
        (kind, t as u8, shape.dims().len() as u8, dims)
    };
    match slot_type {
        SlotType::Value(t) => (KIND_VALUE, *t as u8, 0, [0; 4]),
        SlotType::Array(t, shape) => shaped(KIND_ARRAY, *t, shape),
        SlotType::Buffer(t, shape) => shaped(KIND_BUFFER, *t, shape),
        SlotType::Text(capacity) => (KIND_TEXT, 0, 0, [*capacity as u64, 0, 0, 0]),
        SlotType::Bytes(capacity) => (KIND_BYTES, 0, 0, [*capacity as u64, 0, 0, 0]),
        SlotType::Counter => (KIND_COUNTER, ScalarType::I64 as u8, 0, [0; 4]),
    }
}

/// The type in a descriptor's head, if it is known.
#[inline]
pub(crate) fn slot_type(head: &DescriptorHead) -> Option<SlotType> {
    let dim = |d: u64| usize::try_from(d).ok();
    let shape = || {
        let (mut dims, rank) = ([0; Shape::MAX_DIMS], usize::from(head.rank));
        for (to, from) in dims.iter_mut().zip(head.dims.get(..rank)?) {
            *to = dim(*from)?;
        }
        Shape::new(&dims[..rank])
    };
    Some(match head.kind {
        KIND_VALUE => SlotType::Value(ScalarType::from_code(head.scalar)?),
        KIND_ARRAY => SlotType::Array(ScalarType::from_code(head.scalar)?, shape()?),
        KIND_BUFFER => SlotType::Buffer(ScalarType::from_code(head.scalar)?, shape()?),
        KIND_COUNTER if head.scalar == ScalarType::I64 as u8 => SlotType::Counter,
        KIND_TEXT => SlotType::Text(dim(head.dims[0])?),
        KIND_BYTES => SlotType::Bytes(dim(head.dims[0])?),
        _ => return None,
    })
}

/// The most bytes that a slot's name, doc and unit of measure may take together.
pub(crate) const MOST_TEXT: usize = MAX_LINES as usize * LINE - DESCRIPTOR_HEAD;

/// Why no slot can have this name; `None` if one can.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > 255 {
        Some("it is longer than 255 bytes")
    } else if has_control(name) {
        Some("it has a control character")
    } else {
        None
    }
}

/// Whether it contains a control character.
fn has_control(text: &str) -> bool {
    // Most texts are plain ASCII, for which this first test is enough.
    !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && text.chars().any(char::is_control)
}

/// FNV-1a, 64 bits: <http://www.isthe.com/chongo/tech/comp/fnv/>.
#[inline]
pub(crate) fn hash_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

//! Whether texts and bytes have a valid length, and texts are UTF-8.

use super::Check;
use crate::attachment::attach::Attachment;
use crate::format::descriptor::Descriptor;
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Memory};
use crate::types::data::TEXT_LEN;
use crate::types::slot_type::SlotType;

/// Whether the content of a text, or of bytes, is valid.
pub(super) fn check(
    attachment: &Attachment,
    descriptor: &Descriptor,
    memory: &SlotMemory,
    check: &mut Check,
) {
    let (SlotType::Text(capacity) | SlotType::Bytes(capacity)) = descriptor.slot_type else {
        return;
    };
    let areas = memory.areas();
    if memory.is_removed() {
        return;
    }
    let is_text = matches!(descriptor.slot_type, SlotType::Text(_));
    let problem = |len: u64, is_utf8: &dyn Fn(usize) -> bool| match usize::try_from(len)
        .ok()
        .filter(|len| *len <= capacity)
    {
        None => Some(format!("its length is {len}, but its capacity is {capacity}")),
        Some(len) if is_text && !is_utf8(len) => Some("it is not UTF-8".into()),
        Some(_) => None,
    };
    let mut wrong = None;
    let mut len = [0; TEXT_LEN];
    if capacity <= AT_ONCE {
        // This read ends even if writers never pause.
        let mut content = vec![0; TEXT_LEN + capacity];
        protocol::read_bytes(memory, attachment, areas, 0, &mut content[..]);
        let text = content.split_off(TEXT_LEN);
        len.copy_from_slice(&content);
        wrong = problem(u64::from_le_bytes(len), &|len| std::str::from_utf8(&text[..len]).is_ok());
    } else {
        // The content may be larger than memory.
        protocol::read(memory, attachment, areas, |memory, area| {
            memory.read(area, 0, &mut len);
            wrong = problem(u64::from_le_bytes(len), &|len| is_utf8(memory, area, len));
        });
    }
    if let Some(what) = wrong {
        check.note(Some(&descriptor.name), what);
    }
}

/// Bytes of a text that are checked at once.
const AT_ONCE: usize = 1 << 20;

/// Whether the first `len` bytes of an area's text are UTF-8. Reads them in parts.
pub(crate) fn is_utf8(memory: &impl Memory, area: usize, len: usize) -> bool {
    const PART: usize = 64 << 10;
    let mut part = Vec::new();
    let mut at = 0;
    while at < len {
        // Append to the beginning of a character that the last part ended in.
        let (begun, more) = (part.len(), PART.min(len - at));
        part.resize(begun + more, 0);
        memory.read(area, TEXT_LEN + at, &mut part[begun..]);
        at += more;
        let valid = match std::str::from_utf8(&part) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() && at < len => error.valid_up_to(),
            Err(_) => return false,
        };
        part.drain(..valid);
    }
    true
}

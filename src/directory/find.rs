//! From a name to its slot: by this process's cache of names, by the index, or, because the index
//! may be damaged, by the descriptors themselves.

use crate::attachment::attach::Attachment;
use crate::attachment::descriptor_cache::Entry;
use crate::attachment::descriptors;
use crate::attachment::name_cache::Hash;
use crate::attachment::survey::Survey;
use crate::directory::found::{Found, unless_removed};
use crate::directory::index::{all_steps, find_by_index};
use crate::error::Result;
use crate::mutant::planted;

/// The slot of this name, if there is one.
#[inline]
pub(crate) fn find<'a>(attachment: &'a Attachment, name: &str) -> Result<Option<Found<'a>>> {
    match find_listed(attachment, name)? {
        None if !planted!(TheIndexIsBelieved) => find_by_directory(attachment, name),
        found => Ok(found),
    }
}

/// The slot of this name, if this process has read all descriptors or the index leads to it: for
/// callers that would define it otherwise, and so look at the descriptors, too.
#[inline]
pub(crate) fn find_listed<'a>(attachment: &'a Attachment, name: &str) -> Result<Option<Found<'a>>> {
    if let Some(entry) = find_again(attachment, name)
        && let Some(found) = unless_removed(attachment, entry)?
    {
        return Ok(Some(found));
    }
    if !planted!(TheIndexIsBelieved)
        && let Some(survey) = descriptors::current_survey(attachment)?
    {
        return find_by_survey(attachment, name, &survey);
    }
    let found = find_by_index(attachment, name, &mut all_steps(attachment)?)?;
    if let Some(found) = &found {
        attachment.descriptor_cache.names.note(Hash::of(name), found.entry.line());
    }
    Ok(found)
}

/// What is known of the slot of this name, if this process has found it before. It may be removed.
#[inline(always)]
pub(crate) fn find_again<'a>(attachment: &'a Attachment, name: &str) -> Option<Entry<'a>> {
    let (names, hash) = (&attachment.descriptor_cache.names, Hash::of(name));
    let entry = find_on(attachment, names.lines(hash), name)
        .or_else(|| find_beside(attachment, hash, name))?;
    // As the index would: nothing is found in a directory whose count is damaged.
    descriptors::count(attachment).is_ok().then_some(entry)
}

#[cold]
fn find_beside<'a>(attachment: &'a Attachment, hash: Hash, name: &str) -> Option<Entry<'a>> {
    find_on(attachment, attachment.descriptor_cache.names.other_lines(hash), name)
}

/// The first of these lines with this name.
#[inline(always)]
fn find_on<'a>(
    attachment: &'a Attachment,
    lines: impl Iterator<Item = u32>,
    name: &str,
) -> Option<Entry<'a>> {
    for line in lines {
        let Some(entry) = attachment.descriptor_cache.get(line) else { continue };
        attachment.map.fetch(entry.live());
        if entry.is_named(attachment, name) {
            return Some(entry);
        }
    }
    None
}

/// The same by the descriptors, for a name that the index does not lead to. An entry of the index
/// may be damaged; the slot must not count as absent and be made anew because of that.
#[cold]
fn find_by_directory<'a>(attachment: &'a Attachment, name: &str) -> Result<Option<Found<'a>>> {
    find_by_survey(attachment, name, &*descriptors::survey(attachment)?)
}

/// The slot of this name, by a survey of all descriptors.
pub(super) fn find_by_survey<'a>(
    attachment: &'a Attachment,
    name: &str,
    survey: &Survey,
) -> Result<Option<Found<'a>>> {
    let hash = Hash::of(name);
    for line in survey.lines_of(hash) {
        let entry = descriptors::known(attachment, line, survey.lines())?;
        if descriptors::is_named(attachment, entry, name)? {
            let found = unless_removed(attachment, entry)?;
            if found.is_some() {
                attachment.descriptor_cache.names.note(hash, line);
            }
            return Ok(found);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::Store;
    use crate::attachment::survey;

    /// Two names that a survey cannot tell apart without looking at them.
    fn names_of_one_tag() -> [String; 2] {
        let mut of_tags = HashMap::new();
        (0..)
            .map(|number| format!("slot{number}"))
            .find_map(|name| {
                let other = of_tags.insert(survey::tag_of(Hash::of(&name)), name.clone())?;
                Some([other, name])
            })
            .expect("of 100,000 names two have one")
    }

    #[test]
    fn names_of_one_hash_are_two_slots() {
        let [first, second] = names_of_one_tag();
        let store = Store::temporary().unwrap();
        store.value::<u8>("first of all").unwrap();
        let absent = |name: &str| matches!(store.slot(name), Err(crate::Error::NotFound { .. }));
        store.value::<u8>(&first).unwrap().store(1).unwrap();
        assert!(absent(&second));
        store.value::<u8>(&second).unwrap().store(2).unwrap();
        let surveyed = |name: &str| {
            let attachment = store.attachment();
            let survey = descriptors::survey(attachment).unwrap();
            find_by_survey(attachment, name, &survey).unwrap().map(|found| found.entry.line())
        };
        assert_eq!([&first, &second].map(|name| surveyed(name)), [Some(1), Some(2)]);
        // Removed and defined anew, each keeps its own line.
        store.remove(&first).unwrap();
        assert!(surveyed(&first).is_none() && absent(&first));
        store.value::<u8>(&first).unwrap();
        assert_eq!([&first, &second].map(|name| surveyed(name)), [Some(3), Some(2)]);
        assert_eq!(store.value::<u8>(&second).unwrap().load(), 2);
    }
}

//! Which slot may have been meant by a name that no slot has.

use crate::attachment::descriptors;
use crate::store::store::Store;

impl Store {
    /// The name of a slot that is most like this one, if any is: to suggest it to a person who has
    /// mistyped it. Looks at the `most` slots that were defined first, about a microsecond each.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// store.value::<f64>("temperature")?;
    /// assert_eq!(store.closest_name("temprature", 1_000).as_deref(), Some("temperature"));
    /// assert_eq!(store.closest_name("pressure", usize::MAX), None);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn closest_name(&self, name: &str, most: usize) -> Option<String> {
        let mut closest: Option<(usize, String)> = None;
        let mut left = most;
        // An error ends it: in a damaged directory, nothing more is found.
        let _ = descriptors::each(self.attachment(), |descriptor| {
            left = left.checked_sub(1).ok_or_else(|| self.not_found(name))?;
            if let Some(slips) = slips_between(name, &descriptor.name)
                && closest.as_ref().is_none_or(|(least, _)| slips < *least)
                && !descriptors::memory(self.attachment(), &descriptor)?.is_removed()
            {
                closest = Some((slips, descriptor.name));
            }
            Ok(())
        });
        closest.map(|(_, name)| name)
    }
}

/// How many typing errors lie between two names: characters inserted, left out, changed, or two
/// exchanged. Case is ignored. `None`: too many for them to be meant as one name.
fn slips_between(a: &str, b: &str) -> Option<usize> {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let (shorter, longer) = (a.chars().count(), b.chars().count());
    let (shorter, longer) = (shorter.min(longer), shorter.max(longer));
    let most = longer / 3;
    if longer - shorter > most {
        return None;
    }
    Some(strsim::osa_distance(&a, &b)).filter(|slips| *slips <= most)
}

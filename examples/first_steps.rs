//! The README's program, line by line: a test compares them.
//!
//! Run it: `cargo run --example first_steps`
//! It leaves: `state.slots`
//! Its last line: `pose [0.5, 0.0, 0.0]`

fn main() -> slotfile::Result<()> {
    let store = slotfile::Store::open_or_create("state.slots")?;
    let hits = store.value::<u64>("hits")?; // opens the slot, or defines it
    println!("{} hits", hits.fetch_add(1)? + 1); // atomic among all processes
    let pose = store.array::<f64>("pose", 3)?;
    pose.update(|p| p[0] += 0.5)?; // all or nothing, for readers and for kill -9
    println!("pose {:?}", pose.load());
    store.sync() // survives a power cut now; the background does this each second
}

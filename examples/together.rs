//! Works on a store together with other programs, in whatever language:
//! `together FILE TIMES` adds 1 to the value `hits`, and to each element of the array `each`.
//!
//! Run it: `cargo run --example together -- state.slots 100`
//! Its last line: `100 [100, 100, 100, 100]`

use slotfile::Store;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(times)) = (arguments.next(), arguments.next()) else {
        return Err("usage: together FILE TIMES".into());
    };
    let store = Store::open_or_create(file)?;
    let hits = store.value::<u64>("hits")?;
    let each = store.array::<i64>("each", 4)?;
    for _ in 0..times.parse()? {
        hits.fetch_add(1)?;
        each.update(|each| each.iter_mut().for_each(|x| *x += 1))?;
    }
    println!("{} {:?}", hits.load(), each.load());
    Ok(())
}

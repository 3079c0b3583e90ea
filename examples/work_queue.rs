//! The counters of a work queue, shared by worker processes.
//!
//! Jobs are numbered. The boss announces how many there are; each worker takes the next
//! number, one atomic step, so that no job is done twice; who finds none sleeps until there
//! are more. A worker that is killed holds up nobody.
//!
//! Run it: `cargo run --example work_queue`
//! Its last line: `300 jobs done by 3 workers, none twice`

use std::process::{Child, Command};
use std::time::Duration;

use slotfile::{Store, Value};

const JOBS: u64 = 300;
const WORKERS: u64 = 3;

/// The counters; every process opens the same.
struct Queue {
    announced: Value<u64>,
    taken: Value<u64>,
    done: Value<u64>,
    closed: Value<bool>,
}

impl Queue {
    fn open(store: &Store) -> slotfile::Result<Queue> {
        Ok(Queue {
            announced: store.value("jobs/announced")?,
            taken: store.value("jobs/taken")?,
            done: store.value("jobs/done")?,
            closed: store.value("jobs/closed")?,
        })
    }

    /// The number of a job that nobody else has, as soon as there is one; `None` at the end.
    fn take(&self, store: &Store) -> slotfile::Result<Option<u64>> {
        loop {
            // The versions first: whatever changes after this ends the wait below at once.
            let versions = [self.announced.version(), self.closed.version()];
            let announced = self.announced.load();
            if let Ok(job) = self.taken.try_update(|job| (job < announced).then_some(job + 1))? {
                return Ok(Some(job));
            }
            if self.closed.load() {
                return Ok(None);
            }
            store.wait_any(&[(&self.announced, versions[0]), (&self.closed, versions[1])], None)?;
        }
    }
}

fn main() -> slotfile::Result<()> {
    match std::env::args().nth(1) {
        Some(path) => worker(&path),
        None => boss(),
    }
}

fn boss() -> slotfile::Result<()> {
    let path = std::env::temp_dir().join(format!("work_queue-{}.slots", std::process::id()));
    let store = Store::create(&path)?;
    let queue = Queue::open(&store)?;
    let times_done = store.array::<u8>("jobs/times done", JOBS as usize)?;
    let me = std::env::current_exe().expect("this program has a path");
    let workers: Vec<Child> = (0..WORKERS)
        .map(|_| Command::new(&me).arg(&path).spawn().expect("a worker starts"))
        .collect();

    for batch in 1..=3 {
        queue.announced.store(batch * JOBS / 3)?;
        let done = queue
            .done
            .wait_until(|done| done == batch * JOBS / 3, Some(Duration::from_secs(60)))?;
        println!("batch {batch}: {} jobs are done", done.expect("the workers are alive"));
    }
    queue.closed.store(true)?;
    for mut worker in workers {
        assert!(worker.wait().expect("it can be waited for").success());
    }
    assert!(times_done.load().iter().all(|times| *times == 1));
    println!("{} jobs done by {WORKERS} workers, none twice", queue.done.load());
    std::fs::remove_file(path).expect("the file is ours");
    Ok(())
}

fn worker(path: &str) -> slotfile::Result<()> {
    let store = Store::open(path)?;
    let queue = Queue::open(&store)?;
    let times_done = store.array::<u8>("jobs/times done", JOBS as usize)?;
    while let Some(job) = queue.take(&store)? {
        std::thread::sleep(Duration::from_millis(1)); // the work
        times_done.fetch_add(job as usize, 1)?;
        queue.done.fetch_add(1)?;
    }
    Ok(())
}

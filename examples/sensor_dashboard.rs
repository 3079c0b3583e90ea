//! A sensor that writes, and a dashboard that reads, in two processes.
//!
//! The sensor stores three readings at once, hundreds of times a second, and does not know
//! who looks. The dashboard sleeps until there is something new, and always gets readings of
//! one instant; what came while it was busy is skipped, and the version says how much.
//!
//! Run it: `cargo run --example sensor_dashboard`
//! Its last line: `the sensor is off; the last reading is number 500`

use std::process::Command;
use std::time::Duration;

use slotfile::{Array, Store, Text};

const READINGS: u32 = 500;

/// Number, temperature, humidity.
type Readings = Array<f64>;

fn open(store: &Store) -> slotfile::Result<(Readings, Text)> {
    Ok((store.array("sensor/readings", 3)?, store.text("sensor/state", 16)?))
}

fn main() -> slotfile::Result<()> {
    match std::env::args().nth(1) {
        Some(path) => sensor(&path),
        None => dashboard(),
    }
}

fn sensor(path: &str) -> slotfile::Result<()> {
    let store = Store::open(path)?;
    let (readings, state) = open(&store)?;
    state.store("on")?;
    for number in 1..=READINGS {
        let phase = f64::from(number) / 50.0;
        readings.store(&[number.into(), 20.0 + phase.sin(), 45.0 + 5.0 * phase.cos()])?;
        std::thread::sleep(Duration::from_millis(2));
    }
    state.store("off")
}

fn dashboard() -> slotfile::Result<()> {
    let path = std::env::temp_dir().join(format!("sensor-{}.slots", std::process::id()));
    let store = Store::create(&path)?;
    let me = std::env::current_exe().expect("this program has a path");
    let mut sensor = Command::new(me).arg(&path).spawn().expect("the sensor starts");
    let shown = show(&store);
    sensor.wait().expect("it can be waited for");
    std::fs::remove_file(path).expect("the file is ours");
    shown
}

fn show(store: &Store) -> slotfile::Result<()> {
    let (readings, state) = open(store)?;
    let mut seen = (0, 0); // the versions: both slots are new
    while state.load() != "off" {
        let timeout = Some(Duration::from_secs(5));
        if store.wait_any(&[(&readings, seen.0), (&state, seen.1)], timeout)?.is_empty() {
            println!("no reading for 5 seconds");
            break;
        }
        let (now, version) = readings.load_versioned();
        let skipped = version.saturating_sub(seen.0 + 1);
        seen = (version, state.version());
        println!("{:>4}: {:.2} °C, {:.1} %; {skipped} skipped", now[0], now[1], now[2]);
        std::thread::sleep(Duration::from_millis(100)); // drawing takes its time
    }
    println!("the sensor is {}; the last reading is number {}", state.load(), readings.get(0)?);
    Ok(())
}

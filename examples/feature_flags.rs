//! A store of feature flags, and services that watch it.
//!
//! A flag is a slot; its default is the initial value that the first one to open it gives. A
//! service asks for a flag wherever it needs it, which costs nanoseconds, and watches them all
//! to do something at the moment when one changes; flags that are defined later, too.
//!
//! Run it: `cargo run --example feature_flags`
//! Its last line: `both services have seen every flag`

use std::process::{Child, Command};
use std::time::Duration;

use slotfile::{Data, Define, Store};

const SERVICES: [&str; 2] = ["billing", "search"];
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(60));

fn main() -> slotfile::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    match &args[1..] {
        [path, name] => service(path, name),
        _ => operator(),
    }
}

fn service(path: &str, name: &str) -> slotfile::Result<()> {
    let store = Store::open(path)?;
    let dark = store.value_with("flags/dark mode", Define::new().initial(false))?;
    // The watch first, then the news that this service is ready: it misses nothing.
    let mut watch = store.watch("flags/*")?;
    store.value::<u32>("services ready")?.fetch_add(1)?;
    while let Some(change) = watch.next(TIMEOUT)? {
        println!("{name}: {} is now {}", change.slot.name(), shown(&change.content));
        if change.slot.name() == "flags/shut down" && change.content == true.into() {
            break;
        }
    }
    println!("{name}: ends, with dark mode {}", if dark.load() { "on" } else { "off" });
    Ok(())
}

fn shown(flag: &Data) -> String {
    match flag {
        Data::Scalar(x) => x.to_string(),
        Data::Text(text) => format!("{text:?}"),
        other => format!("{other:?}"),
    }
}

fn operator() -> slotfile::Result<()> {
    let path = std::env::temp_dir().join(format!("flags-{}.slots", std::process::id()));
    let store = Store::create(&path)?;
    let dark = store.value_with("flags/dark mode", Define::new().initial(false))?;
    let me = std::env::current_exe().expect("this program has a path");
    let start = |name| Command::new(&me).arg(&path).arg(name).spawn().expect("a service starts");
    let services: Vec<Child> = SERVICES.into_iter().map(start).collect();
    let ready = store.value::<u32>("services ready")?;
    ready.wait_until(|ready| ready == 2, TIMEOUT)?.expect("the services start");

    // From here on it could be the command line: `slotfile set FILE 'flags/dark mode' true`.
    dark.store(true)?;
    store.value::<f64>("flags/share of users")?.store(0.25)?;
    store.text("flags/greeting", 64)?.store("Ahoj")?;
    std::thread::sleep(Duration::from_millis(100));
    store.value::<bool>("flags/shut down")?.store(true)?;

    for mut service in services {
        assert!(service.wait().expect("it can be waited for").success());
    }
    println!("both services have seen every flag");
    std::fs::remove_file(path).expect("the file is ours");
    Ok(())
}

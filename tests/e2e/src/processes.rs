//! Processes of the cluster, which share their namespaces with the tests.

use rustix::process::{Pid, Signal, kill_process};

/// A process whose arguments, with its program first, fulfil the condition.
pub fn find(condition: impl Fn(&[String]) -> bool) -> Option<Pid> {
    let mut processes = std::fs::read_dir("/proc").unwrap();
    processes.find_map(|entry| {
        let id: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
        let arguments: Vec<String> = line.split('\0').map(str::to_owned).collect();
        condition(&arguments).then(|| Pid::from_raw(id)).flatten()
    })
}

/// Ends a process without a word.
pub fn kill(process: Pid) {
    kill_process(process, Signal::KILL).unwrap();
}

//! The kernel's numbers for this process, read from `/proc/self` at each scrape.

use std::fs;

use super::family::Family;

/// Ticks per second in `/proc` (`USER_HZ`): 100 in the ABI of every supported architecture.
const TICKS: f64 = 100.0;

/// The `process_*` families that could be read; none on systems other than Linux.
pub(super) fn read() -> Vec<(Family, f64)> {
    let mut out = Vec::with_capacity(6);
    if let Ok(stat) = fs::read_to_string("/proc/self/stat")
        && let Some(stat) = Stat::parse(&stat)
    {
        out.push((Family::ProcessCpu, stat.cpu_ticks / TICKS));
        out.push((Family::ProcessThreads, stat.threads));
        if let Some(boot) = fs::read_to_string("/proc/stat").ok().and_then(|text| after(&text, "btime ")) {
            out.push((Family::ProcessStartTime, boot + stat.start_ticks / TICKS));
        }
    }
    if let Some(kilobytes) = fs::read_to_string("/proc/self/status").ok().and_then(|text| after(&text, "VmRSS:")) {
        out.push((Family::ProcessResidentMemory, kilobytes * 1024.0));
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // the directory being read is one of the descriptors
        out.push((Family::ProcessOpenFds, entries.count().saturating_sub(1) as f64));
    }
    if let Some(most) = fs::read_to_string("/proc/self/limits").ok().and_then(|text| after(&text, "Max open files")) {
        out.push((Family::ProcessMaxFds, most));
    }
    out
}

struct Stat {
    cpu_ticks: f64,
    threads: f64,
    start_ticks: f64,
}

impl Stat {
    /// proc(5): fields are counted after the command: the command may hold spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
        // the state is field 3
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self { cpu_ticks: field(14)? + field(15)?, threads: field(20)?, start_ticks: field(22)? })
    }
}

/// The first number after `key` at the beginning of a line.
fn after(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 12 0 4000 1 2";
        let stat = Stat::parse(text).expect("parses");
        assert_eq!((stat.cpu_ticks, stat.threads, stat.start_ticks), (300.0, 12.0, 4000.0));
    }

    #[test]
    fn a_running_process_has_memory_and_descriptors() {
        let read = read();
        let get = |family| read.iter().find(|(f, _)| *f == family).map(|(_, value)| *value).unwrap_or_default();
        assert!(get(Family::ProcessResidentMemory) > 1e5);
        assert!(get(Family::ProcessOpenFds) >= 3.0);
        assert!(get(Family::ProcessMaxFds) >= get(Family::ProcessOpenFds));
        assert!(get(Family::ProcessStartTime) > 1.5e9);
    }
}

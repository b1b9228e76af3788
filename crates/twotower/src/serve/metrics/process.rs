use std::fs;

/// Figures of this process from /proc; `None` on systems without it.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) resident_bytes: Option<f64>,
    pub(super) open_fds: Option<f64>,
    pub(super) max_fds: Option<f64>,
    pub(super) cpu_seconds: Option<f64>,
}

/// `USER_HZ`, which Linux fixes at 100 in its interfaces to programs.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn figures() -> Figures {
    let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).ok();
    Figures {
        resident_bytes: read("status").as_deref().and_then(resident_bytes),
        open_fds: fs::read_dir("/proc/self/fd")
            .ok()
            .map(|descriptors| descriptors.count() as f64),
        max_fds: read("limits").as_deref().and_then(max_fds),
        cpu_seconds: read("stat").as_deref().and_then(cpu_seconds),
    }
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn max_fds(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15, counted from the end of the name, which may contain any character (proc(5)).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        assert_eq!(
            resident_bytes("VmSize:\t  9 kB\nVmRSS:\t    123 kB\n"),
            Some(125_952.0)
        );
        let limits = "Limit Soft Hard Units\nMax open files            1024                 20000                files\n";
        assert_eq!(max_fds(limits), Some(1024.0));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 100";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }
}

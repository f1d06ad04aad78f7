//! A daemon under measurement: started, looked at in /proc, stopped by its process id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Try, clock};

/// Ends with this value, or with this process, however that ends.
pub(crate) struct Process {
    child: Child,
    program: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts `program`, its output to `log`, and waits until a line there has `ready` in it.
    pub(crate) fn start(program: &Path, arguments: &[&str], log: PathBuf, ready: &str) -> Try<Process> {
        let output = File::create(&log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut process = Process { child, program: program.canonicalize()?, log };
        let deadline = clock::nanos() + clock::ns(Duration::from_secs(10));
        while !process.log()?.contains(ready) {
            if let Some(status) = process.child.try_wait()? {
                return Err(format!("{} ended with {status}:\n{}", program.display(), process.log()?).into());
            }
            if clock::nanos() > deadline {
                return Err(format!("{} is not ready:\n{}", program.display(), process.log()?).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(process)
    }

    /// All that it has written.
    pub(crate) fn log(&self) -> Try<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    /// How many lines that is.
    pub(crate) fn lines(&self) -> Try<usize> {
        Ok(fs::read(&self.log)?.iter().filter(|byte| **byte == b'\n').count())
    }

    /// Resident memory in KiB: the sum of the proportional set sizes of its processes, not of the scripts.
    pub(crate) fn pss(&self) -> u64 {
        let mut family = vec![self.child.id()];
        let mut sum = 0;
        while let Some(pid) = family.pop() {
            // A script that has just ended has none of these; neither counts.
            if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == self.program) {
                sum += pss(pid).unwrap_or(0);
                family.extend(children(pid));
            }
        }
        sum
    }

    /// Seconds of processor time so far: of each thread of its processes, by name, and of the scripts that it reaped.
    pub(crate) fn processor_time(&self) -> Try<Vec<(String, f64)>> {
        let mut times = vec![(SCRIPTS.to_owned(), reaped(self.child.id())?)];
        for pid in std::iter::once(self.child.id()).chain(children(self.child.id())) {
            times.extend(thread_times(pid));
        }
        Ok(times)
    }

    /// Asks it to end, waits, and hands over its log.
    pub(crate) fn stop(mut self) -> Try<String> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        let deadline = clock::nanos() + clock::ns(Duration::from_secs(10));
        while self.child.try_wait()?.is_none() {
            if clock::nanos() > deadline {
                return Err(format!("{} does not stop", self.program.display()).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.log()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already, and is reaped then.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pss(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok())
}

/// Seconds that its threads ran, by name; none of a script that has just ended.
pub(crate) fn thread_times(pid: u32) -> Vec<(String, f64)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let time = |thread: fs::DirEntry| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        let ran = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanos: u64 = ran.split(' ').next()?.parse().ok()?;
        Some((name.trim().to_owned(), nanos as f64 / 1e9))
    };
    threads.filter_map(time).collect()
}

/// Seconds that the children ran that this process has waited for.
fn reaped(pid: u32) -> Try<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, which stands in parentheses, may have spaces in it; after it: state, and then cutime as the fourteenth.
    let after = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let ticks: Vec<u64> = after.split_whitespace().skip(13).take(2).flat_map(str::parse).collect();
    Ok(ticks.iter().sum::<u64>() as f64 / TICKS_PER_SECOND)
}

/// What a script's processor time stands under.
pub(crate) const SCRIPTS: &str = "scripts";
/// USER_HZ, which is the same on every Linux that has siglatchd.
const TICKS_PER_SECOND: f64 = 100.0;

/// Of all its threads.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

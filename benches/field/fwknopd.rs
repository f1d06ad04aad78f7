//! fwknopd in UDP server mode, executing the client's commands, and knocks made by its own client.

use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Try;
use crate::arrivals::Arrivals;
use crate::contender::{Contender, Knock, Limits, Running, token};
use crate::ground::{Ground, HERE};
use crate::process::Process;

/// fwknopd.
pub(crate) struct Fwknopd {
    dir: PathBuf,
    program: PathBuf,
    client: PathBuf,
    /// What the knocks run, without the token.
    command: String,
    ground: Ground,
}

impl Fwknopd {
    /// Configures it in a folder.
    pub(crate) fn new(dir: PathBuf, script: &Path, arrivals: &Arrivals) -> Try<Fwknopd> {
        fs::create_dir(&dir)?;
        let secret = |name: &str, text: &str| -> Try<()> {
            fs::write(dir.join(name), text)?;
            Ok(fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600))?)
        };
        secret("fwknopd.conf", &format!("ENABLE_UDP_SERVER Y;\nUDPSERV_PORT {PORT};\n"))?;
        secret(
            "access.conf",
            &format!("SOURCE ANY\nKEY {KEY}\nHMAC_KEY {HMAC_KEY}\nENABLE_CMD_EXEC Y\nFW_ACCESS_TIMEOUT 30\n"),
        )?;
        fs::create_dir(dir.join("run"))?;
        let command = format!("{} {}", script.display(), arrivals.fifo.display());
        let (program, client) = (found("fwknopd")?, found("fwknop")?);
        Ok(Fwknopd { dir, program, client, command, ground: Ground::new()? })
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

impl Contender for Fwknopd {
    fn name(&self) -> &'static str {
        "fwknopd"
    }

    /// It knows no limit for a user.
    fn start(&self, _: Limits) -> Try<Running> {
        self.ground.enter()?;
        fs::remove_dir_all(self.dir.join("run"))?;
        fs::create_dir(self.dir.join("run"))?;
        let arguments = [
            "--foreground",
            "--udp-server",
            "--config-file",
            &self.path("fwknopd.conf"),
            "--access-file",
            &self.path("access.conf"),
            "--run-dir",
            &self.path("run"),
            "--digest-file",
            &self.path("run/digest"),
            "--pid-file",
            &self.path("run/pid"),
        ];
        let process =
            Process::start(&self.program, &arguments, self.dir.join("log"), "Kicking off UDP server")?;
        Ok(Running { process, to: SocketAddrV4::new(HERE, PORT) })
    }

    fn knocks(&self, count: usize) -> Try<Vec<Knock>> {
        let file = self.dir.join("packet");
        (0..count)
            .map(|_| {
                let token = token();
                if file.exists() {
                    fs::remove_file(&file)?;
                }
                let made = Command::new(&self.client)
                    .env("HOME", &self.dir)
                    .args(["--no-rc-file", "--no-save-args", "--test", "--use-hmac"])
                    .args(["--key-rijndael", KEY, "--key-hmac", HMAC_KEY])
                    .args(["--allow-ip", &HERE.to_string(), "--destination", &HERE.to_string()])
                    .args(["--server-cmd", &format!("{} {token}", self.command)])
                    .arg("--save-packet")
                    .arg(&file)
                    .stdout(Stdio::null())
                    .status()?;
                if !made.success() {
                    return Err(format!("fwknop ended with {made}").into());
                }
                Ok(Knock { token, datagram: fs::read(&file)?.trim_ascii_end().to_vec() })
            })
            .collect()
    }
}

fn found(program: &str) -> Try<PathBuf> {
    ["/usr/sbin", "/usr/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists())
        .ok_or_else(|| format!("{program} is missing: scripts/bench installs it").into())
}

const PORT: u16 = 62_201;
/// Worth nothing beyond this run.
const KEY: &str = "benchmark-encryption";
const HMAC_KEY: &str = "benchmark-authentication";

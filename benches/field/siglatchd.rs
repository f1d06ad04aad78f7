//! siglatchd: a server's folder with one user, and his knocks.

use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use rsa::rand_core::{OsRng, RngCore as _};
use siglatch::store::{Boot, SqliteStore};
use siglatch::wire::stamp::{BeaconKey, Epoch, StampKey, Stamper, stamp};
use siglatch::wire::{ActionId, Binding, HmacKey, Knock as Packet, PrivateKey, ServerId, UserId};

use crate::arrivals::Arrivals;
use crate::contender::{Contender, Knock, Limits, Running, token};
use crate::ground::{Ground, HERE};
use crate::process::Process;
use crate::{Try, clock};

/// The folder, and the keys in it.
pub(crate) struct Site {
    dir: PathBuf,
    program: PathBuf,
    pub(crate) key: PrivateKey,
    hmac: HmacKey,
    server: ServerId,
    beacon: BeaconKey,
    stamper: Stamper,
    ground: Ground,
    actions: String,
}

/// siglatchd, knocked in one of its ways.
pub(crate) struct Siglatchd<'s> {
    pub(crate) site: &'s Site,
    pub(crate) way: Way,
}

/// How a knock comes, and as whom its script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// 288 bytes.
    Stamped,
    /// 256 bytes.
    Plain,
    /// 256 bytes, for an action with `run_as`.
    RunAs,
    /// 288 bytes, for a door with a quota: a lease is on the disk before the script starts.
    Door,
}

impl Site {
    /// Makes it: `program` is siglatchd, `script` what its actions run.
    pub(crate) fn new(dir: PathBuf, program: PathBuf, script: &Path, arrivals: &Arrivals) -> Try<Site> {
        fs::create_dir(&dir)?;
        let key = PrivateKey::generate(&mut OsRng)?;
        let (mut hmac, mut server) = ([0; 32], [0; 16]);
        OsRng.fill_bytes(&mut hmac);
        OsRng.fill_bytes(&mut server);
        let (hmac, server) = (HmacKey::new(hmac)?, ServerId(server));
        secret(&dir.join("server.key.pem"), key.to_pem()?.as_bytes())?;
        secret(&dir.join("alice.hmac"), hmac.to_hex().as_bytes())?;
        let run = format!("run = [{script:?}, {:?}]\nmax_running = 64\n", arrivals.fifo);
        let actions = format!(
            "[users.alice]\nid = 1\nhmac_key = \"alice.hmac\"\nactions = [\"arrived\", \"arrived-as\", \"door\"]\n\
             [actions.arrived]\nid = 1\n{run}[actions.arrived-as]\nid = 2\nrun_as = \"nobody\"\n{run}\
             [actions.door]\nid = 3\nhold = \"1h\"\nundo = [\"/bin/true\"]\nquota = \"100000/day\"\n{run}"
        );
        let beacon = BeaconKey::of(key.public());
        let stamper = Stamper::new(&StampKey::derive(key.public(), &hmac));
        Ok(Site { dir, program, key, hmac, server, beacon, stamper, ground: Ground::new()?, actions })
    }

    fn configure(&self, limits: Limits) -> Try<PathBuf> {
        let limits = match limits {
            Limits::Shipped => "",
            Limits::Lifted => "[limits]\nuser_rate = 100000\nuser_burst = 100000\n",
        };
        let text = format!(
            "listen = [\"{HERE}:{PORT}\"]\nprivate_key = \"server.key.pem\"\nserver_id = \"{}\"\n\
             state_dir = \"state\"\nruntime_dir = \"run\"\nstore = \"sqlite\"\nlistener_user = \"daemon\"\n{limits}{}",
            self.server, self.actions
        );
        let path = self.dir.join("siglatchd.toml");
        secret(&path, text.as_bytes())?;
        Ok(path)
    }

    fn knock(&self, way: Way) -> Try<Knock> {
        let action = match way {
            Way::Stamped | Way::Plain => 1,
            Way::RunAs => 2,
            Way::Door => 3,
        };
        let (token, user, timestamp) = (token(), UserId(1), clock::unix());
        let packet = Packet {
            timestamp,
            user,
            action: ActionId::new(action).ok_or("action 0")?,
            challenge: OsRng.next_u32(),
            payload: &base64::prelude::BASE64_STANDARD.decode(token.to_string())?,
        };
        let plain = packet.encode(&self.hmac, Binding::Server(self.server))?;
        let sealed = self.key.public().seal(&mut OsRng, &plain)?;
        let datagram = match way {
            Way::Stamped | Way::Door => stamp(sealed, user, timestamp, &self.beacon, &self.stamper),
            Way::Plain | Way::RunAs => sealed,
        };
        Ok(Knock { token, datagram })
    }

    /// As `siglatchctl init` leaves it: a store that refuses nothing.
    fn fresh_store(&self) -> Try<()> {
        let state = self.dir.join("state");
        if state.exists() {
            fs::remove_dir_all(&state)?;
        }
        let wall = clock::unix().into();
        SqliteStore::create(&state, wall, &Boot::read(wall))?;
        Ok(())
    }
}

impl Contender for Siglatchd<'_> {
    fn name(&self) -> &'static str {
        match self.way {
            Way::Stamped => "siglatchd stamped",
            Way::Plain => "siglatchd plain",
            Way::RunAs => "siglatchd plain, run_as",
            Way::Door => DOORS,
        }
    }

    fn start(&self, limits: Limits) -> Try<Running> {
        self.site.ground.enter()?;
        self.site.fresh_store()?;
        let config = self.site.configure(limits)?;
        let arguments = ["--config", config.to_str().ok_or("a folder with a strange name")?];
        let process =
            Process::start(&self.site.program, &arguments, self.site.dir.join("log"), "code=ready")?;
        Ok(Running { process, to: SocketAddrV4::new(HERE, PORT) })
    }

    fn knocks(&self, count: usize) -> Try<Vec<Knock>> {
        (0..count).map(|_| self.site.knock(self.way)).collect()
    }

    fn beacon(&self) -> Option<[u8; 8]> {
        Some(self.site.beacon.beacon(Epoch::of(clock::unix().into())))
    }
}

fn secret(path: &Path, bytes: &[u8]) -> Try<()> {
    fs::write(path, bytes)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

/// The contender whose knocks are for doors.
pub(crate) const DOORS: &str = "siglatchd doors";

const PORT: u16 = 50_000;

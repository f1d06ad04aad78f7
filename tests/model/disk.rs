//! What outlives a process.

use std::path::Path;

use siglatch::store::{Boot, MemoryStore, SqliteStore, Store};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Memory,
    Sqlite,
}

pub(crate) struct Disk {
    pub(crate) engine: Engine,
    room: u64,
    folder: tempfile::TempDir,
    boot: Boot,
}

impl Disk {
    /// A store on it was made with the keys, at `wall`: it refuses nothing.
    pub(crate) fn new(engine: Engine, room: usize, wall: u64) -> Disk {
        let memory = Path::new("/dev/shm");
        let folder = if memory.exists() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let disk = Disk {
            engine,
            room: room as u64,
            folder: folder.unwrap(),
            boot: Boot { id: "0".to_owned(), time: wall - 100 },
        };
        if engine == Engine::Sqlite {
            SqliteStore::create(&disk.state(), wall, &disk.boot).unwrap();
        }
        disk
    }

    pub(crate) fn open(&self, wall: u64) -> Box<dyn Store> {
        match self.engine {
            Engine::Memory => Box::new(MemoryStore::new(self.room, wall)),
            Engine::Sqlite => {
                Box::new(SqliteStore::open(&self.state(), self.room, wall, &self.boot).unwrap().0)
            }
        }
    }

    /// Another boot of the machine, at `time`. Returns it as the wire counts seconds.
    pub(crate) fn reboot(&mut self, time: u64) -> u32 {
        self.boot = Boot { id: format!("{}'", self.boot.id), time };
        u32::try_from(time).unwrap()
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }
}

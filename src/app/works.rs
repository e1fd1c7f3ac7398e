//! The file of works that go on: who pays for background responses and batches, so that the next process knows it. Written in `state_dir`
//! at once after a change, also while the process drains, and at the end. With Redis the replicas' book is there: files that a process
//! without Redis has left are given to Redis, then removed.
//!
//! A process takes over the files of processes that have ended: at its start, and every minute. So in a rolling restart the works of the
//! process that drains are known a minute later at the latest. Processes that live at once know each other's works with Redis alone.

mod slots;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    task::{AbortHandle, spawn_blocking},
    time::{sleep, timeout},
};

use self::slots::{Found, Text, WorksFile};
use crate::{
    clock::{self, Instant},
    proxy::{Shared, book::pays},
    store::{ledger::Ledger, seal::AtRest},
    telemetry::{Telemetry, metrics::Family},
};

/// The time between two looks at the files of other processes.
const LOOK: Duration = Duration::from_secs(60);
/// The pause after a write that has failed.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest pause after a write. A shorter write has a pause as long as itself: at most half of the time goes into writing.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the book in the file.
pub struct WorksKeeper {
    dir: Option<PathBuf>,
    /// The keys of the files.
    seal: AtRest,
    file: Mutex<Kept>,
    shared: Arc<Shared>,
    telemetry: Arc<Telemetry>,
    task: Mutex<Option<AbortHandle>>,
    /// The runtime that it was started on.
    side: Handle,
}

#[derive(Default)]
struct Kept {
    file: Option<WorksFile>,
    /// The version of the book that the file has.
    version: Option<u64>,
    /// The version of the book that the file has, although files that were taken over may still have to be removed.
    written: Option<u64>,
    /// Works were taken over that Redis has to get.
    waits: bool,
}

impl WorksKeeper {
    /// Takes over what earlier processes have kept in `dir`, and keeps the book there from now on; `None`: nothing is kept. A file that cannot
    /// be read is put aside, and said. Must be called on a runtime.
    pub fn start(dir: Option<&Path>, seal: AtRest, shared: &Arc<Shared>, telemetry: &Arc<Telemetry>) -> Arc<Self> {
        let (shared, telemetry) = (shared.clone(), telemetry.clone());
        let keeper = Arc::new(Self {
            dir: dir.map(Path::to_owned),
            seal,
            file: Mutex::default(),
            shared,
            telemetry,
            task: Mutex::default(),
            side: Handle::current(),
        });
        if dir.is_some() {
            keeper.look();
            *keeper.task.lock() = Some(tokio::spawn(keep(Arc::downgrade(&keeper), keeper.shared.clone())).abort_handle());
        }
        keeper
    }

    /// Takes over the files of processes that have ended, and opens the process's own file if it is not open. Gives the files of processes
    /// that live. Blocks.
    fn look(&self) -> Vec<Text> {
        let Some(dir) = &self.dir else { return Vec::new() };
        let mut kept = self.file.lock();
        let opened = match kept.file.take() {
            Some(mut file) => {
                let found = file.scan();
                Ok((file, found))
            }
            None => WorksFile::open(dir, &self.seal),
        };
        match opened.and_then(|(file, found)| Ok((self.take_over(file, &found)?, found))) {
            Ok((file, found)) => {
                kept.file = Some(file);
                if !found.free.is_empty() {
                    // The next write removes the files, also if their works were known.
                    kept.version = None;
                    kept.waits = self.shared.works.is_in_redis();
                }
                found.held
            }
            Err(error) => {
                kept.version = None;
                self.count(false);
                tracing::error!(dir = %dir.display(), "who pays for background work is not kept, a restart forgets it: {error}");
                Vec::new()
            }
        }
    }

    /// Takes a caller's name out of the book and out of the file; gives whether there were works of the caller. Works of processes that have
    /// ended are taken over before. Blocks.
    ///
    /// # Errors
    /// The file cannot be written, or a process that lives has open works of the caller in a file of its own. The name has left this
    /// process's book all the same. The text says what to do.
    pub fn erase(&self, name: &str) -> Result<bool, String> {
        self.look();
        if self.shared.works.is_in_redis() && !self.side.block_on(self.shared.works.erase_in_redis(name)) {
            return Err(
                "the open works of the caller still name the caller, here and in Redis, which is away: erase again once it is back"
                    .to_owned(),
            );
        }
        let erased = self.shared.works.erase(name);
        if !self.save() {
            return Err(
                "the name has left the open works in memory, and not yet their file, which cannot be written now (see the log): it \
                        leaves the file with the next write that succeeds; erase again then"
                    .to_owned(),
            );
        }
        // Asked last: a process that has ended meanwhile has left its file to this one.
        let theirs = self.look().into_iter().filter(|(_, text)| pays(text, name)).map(|(path, _)| path.display().to_string());
        let theirs: Vec<String> = theirs.collect();
        match theirs.is_empty() {
            true => Ok(erased),
            false => Err(format!(
                "the name has left this process, but another running proxy has open background work of the caller in {}: erase the caller \
                 through that proxy's admin door too, or here once more after it has ended",
                theirs.join(" and ")
            )),
        }
    }

    fn take_over(&self, mut file: WorksFile, found: &Found) -> std::io::Result<WorksFile> {
        let (works, now, seconds) = (&self.shared.works, Instant::now(), self.seconds());
        if !found.free.is_empty() {
            // What a living process has charged is not charged again, although the one that has ended did not know.
            for (_, text) in &found.held {
                // The living process reads its own file.
                let _ = works.take_over_charged(text, now, seconds);
            }
        }
        for (path, text) in &found.free {
            if let Err(error) = works.take_over(text, now, seconds) {
                tracing::error!(file = %path.display(), "who pays for earlier background work cannot be read: {error}");
                let aside = file.put_aside(path)?;
                tracing::error!(file = %aside.display(), "the unreadable file is kept here");
            }
        }
        for (path, error) in &found.failed {
            self.count(false);
            tracing::error!(file = %path.display(), "who pays for earlier background work cannot be read now: {error}");
        }
        Ok(file)
    }

    /// Writes the book if it has changed; `false`: it could not. Blocks.
    pub fn save(&self) -> bool {
        self.save_in(&mut self.file.lock()).is_ok()
    }

    fn save_in(&self, kept: &mut Kept) -> std::io::Result<()> {
        let Kept { file: Some(file), version: saved, written, .. } = kept else { return Ok(()) };
        let version = self.shared.works.version();
        if *saved == Some(version) {
            return Ok(());
        }
        let Some(text) = self.shared.works.kept(Instant::now(), self.seconds()) else { return Ok(()) };
        let done = file.write(&text).and_then(|()| {
            *written = Some(version);
            file.remove_taken_over()
        });
        self.count(done.is_ok());
        match &done {
            Ok(()) => *saved = Some(version),
            Err(error) => tracing::error!(file = %file.path().display(), "who pays for background work cannot be written: {error}"),
        }
        done
    }

    /// Makes the ledger wait for the book: what a commit of the ledger has charged is paid in the file by then, so that no later process
    /// charges it again. A kill between the two writes loses the charge, like any call of the last interval.
    pub fn stand_before(self: &Arc<Self>, ledger: &Ledger) {
        let keeper = Arc::downgrade(self);
        ledger.write_first(move || {
            let Some(keeper) = keeper.upgrade() else { return Ok(()) };
            let mut kept = keeper.file.lock();
            let needed = keeper.shared.works.version();
            match keeper.save_in(&mut kept) {
                // A file that was taken over and cannot be removed has nothing that the process's own file does not have.
                Err(error) if kept.written != Some(needed) => Err(error.to_string()),
                _ => Ok(()),
            }
        });
    }

    /// Gives Redis what was taken over, and removes the files then; `false`: not yet.
    async fn hand_over(self: Arc<Self>) -> bool {
        let waits = self.file.lock().waits;
        if !waits {
            return true;
        }
        if !self.shared.works.hand_over(Instant::now()).await {
            return false;
        }
        let cleared = spawn_blocking(move || {
            let mut kept = self.file.lock();
            let cleared = kept.file.as_mut().map_or(Ok(()), WorksFile::clear);
            match &cleared {
                // After the start only this task looks for further files.
                Ok(()) => kept.waits = false,
                Err(error) => tracing::error!("files of background work that Redis has now cannot be removed: {error}"),
            }
            cleared.is_ok()
        });
        matches!(cleared.await, Ok(true))
    }

    /// Writes the book for the last time. A disk that hangs does not hold up the end for longer than `within`.
    pub async fn close(self: Arc<Self>, within: Duration) {
        let write = spawn_blocking(move || {
            self.save();
        });
        if timeout(within, write).await.is_err() {
            tracing::error!("the last write of who pays for background work has not ended in {within:?}");
        }
    }

    /// Seconds since 1970.
    fn seconds(&self) -> u64 {
        clock::unix(self.shared.clock.wall()).as_secs()
    }

    fn count(&self, well: bool) {
        self.telemetry.metrics().shared().counter(Family::BackgroundSaves, &[if well { "ok" } else { "failed" }]).inc();
    }
}

impl Drop for WorksKeeper {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

/// Saves after each change, and looks at the other files every minute: from the start of the process to its end, draining included.
async fn keep(keeper: Weak<WorksKeeper>, shared: Arc<Shared>) {
    let mut look = tokio::time::interval(LOOK);
    // The first tick comes at once, and the start has looked.
    look.tick().await;
    loop {
        let looks = tokio::select! {
            () = shared.works.changed() => false,
            _ = look.tick() => true,
        };
        let Some(keeper) = keeper.upgrade() else { return };
        let began = Instant::now();
        let handing = keeper.clone();
        let blocking = spawn_blocking(move || {
            if looks {
                keeper.look();
            }
            keeper.save()
        });
        if matches!(blocking.await, Ok(true)) && handing.hand_over().await {
            sleep(began.elapsed().min(PAUSE)).await;
        } else {
            sleep(AGAIN).await;
            shared.works.changes();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        clock::Clock,
        config::read::{self, Overrides},
        resolve::Resolver,
    };

    const A: &str = r#"{"format":1,"open":[{"provider":"p","id":"resp_1","since":1,"operation":"responses","flavor":"openai","expected_cost":1,
        "said":{"caller":"anna","route":"r","model":null,"unattributed":false,"expected":[1,1],"reserved":[]}}],"paid":[]}"#;
    const B: &str = r#"{"format":1,"open":[],"paid":[{"provider":"p","id":"resp_1","since":1}]}"#;

    fn keeper(dir: &Path) -> Arc<WorksKeeper> {
        let overrides = Overrides { memory_limit: Some(512 << 20), ..Overrides::default() };
        let config = read::parse("inbound: {app: 'http://127.0.0.1:3000'}\n", "f", &overrides, &|_| None);
        let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let clock = Clock::fixed(std::time::UNIX_EPOCH + Duration::from_secs(2));
        let side = Handle::current();
        let telemetry = Telemetry::start_into(&config.telemetry, clock, &side, &Resolver::default(), Box::new(std::io::sink()));
        WorksKeeper::start(Some(dir), AtRest::default(), &Arc::new(Shared::new(&config, clock)), &telemetry.expect("telemetry starts"))
    }

    async fn until(what: impl Fn() -> bool) {
        for _ in 0..600 {
            if what() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
        panic!("it never came");
    }

    /// A process drains while this one runs: its file becomes free later than this one's start.
    #[tokio::test(start_paused = true)]
    async fn the_works_of_a_process_that_ends_are_known_a_minute_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut draining, _) = WorksFile::open(dir.path(), &AtRest::default()).expect("a free file");
        draining.write(A.as_bytes()).expect("written");
        let here = keeper(dir.path());
        sleep(2 * LOOK).await;
        assert_eq!(here.shared.works.under_way(), 0, "it is the other process's");
        drop(draining);
        let freed = Instant::now();
        until(|| here.shared.works.under_way() == 1).await;
        assert!(freed.elapsed() <= LOOK + Duration::from_secs(1), "{:?}", freed.elapsed());
        until(|| !dir.path().join("works-0.json").exists()).await;
        assert!(fs::read_to_string(dir.path().join("works-1.json")).expect("written").contains("anna"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_living_process_has_charged_is_not_taken_over_as_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut ended, _) = WorksFile::open(dir.path(), &AtRest::default()).expect("a free file");
        ended.write(A.as_bytes()).expect("written");
        let (mut lives, _) = WorksFile::open(dir.path(), &AtRest::default()).expect("a free file");
        lives.write(B.as_bytes()).expect("written");
        drop(ended);
        let here = keeper(dir.path());
        assert_eq!(here.shared.works.under_way(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_leaves_the_files_of_the_dead_and_is_told_of_those_who_live() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut lives, _) = WorksFile::open(dir.path(), &AtRest::default()).expect("a free file");
        let (mut ends, _) = WorksFile::open(dir.path(), &AtRest::default()).expect("a free file");
        let here = keeper(dir.path());
        lives.write(A.as_bytes()).expect("written");
        ends.write(A.replace("resp_1", "resp_2").as_bytes()).expect("written");
        drop(ends);
        let why = here.erase("anna").expect_err("a process that lives has work of hers");
        assert!(why.contains("works-0.json") && !why.contains("works-1.json"), "{why}");
        assert_eq!(here.shared.works.under_way(), 1, "taken over without waiting for the next look");
        let text = |slot: usize| fs::read_to_string(dir.path().join(format!("works-{slot}.json"))).unwrap_or_default();
        assert!(text(1).is_empty() && text(2).contains("resp_2") && !text(2).contains("anna"), "{}", text(2));
        drop(lives);
        assert_eq!(here.erase("anna"), Ok(true));
        assert!(text(0).is_empty() && text(2).contains("resp_1") && !text(2).contains("anna"), "{}", text(2));
        assert_eq!(here.erase("anna"), Ok(false));
        // A directory in the place of the new file.
        here.shared.works.take_over(A.replace("resp_1", "resp_3").as_bytes(), Instant::now(), 2).expect("readable");
        fs::create_dir(dir.path().join("works-2.new")).expect("made");
        assert!(here.erase("anna").expect_err("the disk").contains("cannot be written"));
    }

    /// Nothing but the change itself asks for the write: no signal, no loop that serves.
    #[tokio::test(start_paused = true)]
    async fn a_change_is_written_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let here = keeper(dir.path());
        let began = Instant::now();
        here.shared.works.charged(&"p".into(), "resp_9", began);
        let path = dir.path().join("works-0.json");
        while !fs::read_to_string(&path).is_ok_and(|text| text.contains("resp_9")) {
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            sleep(Duration::from_millis(1)).await;
        }
    }
}

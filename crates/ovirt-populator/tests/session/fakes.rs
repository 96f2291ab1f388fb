//! An engine and a data path in memory, on tokio's clock.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mover::{Failure, Stop, StopHandle};
use ovirt_populator::{
    engine::{
        Disk, DiskId, DiskStatus, Engine, Error, ImageTransfer, Kind, NewTransfer, Phase,
        TransferId,
    },
    session::{DataPath, Session, Timers, TransferLost},
};
use tokio::time::{Instant, sleep};
use transfer::{Report, source::Ticket};

pub(crate) const DISK: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const SIZE: u64 = 1 << 30;

/// What a creation does.
#[derive(Debug, Clone)]
pub(crate) enum Create {
    /// Makes a transfer in this phase and answers after so many seconds.
    Makes(Phase, u64),
    /// Refuses.
    Refuses(Kind, &'static str),
    /// Makes a transfer, but the answer is lost.
    MakesButLoses,
    /// Loses request and answer.
    Loses,
}

/// What a look at a transfer shows, in place of its phase.
#[derive(Debug, Clone)]
pub(crate) enum Look {
    /// The transfer has moved to this phase.
    Is(Phase),
    /// It is forgotten.
    Forgotten,
    /// There is no answer.
    Silent(Kind),
    /// There is no answer for so many seconds.
    Hangs(u64),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) log: Vec<String>,
    pub(crate) creates: VecDeque<Create>,
    pub(crate) looks: VecDeque<Look>,
    pub(crate) finalizes: VecDeque<Kind>,
    pub(crate) cancels: VecDeque<Kind>,
    pub(crate) lists: VecDeque<Kind>,
    pub(crate) transfers: Vec<ImageTransfer>,
    pub(crate) forgotten: bool,
    pub(crate) disks: VecDeque<DiskStatus>,
    /// Sizes of the disk, one for each look at it; [`SIZE`] after them.
    pub(crate) sizes: VecDeque<u64>,
}

#[derive(Debug)]
pub(crate) struct FakeEngine {
    state: Mutex<State>,
    start: Instant,
}

impl FakeEngine {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            start: Instant::now(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn note(&self, call: &str) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.log.push(call.to_owned());
        state
    }

    /// Calls that change something, with the second at which they came.
    pub(crate) fn changes(&self) -> Vec<String> {
        let changes = ["create", "finalize", "cancel"];
        self.state()
            .log
            .iter()
            .filter(|call| changes.iter().any(|change| call.starts_with(change)))
            .cloned()
            .collect()
    }

    pub(crate) fn count(&self, call: &str) -> usize {
        self.state().log.iter().filter(|one| *one == call).count()
    }

    pub(crate) fn phase(&self, index: usize) -> Phase {
        self.state().transfers[index].phase.clone()
    }

    /// A transfer of another client.
    pub(crate) fn foreign(&self, phase: Phase, direction: &str, inactivity: u64) {
        let mut state = self.state();
        let mut transfer = transfer(state.transfers.len(), phase, inactivity);
        transfer.direction = Some(direction.into());
        state.transfers.push(transfer);
    }

    pub(crate) fn elapsed(&self) -> u64 {
        self.start.elapsed().as_secs()
    }
}

fn transfer(index: usize, phase: Phase, inactivity: u64) -> ImageTransfer {
    let ticket = |host: &str| {
        Some(Ticket::new(
            format!("https://{host}:54322/images/secret")
                .parse()
                .unwrap(),
        ))
    };
    ImageTransfer {
        id: TransferId(format!("t{index}")),
        phase,
        disk: Some(DISK.into()),
        direction: Some("download".into()),
        format: Some("raw".into()),
        timeout_policy: Some("cancel".into()),
        inactivity_timeout: Some(inactivity),
        transfer_url: ticket("host"),
        proxy_url: ticket("engine"),
    }
}

fn error(kind: Kind) -> Error {
    Error::new(kind, format!("{kind:?} by script"))
}

fn index(id: &TransferId) -> usize {
    id.0[1..].parse().unwrap()
}

impl Engine for FakeEngine {
    async fn disk(&self, _id: &DiskId) -> Result<Disk, Error> {
        let mut state = self.note("disk");
        let held = state.transfers.iter().any(|one| !one.phase.is_finished());
        let status = match state.disks.pop_front() {
            Some(status) => status,
            None if held && !state.forgotten => DiskStatus::Locked,
            None => DiskStatus::Ok,
        };
        Ok(Disk {
            name: "disk1".into(),
            size: state.sizes.pop_front().unwrap_or(SIZE),
            status,
            storage_type: "image".into(),
            content_type: "data".into(),
        })
    }

    async fn create(&self, new: &NewTransfer) -> Result<ImageTransfer, Error> {
        assert_eq!(new.disk.as_str(), DISK);
        let (answer, delay) = {
            let mut state = self.note("create");
            let script = state.creates.pop_front();
            let script = script.unwrap_or(Create::Makes(Phase::Transferring, 0));
            let made = match &script {
                Create::Makes(phase, _) => Some(phase.clone()),
                Create::MakesButLoses => Some(Phase::Transferring),
                Create::Refuses(..) | Create::Loses => None,
            };
            let made = made.map(|phase| {
                let made = transfer(state.transfers.len(), phase, new.inactivity_timeout);
                state.transfers.push(made.clone());
                made
            });
            match (script, made) {
                (Create::Makes(_, delay), Some(made)) => (Ok(made), delay),
                (Create::Refuses(kind, words), _) => (Err(Error::new(kind, words)), 0),
                _ => (Err(error(Kind::AnswerLost)), 0),
            }
        };
        sleep(Duration::from_secs(delay)).await;
        answer
    }

    async fn transfer(&self, id: &TransferId) -> Result<Option<ImageTransfer>, Error> {
        let hangs = {
            let mut state = self.note("look");
            match state.looks.pop_front() {
                Some(Look::Is(phase)) => {
                    state.transfers[index(id)].phase = phase;
                    None
                }
                Some(Look::Forgotten) => {
                    state.forgotten = true;
                    None
                }
                Some(Look::Silent(kind)) => return Err(error(kind)),
                Some(Look::Hangs(seconds)) => Some(seconds),
                None => None,
            }
        };
        if let Some(seconds) = hangs {
            sleep(Duration::from_secs(seconds)).await;
            return Err(error(Kind::Unreachable));
        }
        let mut state = self.state();
        if state.forgotten {
            return Ok(None);
        }
        let seen = state.transfers[index(id)].clone();
        // The engine works on between two looks.
        let phase = &mut state.transfers[index(id)].phase;
        *phase = match phase.clone() {
            Phase::Initializing => Phase::Initializing,
            Phase::FinalizingSuccess => Phase::FinishedSuccess,
            Phase::CancelledUser => Phase::FinalizingCleanup,
            Phase::FinalizingCleanup | Phase::CancelledSystem => Phase::FinishedFailure,
            other => other,
        };
        Ok(Some(seen))
    }

    async fn transfers(&self) -> Result<Vec<ImageTransfer>, Error> {
        let mut state = self.note("list");
        match state.lists.pop_front() {
            Some(kind) => Err(error(kind)),
            None => Ok(state.transfers.clone()),
        }
    }

    async fn finalize(&self, id: &TransferId) -> Result<(), Error> {
        let mut state = self.note(&format!("finalize {}", id.0));
        if let Some(kind) = state.finalizes.pop_front() {
            return Err(error(kind));
        }
        state.transfers[index(id)].phase = Phase::FinalizingSuccess;
        Ok(())
    }

    async fn cancel(&self, id: &TransferId) -> Result<(), Error> {
        let mut state = self.note(&format!("cancel {}", id.0));
        if let Some(kind) = state.cancels.pop_front() {
            return Err(error(kind));
        }
        state.transfers[index(id)].phase = Phase::FinishedFailure;
        Ok(())
    }

    async fn logout(&self) {
        drop(self.note("logout"));
    }
}

/// What a copy does.
#[derive(Debug, Clone)]
pub(crate) enum Copy {
    /// Receives so many bytes and ends like this.
    Ends(u64, Option<transfer::Kind>),
    /// Runs until it is stopped, and lets go at once.
    UntilStopped,
    /// Runs for ever, whatever happens.
    Hangs,
    /// Gets no byte, and ends when it hears that the transfer is gone.
    UntilLost,
}

#[derive(Debug)]
pub(crate) struct FakeData {
    pub(crate) opens: Mutex<VecDeque<transfer::Kind>>,
    pub(crate) copies: Mutex<VecDeque<Copy>>,
    pub(crate) opened: AtomicU64,
    /// The sizes with which it was opened.
    pub(crate) sizes: Mutex<Vec<u64>>,
    received: AtomicU64,
    stop: Stop,
}

impl DataPath for FakeData {
    type Source = ();

    async fn open(&self, _ticket: Ticket, size: u64) -> Result<(), transfer::Error> {
        self.sizes.lock().unwrap().push(size);
        self.opened.fetch_add(1, Ordering::Relaxed);
        match self.opens.lock().unwrap().pop_front() {
            Some(kind) => Err(transfer::Error::new(kind, format!("{kind:?} at open"))),
            None => Ok(()),
        }
    }

    async fn copy(&self, (): (), lost: TransferLost) -> Result<Report, transfer::Error> {
        let copy = self.copies.lock().unwrap().pop_front();
        let failed = |kind| Err(transfer::Error::new(kind, format!("{kind:?} in copy")));
        match copy.unwrap_or(Copy::Ends(SIZE, None)) {
            Copy::Ends(bytes, kind) => {
                sleep(Duration::from_secs(1)).await;
                self.received.fetch_add(bytes, Ordering::Relaxed);
                kind.map_or_else(
                    || {
                        Ok(Report {
                            verified: None,
                            buffer_bytes: 0,
                        })
                    },
                    failed,
                )
            }
            Copy::UntilStopped => {
                self.stop.asked().await;
                failed(transfer::Kind::Cancelled)
            }
            Copy::Hangs => std::future::pending().await,
            Copy::UntilLost => loop {
                sleep(Duration::from_secs(1)).await;
                lost.check()?;
            },
        }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Everything that a session needs.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) engine: FakeEngine,
    pub(crate) data: FakeData,
    pub(crate) handle: StopHandle,
    stop: Stop,
    pub(crate) timers: Timers,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let (handle, stop) = Stop::new();
        Self {
            engine: FakeEngine::new(),
            data: FakeData {
                opens: Mutex::default(),
                copies: Mutex::default(),
                opened: AtomicU64::new(0),
                sizes: Mutex::default(),
                received: AtomicU64::new(0),
                stop: stop.clone(),
            },
            handle,
            stop,
            timers: Timers::default(),
        }
    }

    pub(crate) fn creates(self, script: impl IntoIterator<Item = Create>) -> Self {
        self.engine.state().creates.extend(script);
        self
    }

    pub(crate) fn looks(self, script: impl IntoIterator<Item = Look>) -> Self {
        self.engine.state().looks.extend(script);
        self
    }

    pub(crate) fn opens(self, script: impl IntoIterator<Item = transfer::Kind>) -> Self {
        self.data.opens.lock().unwrap().extend(script);
        self
    }

    pub(crate) fn copies(self, script: impl IntoIterator<Item = Copy>) -> Self {
        self.data.copies.lock().unwrap().extend(script);
        self
    }

    pub(crate) fn session(&self) -> Session<'_, FakeEngine, FakeData> {
        Session {
            engine: &self.engine,
            data: &self.data,
            disk: DISK.parse().unwrap(),
            size: SIZE,
            capacity: 2 * SIZE,
            timers: self.timers,
            stop: self.stop.clone(),
        }
    }

    pub(crate) async fn run(&self) -> Result<Report, Failure> {
        self.session().run().await
    }

    /// Runs, and is asked to stop after so many seconds. The second number is how long it took from
    /// there.
    pub(crate) async fn run_and_stop(&self, after: u64) -> (Result<Report, Failure>, u64) {
        let asked = async {
            sleep(Duration::from_secs(after)).await;
            self.handle.pull();
            std::future::pending::<()>().await;
        };
        let session = self.session();
        let outcome = tokio::select! {
            outcome = session.run() => outcome,
            () = asked => unreachable!("never ends"),
        };
        (outcome, self.engine.elapsed().saturating_sub(after))
    }
}

//! What the tests share.

use std::{
    fs::{File, OpenOptions},
    num::NonZeroUsize,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use net::{Cancel, Clock, Connector, Egress, Proxies, Settings, SystemClock, Timeouts, Trust};
use transfer::{ByteRange, Error, Kind, Sink, Source};

pub(crate) const ALIGNED: usize = 4096;

/// Memory whose first byte lies `shift` bytes after a multiple of 4096.
pub(crate) struct Memory {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Memory {
    pub(crate) fn holding(content: &[u8], shift: usize) -> Self {
        let mut bytes = vec![0; content.len() + 2 * ALIGNED];
        let start = bytes.as_ptr().align_offset(ALIGNED) + shift;
        bytes[start..start + content.len()].copy_from_slice(content);
        let len = content.len();
        Self { bytes, start, len }
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

/// One operation on a sink.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write {
        offset: u64,
        len: usize,
        shift: usize,
    },
    Zero(ByteRange),
}

/// Random steps on a disk of `size` bytes: mostly whole blocks, some of anything.
pub(crate) fn steps(seed: u64, size: u64, count: usize) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut steps = Vec::new();
    for _ in 0..count {
        let unit = [1, 512, 4096, 65536][random.usize(..4)];
        let start = random.u64(..size) / unit * unit;
        let len = (random.u64(1..=300_000) / unit * unit).clamp(1, size - start);
        steps.push(if random.u8(..3) == 0 {
            Step::Zero(ByteRange::new(start, start + len))
        } else {
            Step::Write {
                offset: start,
                len: usize::try_from(len).unwrap(),
                shift: [0, 0, 0, 1, 512][random.usize(..5)],
            }
        });
    }
    steps
}

/// Does the steps on the sink and on a model of its content.
pub(crate) fn perform(sink: &dyn Sink, steps: &[Step], model: &mut [u8]) {
    for (index, step) in steps.iter().enumerate() {
        match step {
            Step::Write { offset, len, shift } => {
                let mut content = vec![0; *len];
                fastrand::Rng::with_seed(index as u64).fill(&mut content);
                sink.write_at(Memory::holding(&content, *shift).get(), *offset)
                    .unwrap();
                let at = usize::try_from(*offset).unwrap();
                model[at..at + len].copy_from_slice(&content);
            }
            Step::Zero(range) => {
                sink.zero(*range).unwrap();
                let start = usize::try_from(range.start()).unwrap();
                model[start..usize::try_from(range.end()).unwrap()].fill(0);
            }
        }
    }
}

/// Fails at the first byte that differs; what follows the model in the file does not matter.
#[track_caller]
pub(crate) fn assert_holds(path: &Path, model: &[u8]) {
    let mut found = vec![0; model.len()];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut found, 0)
        .unwrap();
    let difference = (0..model.len()).find(|at| model[*at] != found[*at]);
    assert_eq!(
        difference.map(|at| (at, model[at], found[at])),
        None,
        "offset, wanted, found"
    );
}

#[track_caller]
pub(crate) fn assert_fails<T: std::fmt::Debug>(
    result: Result<T, Error>,
    kind: Kind,
    words: &[&str],
) -> Error {
    let error = result.expect_err("it succeeded");
    assert_eq!(error.kind(), kind, "{}", error.chain());
    for word in words {
        assert!(error.chain().contains(word), "{word}: {}", error.chain());
    }
    testkit::plain::assert_plain(&error.chain());
    error
}

/// A loop device over an existing file, detached when dropped.
pub(crate) struct Attached {
    path: PathBuf,
    _open: File,
}

impl Attached {
    pub(crate) fn over(file: &Path, options: &[&str]) -> Self {
        let run = |arguments: &[&str]| {
            let output = Command::new("losetup").args(arguments).output().unwrap();
            assert!(output.status.success(), "losetup needs root: {output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let path = run(&[options, &["--find", "--show", file.to_str().unwrap()]].concat());
        let open = OpenOptions::new().read(true).open(&path).unwrap();
        run(&["--detach", &path]);
        Self {
            path: path.into(),
            _open: open,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A file of holes.
pub(crate) fn make_file(path: &Path, size: u64) {
    File::create(path).unwrap().set_len(size).unwrap();
}

/// Bytes of the file in the page cache.
pub(crate) fn cached_bytes(path: &Path) -> u64 {
    let output = Command::new("fincore")
        .args(["--bytes", "--noheadings", "--output", "RES"])
        .arg(path)
        .output()
        .expect("fincore (package util-linux) is needed");
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().parse().unwrap()
}

/// A connector for plain HTTP, as the servers here speak it.
pub(crate) fn connector(cancel: &Cancel) -> Connector {
    connector_on(Arc::new(SystemClock::default()), cancel)
}

/// The same with another clock.
pub(crate) fn connector_on(clock: Arc<dyn Clock>, cancel: &Cancel) -> Connector {
    let settings = Settings {
        trust: Trust::Insecure,
        proxies: Proxies::none(),
        egress: Egress::anywhere(),
        timeouts: Timeouts::default(),
        user_agent: "transfer-tests/0".to_owned(),
    };
    Connector::new(&settings, clock, cancel.clone()).unwrap()
}

pub(crate) const fn four() -> NonZeroUsize {
    NonZeroUsize::new(4).unwrap()
}

/// Reads a whole source in ranges of `piece` bytes with one reader.
pub(crate) fn read_all(source: &dyn Source, piece: u64) -> Result<Vec<u8>, Error> {
    let mut reader = source.reader(&Cancel::new())?;
    let mut whole = Vec::new();
    let mut at = 0;
    while at < source.size() {
        let range = ByteRange::new(at, source.size().min(at.saturating_add(piece)));
        reader.begin(range)?;
        let mut bytes = vec![0; usize::try_from(range.len()).unwrap()];
        // In two parts, as the engine may.
        let (front, back) = bytes.split_at_mut(usize::try_from(range.len()).unwrap() / 2);
        reader.fill(front).map_err(|(_, error)| error)?;
        reader.fill(back).map_err(|(_, error)| error)?;
        whole.extend_from_slice(&bytes);
        at = range.end();
    }
    Ok(whole)
}

/// Reads one range.
pub(crate) fn read_range(
    source: &dyn Source,
    start: u64,
    end: u64,
) -> Result<Vec<u8>, (Vec<u8>, Error)> {
    let none = |error| (Vec::new(), error);
    let mut reader = source.reader(&Cancel::new()).map_err(none)?;
    let range = ByteRange::new(start, end);
    reader.begin(range).map_err(none)?;
    let mut bytes = vec![0; usize::try_from(range.len()).unwrap()];
    match reader.fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err((count, error)) => {
            bytes.truncate(count);
            Err((bytes, error))
        }
    }
}

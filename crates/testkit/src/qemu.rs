//! Disk images, made and read by `qemu-img` and `qemu-io` (Debian package `qemu-utils`), and files that are compressed.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use fastrand::Rng;
use tempfile::TempDir;

/// A folder with images, removed at the end.
#[derive(Debug)]
pub struct Qemu {
    folder: TempDir,
}

impl Qemu {
    /// An empty folder.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A raw file of these bytes.
    pub fn raw(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// `qemu-img create`; `options` are those of `-o`.
    pub fn create(&self, format: &str, options: &str, size: u64) -> PathBuf {
        let path = self.path("image");
        let _ = fs::remove_file(&path);
        let size = size.to_string();
        let path_text = path.to_str().unwrap();
        let mut args = vec!["create", "-q", "-f", format];
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        args.extend([path_text, size.as_str()]);
        img(&args);
        path
    }

    /// `qemu-img convert` from raw; `args` come before the names.
    pub fn convert(&self, raw: &Path, format: &str, args: &[&str]) -> PathBuf {
        let path = self.path("image");
        let _ = fs::remove_file(&path);
        let mut all = vec!["convert", "-f", "raw", "-O", format];
        all.extend(args);
        all.extend([raw.to_str().unwrap(), path.to_str().unwrap()]);
        img(&all);
        path
    }

    /// What a program (`gzip`, `xz`, `zstd`, `bzip2`) makes of the bytes.
    pub fn pack(&self, program: &str, args: &[&str], bytes: &[u8]) -> Vec<u8> {
        let input = fs::File::open(self.raw("to-pack", bytes)).unwrap();
        let output = Command::new(program)
            .args(args)
            .stdin(input)
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| {
                panic!("{program}: {error}; install the Debian package of that name (xz: xz-utils)")
            });
        assert!(output.status.success());
        output.stdout
    }

    /// What QEMU reads from the image, or what it says against it.
    pub fn try_read(&self, format: &str, image: &Path) -> Result<Vec<u8>, String> {
        let raw = self.path("as-qemu-reads-it.raw");
        let _ = fs::remove_file(&raw);
        let names = [image.to_str().unwrap(), raw.to_str().unwrap()];
        let args = ["convert", "-f", format, "-O", "raw", names[0], names[1]];
        let output = run("qemu-img", &args);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(fs::read(raw).unwrap())
    }

    /// What QEMU reads from the image, which it must be able to.
    pub fn read(&self, format: &str, image: &Path) -> Vec<u8> {
        self.try_read(format, image).unwrap()
    }
}

impl Default for Qemu {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs `qemu-img`, which must succeed.
pub fn img(args: &[&str]) {
    let output = run("qemu-img", args);
    assert!(
        output.status.success(),
        "qemu-img {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs commands of `qemu-io` on an image; those that an image does not allow change nothing.
pub fn io(format: &str, image: &Path, commands: &[String]) {
    // Some hundreds of commands would be too many arguments for nothing: they go through in groups.
    for group in commands.chunks(100) {
        let mut args = vec!["-f", format];
        for command in group {
            args.extend(["-c", command.as_str()]);
        }
        args.push(image.to_str().unwrap());
        run("qemu-io", &args);
    }
}

/// A seeded sequence of writes, zeroes, discards and compressed writes on a disk of `size` bytes, in units of 512 bytes.
pub fn commands(seed: u64, count: usize, size: u64, cluster: u64) -> Vec<String> {
    let mut rng = Rng::with_seed(seed);
    let sectors = size / 512;
    (0..count)
        .map(|_| {
            let start = rng.u64(..sectors) * 512;
            let most = (size - start).min(cluster * 5 / 2).max(512);
            let length = rng.u64(1..=most / 512) * 512;
            let aligned = start / cluster * cluster;
            let whole = cluster.min(size - aligned);
            let pattern = rng.u8(1..);
            let mut command = String::new();
            match rng.u8(..10) {
                0 => write!(command, "write -z {start} {length}"),
                1 => write!(command, "write -z -u {start} {length}"),
                2 => write!(command, "discard {start} {length}"),
                3 => write!(command, "discard {aligned} {}", cluster.min(size - aligned)),
                4 | 5 => write!(command, "write -c -P {pattern} {aligned} {whole}"),
                _ => write!(command, "write -P {pattern} {start} {length}"),
            }
            .unwrap();
            command
        })
        .collect()
}

/// A disk of `size` bytes: random, text and zeroes by turns, in runs of up to `run` bytes.
pub fn disk(seed: u64, size: usize, run: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let mut disk = Vec::with_capacity(size);
    while disk.len() < size {
        let length = rng.usize(1..=run).min(size - disk.len());
        let at = disk.len();
        disk.resize(at + length, 0);
        match rng.u8(..4) {
            0 => rng.fill(&mut disk[at..]),
            1 => disk[at..].fill(rng.u8(1..)),
            2 => {
                for (index, byte) in disk[at..].iter_mut().enumerate() {
                    *byte = b"a disk that packs well, but not too well "[(index * index) % 41];
                }
            }
            _ => {}
        }
    }
    disk
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{program}: {error}; the Debian package qemu-utils has it (tests/services/packages)"
            )
        })
}

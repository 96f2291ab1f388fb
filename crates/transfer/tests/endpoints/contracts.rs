//! The suites that every source and every sink has to pass, over the real ones.

use std::{fs, path::PathBuf, sync::Arc};

use net::Cancel;
use testkit::{Fault, LoopDevice, Server, Volume, When, image::Disk};
use transfer::{
    ByteRange, Error, Sink,
    sink::{BlockSink, FileSink, Overwrite, ScratchFile},
    source::{Changes, HttpSource, NoAuthorization},
};

use crate::{
    contract::{sink_contract, source_contract},
    imageio,
    support::{connector, four},
};

const CAPACITY: u64 = (4 << 20) + 512;

fn disk() -> Disk {
    Disk::sparse(7, 600_064, &[0..70_000, 131_072..131_584, 400_000..600_064])
}

#[test]
fn a_block_device_is_a_sink() {
    for sector in [512, 4096] {
        let size = CAPACITY.next_multiple_of(u64::from(sector));
        sink_contract(
            CAPACITY,
            || {
                let device = LoopDevice::new(size, sector);
                (BlockSink::open(device.path()).unwrap(), device)
            },
            |device| fs::read(device.path()).unwrap(),
        );
    }
}

#[test]
fn a_file_is_a_sink() {
    for volume in [Volume::ext4(64 << 20), Volume::tmpfs(64 << 20)] {
        for old in [None, Some(vec![0xFF; 5 << 20])] {
            let path = volume.path("disk.img");
            sink_contract(
                CAPACITY,
                || {
                    let _ = fs::remove_file(&path);
                    if let Some(old) = &old {
                        fs::write(&path, old).unwrap();
                    }
                    let sink = FileSink::open(&path, Overwrite::Allow).unwrap();
                    (sink, path.clone())
                },
                |path: &PathBuf| fs::read(path).unwrap(),
            );
        }
    }
}

#[test]
fn a_scratch_file_is_a_sink_and_then_a_source() {
    let disk = disk();
    for volume in [Volume::ext4(64 << 20), Volume::tmpfs(64 << 20)] {
        let folder = volume.path("");
        let make = || Arc::new(ScratchFile::create(&folder).unwrap());
        sink_contract(
            CAPACITY,
            || {
                let file = make();
                (Shared(Arc::clone(&file)), file)
            },
            |file: &Arc<ScratchFile>| file.head(usize::MAX).unwrap(),
        );
        source_contract(disk.bytes(), || {
            let file = ScratchFile::create(&folder).unwrap();
            file.write_sparse(disk.bytes(), 0).unwrap();
            file.finish(disk.size()).unwrap();
            file
        });
    }
}

/// A sink that is looked at when it is closed.
#[derive(Debug)]
struct Shared(Arc<ScratchFile>);

impl Sink for Shared {
    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    fn prepare(&self, size: u64) -> Result<(), Error> {
        self.0.prepare(size)
    }

    fn resize(&self, size: u64) -> Result<(), Error> {
        self.0.resize(size)
    }

    fn is_blank(&self) -> bool {
        self.0.is_blank()
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Error> {
        self.0.write_at(buf, offset)
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        self.0.zero(range)
    }

    fn sync(&self) -> Result<(), Error> {
        self.0.sync()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn an_http_object_is_a_source() {
    let disk = disk();
    for is_ranged in [true, false] {
        let server = Server::builder().object("/disk", disk.object()).start();
        if !is_ranged {
            server.fault(When::ranged().always(), Fault::IgnoreRange);
        }
        source_contract(disk.bytes(), || {
            HttpSource::probe(
                connector(&Cancel::new()),
                server.url("/disk").parse().unwrap(),
                Arc::new(NoAuthorization),
                disk.size(),
                four(),
                Changes::Refused,
            )
            .unwrap()
        });
    }
}

#[test]
fn a_disk_behind_imageio_is_a_source() {
    let disk = disk();
    let server = imageio::daemon(&disk);
    source_contract(disk.bytes(), || imageio::open(&server, &disk).unwrap());
}

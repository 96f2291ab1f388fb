//! Zeroes inside of data.

use std::ops::Range;

use crate::{ByteRange, Error, Sink};

/// Zeroes are searched in pieces of this size, at multiples of it on the disk. Smaller holes make
/// files and thin volumes fragmented without saving much.
pub(super) const PIECE: usize = 64 << 10;

/// Shortest run of zeroes that is punched into a target that is not blank: below, one system call
/// and the storage's own bookkeeping cost more than to write them along with their neighbours.
const DIRTY_RUN: usize = 256 << 10;

/// Calls `act` for the runs of `bytes`, in order, which together cover it: with true for zeroes, in
/// runs of at least `shortest` bytes, and with false for everything else. The first byte of `bytes`
/// has the given offset on the disk.
pub(crate) fn each_run<E>(
    bytes: &[u8],
    offset: u64,
    shortest: usize,
    mut act: impl FnMut(Range<usize>, bool) -> Result<(), E>,
) -> Result<(), E> {
    let mut data_from = 0;
    let mut zero_from = None;
    let mut at = 0;
    while at < bytes.len() {
        let in_piece = usize::try_from(offset % PIECE as u64).unwrap_or(0) + at;
        let end = (at + PIECE - in_piece % PIECE).min(bytes.len());
        let zero = bytes.get(at..end).is_some_and(is_zero);
        let run = match zero_from {
            None if zero => {
                zero_from = Some(at);
                None
            }
            Some(from) if !zero => {
                zero_from = None;
                Some(from..at)
            }
            _ => None,
        };
        at = end;
        let run = match zero_from {
            Some(from) if at == bytes.len() => Some(from..at),
            _ => run,
        };
        let Some(run) = run.filter(|run| run.len() >= shortest) else {
            continue;
        };
        if data_from < run.start {
            act(data_from..run.start, false)?;
        }
        data_from = run.end;
        act(run, true)?;
    }
    if data_from < bytes.len() {
        act(data_from..bytes.len(), false)?;
    }
    Ok(())
}

/// Writes what is not zero, and makes the rest read as zero where `sink` is not blank. `check` is asked before each call
/// of the sink, and its error ends the work.
///
/// # Errors
/// Those of the sink, and of `check`.
pub(crate) fn write_around(
    sink: &dyn Sink,
    bytes: &[u8],
    offset: u64,
    check: impl Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    let is_blank = sink.is_blank();
    let shortest = if is_blank { 1 } else { DIRTY_RUN };
    each_run(bytes, offset, shortest, |run, is_zero| {
        check()?;
        let start = offset + run.start as u64;
        if !is_zero {
            return sink.write_at(bytes.get(run).unwrap_or_default(), start);
        }
        if is_blank {
            return Ok(());
        }
        sink.zero(ByteRange::new(start, start + run.len() as u64))
    })
}

/// Whether all bytes are zero. The C library's comparison of the bytes with themselves, shifted by
/// one, is as fast as the memory and ends at the first difference.
fn is_zero(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((first, rest)) => *first == 0 && bytes.get(..rest.len()) == Some(rest),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: usize = PIECE;

    fn runs(bytes: &[u8], offset: u64, shortest: usize) -> Vec<(Range<usize>, bool)> {
        let mut runs = Vec::new();
        each_run(bytes, offset, shortest, |run, zero| {
            runs.push((run, zero));
            Ok::<(), ()>(())
        })
        .unwrap();
        runs
    }

    /// One character a piece: `-` zeroes.
    fn picture(picture: &str) -> Vec<u8> {
        picture
            .bytes()
            .flat_map(|byte| vec![if byte == b'-' { 0 } else { byte }; P])
            .collect()
    }

    #[test]
    fn runs_of_a_picture() {
        for (image, shortest, expected) in [
            ("", 1, vec![]),
            ("A", 1, vec![(0..P, false)]),
            ("-", 1, vec![(0..P, true)]),
            (
                "A--B",
                1,
                vec![(0..P, false), (P..3 * P, true), (3 * P..4 * P, false)],
            ),
            (
                "-A-",
                1,
                vec![(0..P, true), (P..2 * P, false), (2 * P..3 * P, true)],
            ),
            ("A-B", 2 * P, vec![(0..3 * P, false)]),
            ("A--", 2 * P, vec![(0..P, false), (P..3 * P, true)]),
            (
                "-A--B",
                2 * P,
                vec![
                    (0..2 * P, false),
                    (2 * P..4 * P, true),
                    (4 * P..5 * P, false),
                ],
            ),
        ] {
            assert_eq!(runs(&picture(image), 0, shortest), expected, "{image:?}");
        }
    }

    #[test]
    fn pieces_lie_at_multiples_on_the_disk_not_in_the_buffer() {
        let bytes = vec![0; P];
        assert_eq!(runs(&bytes, 4096, 1), vec![(0..P, true)]);
        let mut bytes = vec![0; 2 * P];
        bytes[P - 4096] = 1;
        assert_eq!(
            runs(&bytes, 4096, 1),
            vec![
                (0..P - 4096, true),
                (P - 4096..2 * P - 4096, false),
                (2 * P - 4096..2 * P, true)
            ]
        );
    }

    #[test]
    fn one_byte_anywhere_is_not_zero() {
        for at in [0, 1, P / 2, P - 1] {
            let mut bytes = vec![0; P];
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
        }
        assert!(is_zero(&[]));
        assert!(is_zero(&[0]));
    }
}

//! Files that hold secrets.

use std::{fs, io, path::Path};

use secrecy::{SecretString, zeroize::Zeroizing};

/// Kubernetes allows a secret of 1 MiB in all.
const MAX: u64 = 1 << 20;

/// The text of a file that may hold secrets, at most 1 MiB, as UTF-8.
///
/// # Errors
/// What the system says; [`io::ErrorKind::InvalidData`] for what is no UTF-8.
pub fn read_secret(path: &Path) -> io::Result<SecretString> {
    let bytes = read_bounded(path)?;
    let text = str::from_utf8(&bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))?;
    Ok(SecretString::from(text))
}

/// The bytes of a file, which are wiped when they are dropped.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    use io::Read;
    /// So much more than the file has that reading its end needs no larger buffer, which would leave a copy.
    const SPARE: usize = 64;
    let file = fs::File::open(path)?;
    let size = usize::try_from(file.metadata()?.len().min(MAX)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + SPARE));
    file.take(MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX {
        return Err(io::Error::other(format!("larger than {MAX} bytes")));
    }
    Ok(bytes)
}

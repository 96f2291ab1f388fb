//! The guest's bytes and nothing else.

use crate::{
    Error, Format,
    info::Info,
    map::{Layout, Pieces},
    read_at::{Input, Tables},
};

/// What a raw file is.
pub(crate) fn open(input: &Input<'_>) -> (Info, Box<dyn Layout>) {
    let info = Info {
        format: Format::Raw,
        variant: "raw",
        version: 0,
        virtual_size: input.size(),
        cluster_size: 1,
        compression: None,
        features: Vec::new(),
    };
    (info, Box::new(Whole))
}

/// The disk is the file from its first byte on.
#[derive(Debug)]
pub(crate) struct Whole;

impl Layout for Whole {
    fn describe(
        &self,
        _tables: &mut Tables<'_>,
        end: u64,
        pieces: &mut Pieces,
    ) -> Result<(), Error> {
        let at = pieces.at();
        pieces.data(at, end.saturating_sub(at))
    }

    fn regions(&self, _tables: &mut Tables<'_>, _pieces: &mut Pieces) -> Result<(), Error> {
        Ok(())
    }
}

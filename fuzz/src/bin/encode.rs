//! encode IMAGE: writes the input that means the image without the guest's bytes to standard output, for a corpus.

use std::{env, fs, io::Write};

use formats::{Content, Image};
use formats_fuzz::Sparse;

fn main() {
    let path = env::args_os().nth(1).expect("encode IMAGE");
    let file = fs::read(path).expect("the image is there");
    let image = Image::open(&mut &file[..]).expect("the image is sound");
    let data: Vec<_> = image
        .file_order(&mut &file[..])
        .filter_map(|extent| {
            let extent = extent.expect("the image is sound");
            match extent.content {
                Content::Data { offset } => Some(offset..offset + extent.len),
                // Packed bytes are for the decoder.
                Content::Compressed { .. } | Content::Hole => None,
            }
        })
        .collect();
    let input = Sparse::encode(&file, |at| !data.iter().any(|range| range.contains(&at)));
    std::io::stdout()
        .write_all(&input)
        .expect("standard output takes it");
}

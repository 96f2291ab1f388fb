//! replay TARGET FILE...: runs the target on each file, without a fuzzer.

use std::{env, fs};

fn main() {
    let mut args = env::args().skip(1);
    let target = args.next().expect("replay TARGET FILE...");
    for path in args {
        formats_fuzz::run(&target, &fs::read(path).expect("the file is there"));
    }
}

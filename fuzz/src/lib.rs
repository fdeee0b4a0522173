//! Fuzz targets for every parser of bytes from outside. `cargo +nightly fuzz run TARGET corpus/TARGET seeds/TARGET`.

pub mod entries;

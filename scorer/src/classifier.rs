//! The content classifier: what the text, the links and the shape of a message say, as a probability that it is spam.
//!
//! The way of a message: `reading` decodes it (`html`, `words`, `links` take its parts apart), `extract` makes features of
//! it with what `lexicon` knows.

pub mod extract;
pub mod features;
pub mod html;
pub mod lexicon;
pub mod links;
pub mod reading;
pub mod training;
pub mod words;
